import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText, type Log } from '#base/log.ts';

export type Accelerator = { kind: 'KVM' | 'TCG'; reason: string };

/** A guest under working KVM answers in 0.4 s; one that only seems to have it takes minutes. */
export const PROBE_TIMEOUT_MS = 4_000;

export type ProbeOptions = {
  cacheDir: string;
  /** What the answer holds for: this boot, this kernel, this QEMU. */
  key: string;
  /** Starts the real guest kernel under KVM; resolves when its agent answered. */
  boot: (options: { signal: AbortSignal }) => Promise<void>;
  log: Log;
  hasKvm?: boolean;
};

/**
 * KVM when a guest really runs under it, otherwise emulation and why. A machine may offer /dev/kvm,
 * answer every question about it well, and still not run a guest at a usable speed.
 */
export async function chooseAccelerator(options: ProbeOptions): Promise<Accelerator> {
  const { hasKvm = existsSync('/dev/kvm') } = options;
  if (!hasKvm) return { kind: 'TCG', reason: 'this machine has no /dev/kvm' };
  const file = join(options.cacheDir, 'accelerator.json');
  const known = readAnswer(file, options.key);
  if (known) return known;
  const answer = await probe(options);
  writeFileSync(file, JSON.stringify({ key: options.key, answer }));
  return answer;
}

async function probe({ boot, log }: ProbeOptions): Promise<Accelerator> {
  try {
    await boot({ signal: AbortSignal.timeout(PROBE_TIMEOUT_MS) });
    return { kind: 'KVM', reason: 'a guest started under KVM' };
  } catch (error) {
    const seconds = PROBE_TIMEOUT_MS / 1000;
    const late = error instanceof Error && error.name === 'TimeoutError';
    const why = late ? `no answer within ${seconds} s` : errorText(error);
    const reason = `/dev/kvm is there, but a guest does not start under it: ${why}`;
    log.warn('microVMs are emulated, which is several times slower', { reason });
    return { kind: 'TCG', reason };
  }
}

function readAnswer(file: string, key: string): Accelerator | undefined {
  try {
    const stored = JSON.parse(readFileSync(file, 'utf8')) as { key: string; answer: Accelerator };
    return stored.key === key ? stored.answer : undefined;
  } catch {
    return undefined; // not asked yet, or cut off in writing
  }
}
