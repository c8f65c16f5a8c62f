import type { GuestProcess, GuestStreams } from '#node-agent/runtime/microvm/machine.ts';
import { type ExecResult, RuntimeError } from '#node-agent/runtime/service.ts';
import { type Found, type Runtime, runningVm } from './pod.ts';

/** What a command may say; more is cut off, as a probe's output would be anyway. */
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

/** Starts a command beside a container's own process, as the same user. */
export function execProcess(
  found: Found,
  command: readonly string[],
  { tty, stdin }: { tty: boolean; stdin: boolean },
): Promise<GuestStreams> {
  const vm = runningVm(found);
  const own: GuestProcess = found.entry.record.process;
  const env =
    tty && !own.env.some((line) => line.startsWith('TERM=')) ? [...own.env, 'TERM=xterm'] : own.env;
  return vm.guest.exec(found.entry.record.id, { ...own, env, argv: [...command], tty, stdin });
}

/** Runs a command to its end. Throws DeadlineExceeded when it outlives the limit; 0 is none. */
export async function execSync(
  runtime: Runtime,
  found: Found,
  command: readonly string[],
  timeoutMs: number,
): Promise<ExecResult> {
  if (command.length === 0) throw new RuntimeError('Unknown', 'exec: the command is empty');
  const streams = await execProcess(found, command, { tty: false, stdin: false });
  const limit = new AbortController();
  const stdout: Uint8Array[] = [];
  const stderr: Uint8Array[] = [];
  const collect = async (): Promise<ExecResult> => {
    let size = 0;
    for await (const { stream, bytes } of streams.output()) {
      if (size < MAX_OUTPUT_BYTES) (stream === 'stdout' ? stdout : stderr).push(bytes);
      size += bytes.length;
      streams.acknowledge();
    }
    const { code } = await streams.exit;
    return { stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr), exitCode: code };
  };
  const collected = collect();
  if (timeoutMs <= 0) return collected;
  try {
    return await Promise.race([
      collected,
      runtime.clock.sleep(timeoutMs, { signal: limit.signal }).then(() => {
        throw new RuntimeError(
          'DeadlineExceeded',
          `command ${JSON.stringify(command)} timed out after ${timeoutMs / 1000} s`,
        );
      }),
    ]);
  } catch (error) {
    collected.catch(() => {}); // told below, or cut off by the kill
    await streams.kill().catch(() => undefined); // it may have ended, or the VM with it
    throw error;
  } finally {
    limit.abort();
  }
}
