import { createReadStream } from 'node:fs';

/** One member of a layer. Paths are relative to the image's root, without a leading slash. */
export type TarEntry = {
  path: string;
  /** Permission bits; default 0o755 for directories and 0o644 for files. */
  mode?: number;
  uid?: number;
  gid?: number;
  /** Extended attributes by full name (`security.capability`), raw bytes. */
  xattrs?: Readonly<Record<string, Uint8Array>>;
} & (
  | { type: 'directory' }
  | { type: 'char' | 'block'; major: number; minor: number }
  | { type: 'fifo' }
  /** Another name of a member before it. */
  | { type: 'hardlink'; target: string }
  | { type: 'symlink'; target: string }
  | { type: 'file'; content: Uint8Array }
  /** Read when written; `sizeBytes` must be its size then. */
  | { type: 'copy'; source: string; sizeBytes: number }
);

const BLOCK = 512;
/** Largest size that the header's octal field holds: 8 GiB less one. */
const MAX_SIZE = 0o77777777777;

/**
 * A tar archive as a stream: the same entries always give the same bytes (members sorted by path,
 * no times, no user names). Missing parent directories are added. A long path gets a pax header.
 * Source: POSIX pax interchange format.
 */
export async function* tarStream(entries: readonly TarEntry[]): AsyncGenerator<Uint8Array> {
  for (const entry of withParents(entries)) {
    yield* headersOf(entry);
    if (entry.type === 'file') yield* padded(entry.content);
    if (entry.type === 'copy') yield* copied(entry.source, entry.sizeBytes);
  }
  yield new Uint8Array(2 * BLOCK);
}

/** Sorted by path, each directory before what it holds. The last of two same paths wins. */
function withParents(entries: readonly TarEntry[]): TarEntry[] {
  const byPath = new Map<string, TarEntry>();
  for (const entry of entries) {
    const parts = entry.path.split('/');
    for (let depth = 1; depth < parts.length; depth++) {
      const path = parts.slice(0, depth).join('/');
      if (!byPath.has(path)) byPath.set(path, { path, type: 'directory' });
    }
    byPath.set(entry.path, entry);
  }
  return [...byPath.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function* headersOf(entry: TarEntry): Generator<Uint8Array> {
  const name = entry.type === 'directory' ? `${entry.path}/` : entry.path;
  const target = entry.type === 'symlink' || entry.type === 'hardlink' ? entry.target : '';
  const records: Uint8Array[] = [];
  if (Buffer.byteLength(name) > 100) records.push(paxRecord('path', name));
  if (Buffer.byteLength(target) > 100) records.push(paxRecord('linkpath', target));
  for (const [key, value] of Object.entries(entry.xattrs ?? {}))
    records.push(paxRecord(`SCHILY.xattr.${key}`, value));
  if (records.length > 0) {
    const content = Buffer.concat(records);
    yield header({ name: 'pax', type: 'x', mode: 0o644, size: content.length });
    yield* padded(content);
  }
  const { mode = entry.type === 'directory' ? 0o755 : 0o644, uid = 0, gid = 0 } = entry;
  const typeFlag = TYPE_FLAGS[entry.type];
  const linkMode = entry.type === 'symlink' ? 0o777 : mode;
  const size = sizeOf(entry);
  const device = 'major' in entry ? { major: entry.major, minor: entry.minor } : {};
  yield header({ name, type: typeFlag, mode: linkMode, uid, gid, size, target, ...device });
}

const TYPE_FLAGS: Record<TarEntry['type'], string> = {
  file: '0',
  copy: '0',
  hardlink: '1',
  symlink: '2',
  char: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

function sizeOf(entry: TarEntry): number {
  if (entry.type === 'file') return entry.content.length;
  return entry.type === 'copy' ? entry.sizeBytes : 0;
}

/** A pax record carries its own length, digits included. */
function paxRecord(key: string, value: string | Uint8Array): Uint8Array {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from('\n')]);
  let length = rest.length;
  while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
  return Buffer.concat([Buffer.from(`${length}`), rest]);
}

type Header = {
  name: string;
  type: string;
  mode: number;
  uid?: number;
  gid?: number;
  size: number;
  target?: string;
  major?: number;
  minor?: number;
};

function header(member: Header): Uint8Array {
  const { name, type, mode, uid = 0, gid = 0, size, target = '', major = 0, minor = 0 } = member;
  if (size > MAX_SIZE) throw new Error(`${name}: too large for a layer (${size} bytes)`);
  const block = Buffer.alloc(BLOCK);
  const put = (text: string, offset: number, length: number): void => {
    block.write(text, offset, length, 'utf8');
  };
  put(name, 0, 100);
  put(octal(mode, 7), 100, 8);
  put(octal(uid, 7), 108, 8);
  put(octal(gid, 7), 116, 8);
  put(octal(size, 11), 124, 12);
  put(octal(0, 11), 136, 12);
  put(' '.repeat(8), 148, 8);
  put(type, 156, 1);
  put(target, 157, 100);
  put('ustar\x0000', 257, 8);
  put(octal(major, 7), 329, 8);
  put(octal(minor, 7), 337, 8);
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(`${octal(sum, 6)}\0 `, 148, 8);
  return block;
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0');
}

function* padded(content: Uint8Array): Generator<Uint8Array> {
  yield content;
  if (content.length % BLOCK !== 0) yield new Uint8Array(BLOCK - (content.length % BLOCK));
}

async function* copied(source: string, sizeBytes: number): AsyncGenerator<Uint8Array> {
  let read = 0;
  for await (const chunk of createReadStream(source, { highWaterMark: 1 << 20 })) {
    const bytes = chunk as Uint8Array;
    read += bytes.length;
    yield bytes;
  }
  if (read !== sizeBytes)
    throw new Error(`${source} changed while it was read: ${read} bytes, not ${sizeBytes}`);
  if (read % BLOCK !== 0) yield new Uint8Array(BLOCK - (read % BLOCK));
}
