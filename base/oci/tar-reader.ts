import { Buffer } from 'node:buffer';

/** One member of an archive as it stands there; nothing in it is trusted. */
export type TarMember = {
  /** As written, perhaps with a leading `./` or `/` or with `..` in it: the reader's to judge. */
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo';
  mode: number;
  uid: number;
  gid: number;
  mtimeSeconds: number;
  size: number;
  linkTarget: string;
  device: { major: number; minor: number };
  /** Extended attributes by full name (`security.capability`), raw bytes. */
  xattrs: Record<string, Uint8Array>;
};

export type TarItem = TarMember & {
  /** The content, to be read to its end before the next item is asked for; skipped otherwise. */
  content: AsyncIterable<Uint8Array>;
};

const BLOCK = 512;
/** A pax header or a long name is small; more is an attack on memory. */
const MAX_HEADER_BYTES = 1024 * 1024;
const XATTR = 'SCHILY.xattr.';

/**
 * Reads a tar archive (ustar, pax, GNU long names). Throws an Error that names what is wrong with
 * an archive that is damaged, cut off, or uses sparse files.
 * Source: POSIX pax interchange format; GNU tar manual, "Basic Tar Format".
 */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarItem> {
  const input = new ByteReader(source);
  let global: Pax = new Map();
  let own: Pax = new Map();
  let longName: string | undefined;
  let longLink: string | undefined;
  for (;;) {
    const block = await input.take(BLOCK);
    if (!block) return; // archives without the two closing blocks are common
    if (block.every((byte) => byte === 0)) return;
    const head = parseHeader(block);
    if ('xgLK'.includes(head.flag)) {
      if (head.size > MAX_HEADER_BYTES) throw new Error('tar: an extended header is too large');
      const content = await input.exactly(head.size);
      await input.exactly(padding(head.size));
      if (head.flag === 'g') global = new Map([...global, ...parsePax(content)]);
      else if (head.flag === 'x') own = parsePax(content);
      else if (head.flag === 'L') longName = cString(content);
      else longLink = cString(content);
      continue;
    }
    const member = toMember(head, new Map([...global, ...own]), { longName, longLink });
    own = new Map();
    longName = longLink = undefined;
    const rest = { left: member.type === 'file' ? member.size : 0 };
    const skip = member.type === 'file' ? padding(member.size) : 0;
    yield { ...member, content: contentOf(input, rest) };
    await input.skip(rest.left + skip);
  }
}

async function* contentOf(
  input: ByteReader,
  rest: { left: number },
): AsyncGenerator<Uint8Array, void> {
  while (rest.left > 0) {
    const chunk = await input.some(rest.left);
    if (!chunk) throw new Error('tar: the archive ends in the middle of a file');
    rest.left -= chunk.length;
    yield chunk;
  }
}

type Header = {
  flag: string;
  name: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  link: string;
  major: number;
  minor: number;
};

function parseHeader(block: Buffer): Header {
  const sum = block.reduce(
    (total, byte, index) => total + (index >= 148 && index < 156 ? 32 : byte),
    0,
  );
  if (sum !== number(block, 148, 8)) throw new Error('tar: a header has a wrong checksum');
  const prefix = block.toString('latin1', 257, 262) === 'ustar' ? text(block, 345, 155) : '';
  const isGnu = block.toString('latin1', 257, 265) === 'ustar  \0';
  const name = text(block, 0, 100);
  return {
    flag: String.fromCharCode(block[156] ?? 0),
    name: prefix && !isGnu ? `${prefix}/${name}` : name,
    mode: number(block, 100, 8),
    uid: number(block, 108, 8),
    gid: number(block, 116, 8),
    size: number(block, 124, 12),
    mtime: number(block, 136, 12),
    link: text(block, 157, 100),
    major: number(block, 329, 8),
    minor: number(block, 337, 8),
  };
}

const TYPES: Record<string, TarMember['type']> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

function toMember(
  head: Header,
  pax: Pax,
  long: { longName: string | undefined; longLink: string | undefined },
): TarMember {
  const get = (key: string): string | undefined => pax.get(key)?.toString();
  if (head.flag === 'S' || get('GNU.sparse.major') || get('GNU.sparse.map'))
    throw new Error('tar: sparse files are not supported in image layers');
  const path = get('path') ?? long.longName ?? head.name;
  const known = TYPES[head.flag];
  if (!known) throw new Error(`tar: member "${path}" has the unknown type "${head.flag}"`);
  const xattrs: Record<string, Uint8Array> = {};
  for (const [key, value] of pax)
    if (key.startsWith(XATTR)) xattrs[key.slice(XATTR.length)] = value;
  const size = Number(get('size') ?? head.size);
  if (!Number.isSafeInteger(size) || size < 0) throw new Error(`tar: "${path}" has no sane size`);
  return {
    path,
    // Archives from before POSIX mark directories by the slash alone.
    type: known === 'file' && path.endsWith('/') ? 'directory' : known,
    mode: head.mode & 0o7777,
    uid: Number(get('uid') ?? head.uid),
    gid: Number(get('gid') ?? head.gid),
    mtimeSeconds: Number(get('mtime') ?? head.mtime),
    size,
    linkTarget: get('linkpath') ?? long.longLink ?? head.link,
    device: { major: head.major, minor: head.minor },
    xattrs,
  };
}

type Pax = Map<string, Buffer>;

function parsePax(content: Buffer): Pax {
  const records: Pax = new Map();
  for (let at = 0; at < content.length; ) {
    const space = content.indexOf(0x20, at);
    const length = Number(content.toString('latin1', at, space));
    if (space < 0 || !Number.isInteger(length) || length < 5 || at + length > content.length)
      throw new Error('tar: a pax header is damaged');
    const equals = content.indexOf(0x3d, space);
    if (equals < 0 || equals >= at + length) throw new Error('tar: a pax header is damaged');
    const key = content.toString('utf8', space + 1, equals);
    records.set(key, Buffer.from(content.subarray(equals + 1, at + length - 1)));
    at += length;
  }
  return records;
}

const padding = (size: number): number => (BLOCK - (size % BLOCK)) % BLOCK;

function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

const text = (block: Buffer, offset: number, length: number): string =>
  cString(block.subarray(offset, offset + length));

/** Octal digits, or a base-256 number when the first bit is set (GNU). */
function number(block: Buffer, offset: number, length: number): number {
  const field = block.subarray(offset, offset + length);
  if (((field[0] ?? 0) & 0x80) !== 0) {
    let value = (field[0] ?? 0) & 0x7f;
    for (const byte of field.subarray(1)) value = value * 256 + byte;
    return value;
  }
  const digits = field.toString('latin1').replace(/[\0 ].*$/, (rest) => rest.replace(/[\0 ]/g, ''));
  return digits.trim() === '' ? 0 : Number.parseInt(digits.trim(), 8);
}

/** Bytes of a stream, by the amount that is wanted. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #buffer: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  async #more(): Promise<boolean> {
    if (this.#ended) return false;
    const next = await this.#source.next();
    if (next.done === true) {
      this.#ended = true;
      return false;
    }
    this.#buffer =
      this.#buffer.length === 0
        ? Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength)
        : Buffer.concat([this.#buffer, next.value]);
    return true;
  }

  /** `size` bytes, or undefined at the clean end of the stream. */
  async take(size: number): Promise<Buffer | undefined> {
    while (this.#buffer.length < size) {
      if (await this.#more()) continue;
      if (this.#buffer.length === 0) return undefined;
      throw new Error('tar: the archive is cut off');
    }
    const taken = this.#buffer.subarray(0, size);
    this.#buffer = this.#buffer.subarray(size);
    return taken;
  }

  async exactly(size: number): Promise<Buffer> {
    if (size === 0) return Buffer.alloc(0);
    const taken = await this.take(size);
    if (!taken) throw new Error('tar: the archive is cut off');
    return taken;
  }

  /** Between one and `most` bytes; undefined at the end. */
  async some(most: number): Promise<Buffer | undefined> {
    while (this.#buffer.length === 0) if (!(await this.#more())) return undefined;
    const taken = this.#buffer.subarray(0, most);
    this.#buffer = this.#buffer.subarray(taken.length);
    return taken;
  }

  async skip(size: number): Promise<void> {
    for (let left = size; left > 0; ) {
      const chunk = await this.some(left);
      if (!chunk) throw new Error('tar: the archive is cut off');
      left -= chunk.length;
    }
  }
}
