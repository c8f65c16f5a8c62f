import { errorText } from '#base/log.ts';
import type { GuestStreams } from '#node-agent/runtime/microvm/machine.ts';
import { execProcess } from './exec.ts';
import { createInbox } from '#base/inbox.ts';
import type { OutputStream } from './log-file.ts';
import { requireContainer, type Runtime, runningVm } from './pod.ts';
import {
  exitStatus,
  failureStatus,
  type RemoteSession,
  type WantedStreams,
} from './remote-session.ts';

/** Output that a slow client of an attach may be behind before it is cut off. */
const ATTACH_BUFFER_BYTES = 4 * 1024 * 1024;

export type ExecRequest = WantedStreams & { kind: 'exec'; id: string; command: string[] };
export type AttachRequest = WantedStreams & { kind: 'attach'; id: string };

/** Runs a command with its streams at the client, and tells the client how it ended. */
export async function runExec(
  runtime: Runtime,
  request: ExecRequest,
  session: RemoteSession,
): Promise<void> {
  let streams: GuestStreams;
  try {
    streams = await execProcess(requireContainer(runtime, request.id), request.command, request);
  } catch (error) {
    const command = JSON.stringify(request.command);
    return session.finish(failureStatus(`cannot execute ${command}: ${errorText(error)}`));
  }
  const onGone = (): void => {
    streams.kill().catch(() => undefined); // it may have ended by itself
  };
  session.gone.addEventListener('abort', onGone, { once: true });
  if (session.gone.aborted) onGone();
  try {
    feed(session, streams, { closes: request.stdin });
    for await (const { stream, bytes } of streams.output()) {
      if (stream === 'stdout' ? request.stdout : request.stderr) await session.write(stream, bytes);
      streams.acknowledge();
    }
    await session.finish(exitStatus((await streams.exit).code));
  } catch (error) {
    await session.finish(failureStatus(`the command broke off: ${errorText(error)}`));
  } finally {
    session.gone.removeEventListener('abort', onGone);
  }
}

/** Joins the client with the streams of a container's own process, until one of them ends. */
export async function runAttach(
  runtime: Runtime,
  request: AttachRequest,
  session: RemoteSession,
): Promise<void> {
  const found = requireContainer(runtime, request.id);
  const { entry } = found;
  const output = entry.output;
  try {
    runningVm(found);
    if (!output) throw new Error(`container ${request.id} has no streams`);
  } catch (error) {
    return session.finish(failureStatus(`cannot attach: ${errorText(error)}`));
  }
  const { config } = entry.record;
  const inbox = createInbox<{ stream: OutputStream; bytes: Uint8Array }>(ATTACH_BUFFER_BYTES);
  let behind = false;
  const unwatch = output.watch({
    write(stream, bytes) {
      if (inbox.offer({ stream, bytes }, bytes.length)) return;
      behind = true;
      inbox.end();
    },
    end: () => inbox.end(),
  });
  const onGone = (): void => inbox.end();
  session.gone.addEventListener('abort', onGone, { once: true });
  if (session.gone.aborted) onGone();
  try {
    if (request.stdin && config.stdin) feed(session, output.streams, { closes: config.stdinOnce });
    for await (const { stream, bytes } of inbox)
      if (stream === 'stdout' ? request.stdout : request.stderr) await session.write(stream, bytes);
    if (session.gone.aborted) return;
    if (behind) return await session.finish(failureStatus('the client does not keep up'));
    await entry.exited.promise;
    await session.finish(exitStatus(entry.record.exitCode));
  } finally {
    unwatch();
    session.gone.removeEventListener('abort', onGone);
  }
}

/** The client's input and terminal sizes, for as long as the process takes them. */
function feed(
  session: RemoteSession,
  streams: GuestStreams,
  { closes }: { closes: boolean },
): void {
  const input = async (): Promise<void> => {
    for await (const bytes of session.stdin) await streams.write(bytes);
    if (closes) await streams.closeStdin();
  };
  const sizes = async (): Promise<void> => {
    for await (const size of session.resize) await streams.resize(size);
  };
  // A process that has ended takes nothing more; its end is told by its exit.
  input().catch(() => undefined);
  sizes().catch(() => undefined);
}
