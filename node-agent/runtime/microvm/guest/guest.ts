import type { Guest, GuestStreams } from '../machine.ts';
import { RuntimeError } from '../../service.ts';
import { ProtocolError } from './channel.ts';
import type { GuestConnection } from './connection.ts';
import {
  attachRequest,
  configureRequest,
  createRequest,
  decodeAttached,
  decodeStats,
  dialRequest,
  execRequest,
  killRequest,
  readFileRequest,
  releaseRequest,
  removeRequest,
  resizeRequest,
  signalRequest,
  startRequest,
  statsRequest,
  updateRequest,
} from './messages.ts';
import { ProcessStreams } from './streams.ts';

/** Setting up a container waits for its disks; ending one waits for its processes. */
const SLOW_REQUEST_TIMEOUT_MS = 60_000;
/** Agreed with guest/agent.h. */
const MAX_FILE_BYTES = 1024 * 1024;
/** A terminal is no wider; the kernel keeps sixteen bits. */
const MAX_TERMINAL_SIZE = 65_535;

const nothing = (): void => {};

/** An answer that a request cannot do without. */
function present<T>(value: T | undefined): T {
  if (value === undefined) throw new ProtocolError('a malformed answer');
  return value;
}

/** What the runtime asks of a guest, over its connection. */
export function connectGuest(connection: GuestConnection): Guest {
  const ask = (body: Buffer, timeoutMs?: number): Promise<void> =>
    connection.request(body, { parse: nothing, ...(timeoutMs ? { timeoutMs } : {}) });

  function streamsOf(streams: ProcessStreams): GuestStreams {
    // The guest may forget a process once the host has all of it; containers stay until removed.
    return {
      output: () => streams.output(),
      acknowledge: () => streams.acknowledge(),
      taken: () => streams.taken,
      write: (bytes) => streams.write(bytes),
      closeStdin: () => streams.closeStdin(),
      resize: ({ width, height }) =>
        ask(
          resizeRequest(
            streams.id,
            Math.min(width, MAX_TERMINAL_SIZE),
            Math.min(height, MAX_TERMINAL_SIZE),
          ),
        ),
      kill: () => ask(killRequest(streams.id)),
      exit: streams.exit,
    };
  }

  /** Starts a process whose id is that of the request, so that no output can come before its place. */
  async function begin(body: Buffer, kind: 'container' | 'passing'): Promise<GuestStreams> {
    const id = connection.newId();
    const streams = new ProcessStreams({ id, send: connection.send });
    connection.addStreams(streams);
    try {
      await connection.request(body, { id, parse: nothing });
    } catch (error) {
      connection.removeStreams(id);
      throw error;
    }
    if (kind === 'passing') forgetWhenDone(streams);
    return streamsOf(streams);
  }

  function forgetWhenDone(streams: ProcessStreams): void {
    const release = async (): Promise<void> => {
      await streams.exit;
      connection.removeStreams(streams.id);
      await ask(releaseRequest(streams.id));
    };
    release().catch(nothing); // the VM is gone, and with it what was to be forgotten
  }

  return {
    configure: (network) => ask(configureRequest(network)),
    createContainer: (container) => ask(createRequest(container), SLOW_REQUEST_TIMEOUT_MS),
    startContainer: (id) => begin(startRequest(id), 'container'),
    reattach: (id) =>
      connection.request(attachRequest(id), {
        parse(data) {
          const { processId, ...position } = present(decodeAttached(data));
          const streams = new ProcessStreams({ id: processId, send: connection.send, ...position });
          connection.addStreams(streams);
          return streamsOf(streams);
        },
      }),
    exec: (container, process) => begin(execRequest(container, process), 'passing'),
    signal: (container, signal, { all }) => ask(signalRequest(container, signal, all)),
    update: (container, limits) => ask(updateRequest(container, limits)),
    removeContainer: (id) => ask(removeRequest(id), SLOW_REQUEST_TIMEOUT_MS),
    stats: (container) =>
      connection.request(statsRequest(container), { parse: (data) => present(decodeStats(data)) }),
    async readFile(container, path, maxBytes) {
      const limit = Math.min(maxBytes, MAX_FILE_BYTES);
      try {
        return await connection.request(readFileRequest(container, path, limit), {
          parse: (data) => new Uint8Array(data),
        });
      } catch (error) {
        const missing = error instanceof RuntimeError && error.message.startsWith('read ');
        if (missing && error.code === 'NotFound') return null;
        throw error;
      }
    },
    dial: (port) => begin(dialRequest(port), 'passing'),
  };
}
