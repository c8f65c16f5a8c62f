import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { unmountBelow } from '#node-agent/runtime/containerd-processes.ts';
import { RuntimeError } from '#node-agent/runtime/service.ts';
import type { HostKind, MountPlan } from './mount-plan.ts';

const run = promisify(execFile);
const TIMEOUT_MS = 10_000;

export function hostKind(path: string): HostKind {
  const found = statSync(path, { throwIfNoEntry: false });
  if (!found) return 'missing';
  if (found.isDirectory()) return 'directory';
  if (found.isFile()) return 'file';
  if (found.isBlockDevice()) return 'block';
  return found.isSocket() ? 'socket' : 'other';
}

/** Binds what the plan says below the folder that the guest sees, all in one run of a shell. */
export async function bindAll(shareDir: string, plan: MountPlan): Promise<void> {
  for (const dir of plan.create) mkdirSync(dir, { recursive: true, mode: 0o755 });
  const args: string[] = [];
  for (const { hostPath, share, kind, readonly } of plan.binds) {
    const target = join(shareDir, share);
    mkdirSync(dirname(target), { recursive: true, mode: 0o711 });
    if (kind === 'directory') mkdirSync(target, { recursive: true });
    else writeFileSync(target, '', { flag: 'a' });
    args.push(readonly ? 'ro' : 'rw', hostPath, target);
  }
  if (args.length === 0) return;
  try {
    await run('sh', ['-c', BIND, 'sh', ...args], { timeout: TIMEOUT_MS });
  } catch (cause) {
    const words = (cause as { stderr?: string }).stderr?.trim() || String(cause);
    throw new RuntimeError('Unknown', `cannot mount a volume: ${words}`, { cause });
  }
}

/** Mode, source, target; repeated. Read-only needs a second step: a bind takes no flags. */
const BIND = `set -e
while [ $# -gt 0 ]; do
  mount --rbind "$2" "$3"
  if [ "$1" = ro ]; then mount -o remount,bind,ro "$3"; fi
  shift 3
done`;

/** Undoes the binds of one container and removes the places they were on. */
export async function unbind(dir: string): Promise<void> {
  await unmountBelow([dir]);
  rmSync(dir, { recursive: true, force: true });
}
