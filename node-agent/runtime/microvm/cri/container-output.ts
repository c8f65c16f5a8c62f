import { errorText, type Log } from '#base/log.ts';
import type { GuestStreams } from '#node-agent/runtime/microvm/machine.ts';
import type { LogFile, OutputStream } from './log-file.ts';
import type { LogPosition, PositionFile } from './log-position.ts';

/** Where output goes, and how far it had got when an earlier life of the runtime ended. */
export type OutputFiles = {
  file: LogFile;
  position: PositionFile;
  earlier?: LogPosition | undefined;
};

/** Somebody who watches a container's output; what it cannot take in time, it loses. */
export type OutputWatcher = {
  write(stream: OutputStream, bytes: Uint8Array): void;
  end(): void;
};

/** Output that may be unacknowledged while a line has not ended; beyond, the line is cut. */
const MAX_UNACKNOWLEDGED_BYTES = 64 * 1024;
const STREAMS = ['stdout', 'stderr'] as const;

/** One container's streams: into its log file, to those attached, and acknowledged after it. */
export class ContainerOutput {
  readonly streams: GuestStreams;
  /** Settles when everything the container wrote is in its log. */
  readonly done: Promise<void>;
  readonly #file: LogFile;
  readonly #position: PositionFile;
  readonly #watchers = new Set<OutputWatcher>();
  /** Everything up to here is in the log, and what was given since, but for lines that are held. */
  #record: bigint;
  #since: Record<OutputStream, number>;
  /** What an earlier life has logged of what comes again. */
  #again: Record<OutputStream, number>;

  /**
   * After `signal` nothing is written or acknowledged: the next life of the runtime gets it, and
   * `earlier` says what of it is in the log already.
   */
  constructor(
    streams: GuestStreams,
    { file, position, earlier }: OutputFiles,
    { log, signal }: { log: Log; signal: AbortSignal },
  ) {
    this.streams = streams;
    this.#file = file;
    this.#position = position;
    this.#record = earlier?.record ?? streams.taken();
    this.#since = { stdout: 0, stderr: 0 };
    this.#again = { stdout: earlier?.stdout ?? 0, stderr: earlier?.stderr ?? 0 };
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
        if (this.streams.taken() <= this.#record) continue; // its acknowledgement was lost
        this.#take(stream, bytes);
        unacknowledged += bytes.length;
        if (unacknowledged > MAX_UNACKNOWLEDGED_BYTES) this.#file.flush();
        // What is held of a line would be lost with this process: the guest keeps it meanwhile.
        if (STREAMS.some((one) => this.#file.held(one) > 0)) {
          this.#save();
          continue;
        }
        this.#acknowledge();
        unacknowledged = 0;
      }
    } finally {
      if (!signal.aborted) {
        this.#file.flush();
        this.#acknowledge();
      }
      this.#file.close();
      this.#position.close();
      for (const watcher of this.#watchers) watcher.end();
      this.#watchers.clear();
    }
  }

  #take(stream: OutputStream, bytes: Uint8Array): void {
    const known = Math.min(this.#again[stream], bytes.length);
    this.#again[stream] -= known;
    this.#since[stream] += bytes.length;
    if (known === bytes.length) return;
    const fresh = bytes.subarray(known);
    this.#file.write(stream, fresh);
    for (const watcher of this.#watchers) watcher.write(stream, fresh);
  }

  #acknowledge(): void {
    const taken = this.streams.taken();
    if (taken > this.#record) this.#record = taken;
    this.#since = { stdout: 0, stderr: 0 };
    this.#save();
    this.streams.acknowledge();
  }

  /** Of lines that come again nothing is held, so what is known of them counts as logged. */
  #save(): void {
    const logged = (stream: OutputStream): number =>
      this.#since[stream] - this.#file.held(stream) + this.#again[stream];
    const { inode = 0n, size = 0 } = this.#file.place() ?? {};
    this.#position.save({
      record: this.#record,
      stdout: logged('stdout'),
      stderr: logged('stderr'),
      inode,
      size,
    });
  }

  reopenLog(): void {
    this.#file.reopen();
    this.#save();
  }

  /** Returns what ends the watching. */
  watch(watcher: OutputWatcher): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }
}
