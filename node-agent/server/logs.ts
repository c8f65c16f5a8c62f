import { watch } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Source: API documentation of PodLogOptions. */
export type LogOptions = {
  follow: boolean;
  timestamps: boolean;
  /** Only lines at or after this time, milliseconds since the epoch. */
  sinceMs?: number;
  tailLines?: number;
  limitBytes?: number;
  stream?: 'Stdout' | 'Stderr';
};

export type LogReader = {
  path: string;
  options: LogOptions;
  /** False once the container has ended: following ends when all is read. */
  isRunning: () => boolean;
  /** Takes text; resolves when more can be taken. */
  write: (chunk: Buffer) => Promise<void>;
  signal: AbortSignal;
};

const CHUNK_BYTES = 64 * 1024;
/** A change the file watch missed is found after this. */
const LOOK_MS = 1_000;

/** Reads a log in the CRI's format: `<RFC 3339 time> stdout|stderr P|F <text>`. */
export async function readLog(reader: LogReader): Promise<void> {
  const { path, options, signal } = reader;
  const printer = new LinePrinter(options);
  let file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    let offset =
      options.tailLines === undefined ? 0 : await tailOffset(file, options.tailLines, size);
    if (!options.follow) {
      // What is written from now on is not asked for: the last lines would be more than asked.
      await readOn(file, { from: offset, to: size }, printer, reader);
      return;
    }
    for (;;) {
      // Asked before reading: what was written before the end is then surely read.
      const running = reader.isRunning();
      offset = await readOn(file, { from: offset }, printer, reader);
      if (printer.full || signal.aborted) return;
      const next = await replaced(file, path);
      if (next) {
        await readOn(file, { from: offset }, printer, reader);
        await file.close();
        file = next;
        offset = 0;
        continue;
      }
      if (!running) return;
      await changed(path, signal);
      if (signal.aborted) return;
    }
  } finally {
    await file.close();
  }
}

/** Prints whole lines from `from` on, as far as `to`; returns where it stopped. */
async function readOn(
  file: FileHandle,
  { from, to = Number.POSITIVE_INFINITY }: { from: number; to?: number },
  printer: LinePrinter,
  { write, signal }: LogReader,
): Promise<number> {
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let rest = Buffer.alloc(0);
  let position = from;
  for (;;) {
    if (signal.aborted || printer.full) return position;
    const at = position + rest.length;
    const { bytesRead } = await file.read(buffer, 0, Math.min(CHUNK_BYTES, to - at), at);
    if (bytesRead === 0) return position;
    const data = Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    const end = data.lastIndexOf(0x0a) + 1;
    const text = printer.print(data.subarray(0, end));
    if (text.length > 0) await write(text);
    rest = data.subarray(end);
    position += end;
  }
}

class LinePrinter {
  readonly #options: LogOptions;
  #left: number;
  #inLine = false;

  constructor(options: LogOptions) {
    this.#options = options;
    this.#left = options.limitBytes ?? Number.POSITIVE_INFINITY;
  }

  /** The limit is reached. */
  get full(): boolean {
    return this.#left <= 0;
  }

  print(data: Buffer): Buffer {
    const parts: Buffer[] = [];
    for (let at = 0; at < data.length && !this.full; ) {
      const end = data.indexOf(0x0a, at);
      const line = this.#line(data.subarray(at, end));
      at = end + 1;
      if (!line) continue;
      const part = line.length > this.#left ? line.subarray(0, this.#left) : line;
      this.#left -= part.length;
      parts.push(part);
    }
    return Buffer.concat(parts);
  }

  #line(line: Buffer): Buffer | undefined {
    const { timestamps, sinceMs, stream } = this.#options;
    const first = line.indexOf(0x20);
    const second = line.indexOf(0x20, first + 1);
    if (first < 0 || second < 0) return undefined;
    const third = line.indexOf(0x20, second + 1);
    const time = line.toString('latin1', 0, first);
    const from = line.toString('latin1', first + 1, second);
    if (stream && from !== stream.toLowerCase()) return undefined;
    if (sinceMs !== undefined && Date.parse(time) < sinceMs) return undefined;
    const tagEnd = third < 0 ? line.length : third;
    const partial = line.toString('latin1', second + 1, tagEnd).split(':')[0] === 'P';
    const text = third < 0 ? Buffer.alloc(0) : line.subarray(third + 1);
    const prefix = timestamps && !this.#inLine ? `${time} ` : '';
    this.#inLine = partial;
    return Buffer.concat([Buffer.from(prefix), text, Buffer.from(partial ? '' : '\n')]);
  }
}

/** Where the last `lines` lines of the first `size` bytes begin. */
async function tailOffset(file: FileHandle, lines: number, size: number): Promise<number> {
  if (lines === 0) return size;
  const buffer = Buffer.alloc(CHUNK_BYTES);
  let found = 0;
  // The newline that ends the last line does not begin another one.
  let end = size;
  for (let first = true; end > 0; first = false) {
    const begin = Math.max(0, end - CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, end - begin, begin);
    for (let i = bytesRead - (first ? 2 : 1); i >= 0; i--) {
      if (buffer[i] === 0x0a && ++found === lines) return begin + i + 1;
    }
    end = begin;
  }
  return 0;
}

/** The new file, when the log was rotated away under the open one. */
async function replaced(file: FileHandle, path: string): Promise<FileHandle | undefined> {
  const now = await stat(path).catch(() => undefined);
  if (!now || now.ino === (await file.stat()).ino) return undefined;
  return open(path, 'r').catch(() => undefined);
}

/** Resolves at the next sign of a change, at the latest after a while. */
function changed(path: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      watcher?.close();
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, LOOK_MS);
    signal.addEventListener('abort', done, { once: true });
    let watcher: ReturnType<typeof watch> | undefined;
    try {
      watcher = watch(dirname(path), done);
      watcher.on('error', done);
    } catch {
      // No watches left on this machine: the timer does it alone.
    }
  });
}
