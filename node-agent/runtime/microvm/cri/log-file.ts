import { closeSync, fstatSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '#base/clock.ts';

export type OutputStream = 'stdout' | 'stderr';

/** A longer line is written in parts. */
export const MAX_LINE_BYTES = 16 * 1024;
const NEWLINE = 0x0a;

/**
 * A container's log in CRI's format: `<time> <stream> F|P <text>`. Lines are kept back until they end
 * or are too long; no more than one part for each stream is held.
 */
export type LogFile = {
  write(stream: OutputStream, bytes: Uint8Array): void;
  /** Bytes of lines that have not ended yet. */
  held(stream: OutputStream): number;
  /** The file that is written now, and how much it holds; undefined without a path. */
  place(): { inode: bigint; size: number } | undefined;
  /** Writes what is held, as parts. */
  flush(): void;
  /** Goes on in a new file, after the old one was renamed. */
  reopen(): void;
  close(): void;
};

/** Throws when the file cannot be made. Without a path nothing is kept. */
export function openLogFile(
  path: string,
  { clock, onError }: { clock: Clock; onError: (error: unknown) => void },
): LogFile {
  const open = (): number => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    return openSync(path, 'a', 0o640);
  };
  const placeOf = (file: number): { inode: bigint; size: number } => {
    const { ino, size } = fstatSync(file, { bigint: true });
    return { inode: ino, size: Number(size) };
  };
  let fd = path === '' ? undefined : open();
  let place = fd === undefined ? undefined : placeOf(fd);
  const rest: Record<OutputStream, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };

  function put(lines: readonly Uint8Array[]): void {
    if (fd === undefined || lines.length === 0) return;
    const bytes = Buffer.concat(lines);
    try {
      for (let at = 0; at < bytes.length; ) {
        const wrote = writeSync(fd, bytes, at);
        at += wrote;
        if (place) place.size += wrote;
      }
    } catch (error) {
      onError(error); // a full disk must not stop the container: these lines are lost
    }
  }

  function head(stream: OutputStream, tag: 'F' | 'P'): Buffer {
    // As wide as nanoseconds, so that lines sort as text.
    const time = new Date(clock.now()).toISOString().replace('Z', '000000Z');
    return Buffer.from(`${time} ${stream} ${tag} `);
  }

  return {
    write(stream, bytes) {
      let text =
        rest[stream].length > 0 ? Buffer.concat([rest[stream], bytes]) : Buffer.from(bytes);
      const lines: Uint8Array[] = [];
      for (;;) {
        const end = text.indexOf(NEWLINE);
        const isLong = end < 0 ? text.length >= MAX_LINE_BYTES : end > MAX_LINE_BYTES;
        if (!isLong && end < 0) break;
        const length = isLong ? MAX_LINE_BYTES : end;
        lines.push(head(stream, isLong ? 'P' : 'F'), text.subarray(0, length), Buffer.from('\n'));
        text = text.subarray(isLong ? length : length + 1);
      }
      rest[stream] = Buffer.from(text);
      put(lines);
    },
    held: (stream) => rest[stream].length,
    place: () => place && { ...place },
    flush() {
      for (const stream of ['stdout', 'stderr'] as const) {
        if (rest[stream].length === 0) continue;
        put([head(stream, 'P'), rest[stream], Buffer.from('\n')]);
        rest[stream] = Buffer.alloc(0);
      }
    },
    reopen() {
      if (path === '') return;
      const next = open();
      if (fd !== undefined) closeSync(fd);
      fd = next;
      place = placeOf(next);
    },
    close() {
      if (fd !== undefined) closeSync(fd);
      fd = undefined;
    },
  };
}
