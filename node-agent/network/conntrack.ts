import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { errorText, type Log } from '#base/log.ts';
import type { Ruleset } from './ruleset.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 10_000;
/** conntrack's exit code when nothing matched. */
const NOTHING_FOUND = 1;

/** Remembered translations to forget: to one target, or (target '') those without translation. */
export type StaleFlow = {
  /** The address that was asked; '' for any of the node's own (a node port). */
  address: string;
  port: number;
  target: string;
};

/**
 * UDP has no connections: the kernel goes on sending a client's datagrams where the first one
 * went, even after that pod is gone, or to nobody although there is one now. These entries must go.
 */
export function staleFlows(from: Ruleset, to: Ruleset): StaleFlow[] {
  const stale: StaleFlow[] = [];
  for (const [entry, targets] of from.datagrams) {
    const now = new Set(to.datagrams.get(entry) ?? []);
    for (const target of targets)
      if (!now.has(target)) stale.push({ ...parseEntry(entry), target });
  }
  for (const [entry, targets] of to.datagrams) {
    const before = from.datagrams.get(entry) ?? [];
    if (before.length === 0 && targets.length > 0) stale.push({ ...parseEntry(entry), target: '' });
  }
  return stale;
}

/** `address port`, as `Ruleset.datagrams` is keyed. */
function parseEntry(entry: string): { address: string; port: number } {
  const [address = '', port = ''] = entry.split(' ');
  return { address, port: Number(port) };
}

/** Arguments of conntrack(8) that delete a stale flow. */
export function deleteArguments({ address, port, target }: StaleFlow): string[] {
  const isSix = address.includes(':') || target.includes(':');
  return [
    '--delete',
    ...(isSix ? ['--family=ipv6'] : []),
    '--proto=udp',
    `--orig-port-dst=${port}`,
    ...(address === '' ? [] : [`--orig-dst=${address}`]),
    ...(target === '' ? [] : [`--dst-nat=${target}`]),
  ];
}

/**
 * Deletes them with conntrack(8), `command` being the program and its first arguments. On a machine
 * without that tool, clients have to wait until the kernel forgets by itself.
 */
export async function forgetFlows(
  flows: readonly StaleFlow[],
  log: Log,
  command: readonly string[] = ['conntrack'],
): Promise<void> {
  const [program = 'conntrack', ...first] = command;
  for (const flow of flows) {
    try {
      await run(program, [...first, ...deleteArguments(flow)], { timeout: TIMEOUT_MS });
    } catch (error) {
      const { code } = error as { code?: number | string };
      if (code === NOTHING_FOUND) continue;
      if (code === 'ENOENT')
        return log.debug('UDP clients may keep an old endpoint for a while', {
          fix: "'apt-get install conntrack'",
        });
      log.warn('cannot forget a UDP flow', { ...flow, error: errorText(error) });
    }
  }
}
