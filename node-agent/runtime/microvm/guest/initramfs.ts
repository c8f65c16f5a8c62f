/**
 * A cpio archive ("newc"), which is what a kernel unpacks as its first root.
 * Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export type InitramfsEntry =
  | { name: string; kind: 'directory'; mode: number }
  | { name: string; kind: 'file'; mode: number; content: Uint8Array }
  | { name: string; kind: 'character device'; mode: number; major: number; minor: number };

const TYPE_BITS = { directory: 0o040000, file: 0o100000, 'character device': 0o020000 } as const;

/** The archive of `entries`, in their order: folders come before what is in them. */
export function cpioArchive(entries: readonly InitramfsEntry[]): Buffer {
  const parts = entries.map((entry, index) => member(entry, index + 1));
  const trailer = member({ name: 'TRAILER!!!', kind: 'file', mode: 0, content: EMPTY }, 0);
  return Buffer.concat([...parts, trailer]);
}

const EMPTY = new Uint8Array();

function member(entry: InitramfsEntry, inode: number): Buffer {
  const content = entry.kind === 'file' ? entry.content : EMPTY;
  const [major, minor] = entry.kind === 'character device' ? [entry.major, entry.minor] : [0, 0];
  const mode = entry.mode === 0 && inode === 0 ? 0 : TYPE_BITS[entry.kind] | entry.mode;
  const links = entry.kind === 'directory' ? 2 : 1;
  const name = Buffer.from(`${entry.name}\0`);
  const fields = [
    ...[inode, mode, 0, 0, links, 0, content.length, 0, 0, major, minor, name.length, 0],
  ].map((value) => value.toString(16).padStart(8, '0'));
  return Buffer.concat([
    padded(Buffer.concat([Buffer.from(`070701${fields.join('')}`), name])),
    padded(content),
  ]);
}

/** Filled with zeros to a multiple of four bytes. */
function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
