import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';

/** How much of a container's output its log holds; written beside the log's every growth. */
export type LogPosition = {
  /** Everything of the guest's records up to this number is in the log. */
  record: bigint;
  /** Bytes of each stream beyond that record that are in it, too: whole lines. */
  stdout: number;
  stderr: number;
  /** The log file, and its size with all that. */
  inode: bigint;
  size: number;
};

/** Five numbers of 64 bits: written in one call, a kill leaves the old or the new ones. */
const BYTES = 40;

export type PositionFile = { save(position: LogPosition): void; close(): void };

export function openPosition(path: string): PositionFile {
  const fd = openSync(path, 'a+', 0o600);
  closeSync(fd);
  const file = openSync(path, 'r+');
  const bytes = Buffer.alloc(BYTES);
  return {
    save({ record, stdout, stderr, inode, size }) {
      const words = [record, BigInt(stdout), BigInt(stderr), inode, BigInt(size)];
      for (const [index, word] of words.entries()) bytes.writeBigUInt64LE(word, index * 8);
      writeSync(file, bytes, 0, BYTES, 0);
    },
    close: () => closeSync(file),
  };
}

/** What an earlier life of the runtime left; undefined where there is none. */
export function readPosition(path: string): LogPosition | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return undefined; // the container was never followed
  }
  if (bytes.length < BYTES) return undefined;
  const [record = 0n, stdout = 0n, stderr = 0n, inode = 0n, size = 0n] = Array.from(
    { length: BYTES / 8 },
    (_, index) => bytes.readBigUInt64LE(index * 8),
  );
  return { record, stdout: Number(stdout), stderr: Number(stderr), inode, size: Number(size) };
}

/**
 * Takes off what the log got after its position was saved: the guest sends it again. A log that was
 * renamed meanwhile is complete.
 */
export function cutTo(position: LogPosition, logPath: string): void {
  let fd: number;
  try {
    fd = openSync(logPath, 'r+');
  } catch {
    return; // renamed, and not made anew yet
  }
  try {
    const { ino, size } = fstatSync(fd, { bigint: true });
    if (ino === position.inode && size > BigInt(position.size)) ftruncateSync(fd, position.size);
  } finally {
    closeSync(fd);
  }
}
