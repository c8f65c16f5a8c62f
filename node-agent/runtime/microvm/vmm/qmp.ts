import type { Socket } from 'node:net';

/** An answer with all block nodes of a VM is some 100 KB; QEMU is not trusted with more. */
const MAX_LINE_BYTES = 4 * 1024 * 1024;
const COMMAND_TIMEOUT_MS = 30_000;

export type QmpEvent = { event: string; data: Record<string, unknown> };

/** QEMU's machine protocol on one socket. Source: QEMU's docs/interop/qmp-spec.txt. */
export type Qmp = {
  /** Fails with QEMU's own words, or when it is gone. */
  execute(command: string, args?: Record<string, unknown>): Promise<unknown>;
  /** The next event for which `wanted` holds. Fails when QEMU is gone or `signal` aborts. */
  event(wanted: (event: QmpEvent) => boolean, options: { signal: AbortSignal }): Promise<QmpEvent>;
  /** Resolves when the connection has ended, which it does with QEMU. */
  readonly closed: Promise<void>;
  close(): void;
};

type Waiting = { resolve: (value: unknown) => void; reject: (error: Error) => void };
type Listener = { wanted: (event: QmpEvent) => boolean; take: (event: QmpEvent) => void };

/** Speaks QMP on a connected socket; resolves when QEMU takes commands. */
export async function openQmp(socket: Socket): Promise<Qmp> {
  const pending = new Map<number, Waiting>();
  const listeners = new Set<Listener>();
  const closed = Promise.withResolvers<void>();
  const gone = Promise.withResolvers<never>();
  gone.promise.catch(() => {});
  let nextId = 1;
  let rest = '';

  function take(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      return void socket.destroy();
    }
    if (typeof message !== 'object' || message === null) return;
    if ('event' in message && typeof message.event === 'string') {
      const data = 'data' in message ? (message.data as Record<string, unknown>) : {};
      const event = { event: message.event, data };
      for (const listener of listeners) if (listener.wanted(event)) listener.take(event);
    } else if ('id' in message && typeof message.id === 'number') {
      const waiting = pending.get(message.id);
      if ('error' in message) waiting?.reject(qmpError(message.error));
      else if ('return' in message) waiting?.resolve(message.return);
    }
  }

  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE_BYTES) socket.destroy();
    for (const line of lines) if (line.trim() !== '') take(line);
  });
  socket.on('error', () => {}); // `close` follows
  socket.once('close', () => {
    gone.reject(new Error('QEMU is gone'));
    closed.resolve();
  });

  const qmp: Qmp = {
    async execute(command, args) {
      const id = nextId++;
      const answer = Promise.withResolvers<unknown>();
      const timer = setTimeout(
        () => answer.reject(new Error(`no answer within ${COMMAND_TIMEOUT_MS / 1000} s`)),
        COMMAND_TIMEOUT_MS,
      );
      pending.set(id, answer);
      socket.write(
        `${JSON.stringify({ execute: command, id, ...(args && { arguments: args }) })}\n`,
      );
      try {
        return await Promise.race([answer.promise, gone.promise]);
      } catch (cause) {
        const why = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`QEMU, ${command}: ${why}`, { cause });
      } finally {
        clearTimeout(timer);
        pending.delete(id);
      }
    },
    async event(wanted, { signal }) {
      const found = Promise.withResolvers<QmpEvent>();
      const listener = { wanted, take: found.resolve };
      const onAbort = (): void => found.reject(signal.reason);
      listeners.add(listener);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
      try {
        return await Promise.race([found.promise, gone.promise]);
      } finally {
        listeners.delete(listener);
        signal.removeEventListener('abort', onAbort);
      }
    },
    closed: closed.promise,
    close: () => void socket.destroy(),
  };
  await qmp.execute('qmp_capabilities');
  return qmp;
}

function qmpError(error: unknown): Error {
  const known = typeof error === 'object' && error !== null && 'desc' in error;
  return new Error(known ? String(error.desc) : JSON.stringify(error));
}
