import { errorText, type Log } from '#base/log.ts';
import type { GuestStreams } from '#node-agent/runtime/microvm/machine.ts';
import type { LogFile, OutputStream } from './log-file.ts';

/** Somebody who watches a container's output; what it cannot take in time, it loses. */
export type OutputWatcher = {
  write(stream: OutputStream, bytes: Uint8Array): void;
  end(): void;
};

/** Output that may be unacknowledged while a line has not ended; beyond, the line is cut. */
const MAX_UNACKNOWLEDGED_BYTES = 64 * 1024;

/** One container's streams: into its log file, to those attached, and acknowledged after it. */
export class ContainerOutput {
  readonly streams: GuestStreams;
  /** Settles when everything the container wrote is in its log. */
  readonly done: Promise<void>;
  readonly #file: LogFile;
  readonly #watchers = new Set<OutputWatcher>();

  /** After `signal` nothing is written or acknowledged: the next life of the runtime gets it. */
  constructor(
    streams: GuestStreams,
    file: LogFile,
    { log, signal }: { log: Log; signal: AbortSignal },
  ) {
    this.streams = streams;
    this.#file = file;
    this.done = this.#pump(signal).catch((error: unknown) =>
      // The VM is gone, which its own end reports.
      log.debug('a container stream broke off', { error: errorText(error) }),
    );
  }

  async #pump(signal: AbortSignal): Promise<void> {
    let unacknowledged = 0;
    try {
      for await (const { stream, bytes } of this.streams.output()) {
        if (signal.aborted) return;
        this.#file.write(stream, bytes);
        for (const watcher of this.#watchers) watcher.write(stream, bytes);
        unacknowledged += bytes.length;
        if (unacknowledged > MAX_UNACKNOWLEDGED_BYTES) this.#file.flush();
        // What is held of a line would be lost with this process: the guest keeps it meanwhile.
        if (this.#file.held() > 0) continue;
        this.streams.acknowledge();
        unacknowledged = 0;
      }
    } finally {
      if (!signal.aborted) {
        this.#file.flush();
        this.streams.acknowledge();
      }
      this.#file.close();
      for (const watcher of this.#watchers) watcher.end();
      this.#watchers.clear();
    }
  }

  reopenLog(): void {
    this.#file.reopen();
  }

  /** Returns what ends the watching. */
  watch(watcher: OutputWatcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }
}
