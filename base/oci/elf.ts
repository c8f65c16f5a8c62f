/** What of a 64-bit little-endian ELF file says which other files it needs. */
export type ElfNeeds = {
  /** The dynamic loader; undefined for a static program or a library. */
  interpreter: string | undefined;
  /** Names of the shared libraries, as in DT_NEEDED. */
  needed: string[];
  /** Folders from DT_RUNPATH or DT_RPATH, `$ORIGIN` not yet replaced. */
  runPath: string[];
  machine: number;
};

/** `e_machine` numbers. Source: ELF gABI. */
export const ELF_MACHINE = { amd64: 62, arm64: 183 } as const;

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT = { load: 1, dynamic: 2, interp: 3, gnuStack: 0x6474e551 } as const;
const DT = { needed: 1, strtab: 5, rpath: 15, runpath: 29 } as const;

type Segment = { type: number; offset: number; address: number; size: number };

/**
 * Reads a program's or library's needs. Undefined when `file` is no 64-bit little-endian ELF.
 * Source: ELF gABI, chapters "Object Files" and "Dynamic Linking".
 */
export function readElf(file: Buffer): ElfNeeds | undefined {
  const isElf = file.length >= HEADER_BYTES && file.readUInt32BE(0) === 0x7f454c46;
  if (!isElf || file[4] !== 2 || file[5] !== 1) return undefined;
  const segments = readSegments(file);
  const interp = segments.find(({ type }) => type === PT.interp);
  const dynamic = segments.find(({ type }) => type === PT.dynamic);
  const tags = dynamic ? readDynamic(file, dynamic) : [];
  const tableAddress = tags.find(({ tag }) => tag === DT.strtab)?.value ?? 0;
  const table = fileOffset(segments, tableAddress);
  const strings = (wanted: number): string[] =>
    tags.filter(({ tag }) => tag === wanted).map(({ value }) => textAt(file, table + value));
  const paths = [...strings(DT.runpath), ...strings(DT.rpath)];
  return {
    interpreter: interp ? textAt(file, interp.offset) : undefined,
    needed: strings(DT.needed),
    runPath: paths.flatMap((path) => path.split(':')),
    machine: file.readUInt16LE(18),
  };
}

/**
 * A static executable made of nothing but `code`, which is loaded readable and executable and
 * entered at its first byte.
 */
export function elfProgram(machine: number, code: Uint8Array): Uint8Array {
  const address = 0x400000;
  const start = HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
  const size = start + code.length;
  const file = Buffer.alloc(size);
  file.write('\x7fELF\x02\x01\x01', 0, 'latin1');
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(address + start), 24);
  file.writeBigUInt64LE(BigInt(HEADER_BYTES), 32);
  file.writeUInt16LE(HEADER_BYTES, 52);
  file.writeUInt16LE(PROGRAM_HEADER_BYTES, 54);
  file.writeUInt16LE(2, 56);
  writeSegment(file, HEADER_BYTES, { type: PT.load, flags: 5, address, size, align: 0x10000 });
  const stack = { type: PT.gnuStack, flags: 6, address: 0, size: 0, align: 16 };
  writeSegment(file, HEADER_BYTES + PROGRAM_HEADER_BYTES, stack);
  file.set(code, start);
  return file;
}

function writeSegment(
  file: Buffer,
  at: number,
  segment: { type: number; flags: number; address: number; size: number; align: number },
): void {
  file.writeUInt32LE(segment.type, at);
  file.writeUInt32LE(segment.flags, at + 4);
  file.writeBigUInt64LE(BigInt(segment.address), at + 16);
  file.writeBigUInt64LE(BigInt(segment.address), at + 24);
  file.writeBigUInt64LE(BigInt(segment.size), at + 32);
  file.writeBigUInt64LE(BigInt(segment.size), at + 40);
  file.writeBigUInt64LE(BigInt(segment.align), at + 48);
}

function readSegments(file: Buffer): Segment[] {
  const start = Number(file.readBigUInt64LE(32));
  const size = file.readUInt16LE(54);
  return Array.from({ length: file.readUInt16LE(56) }, (_, i) => {
    const at = start + i * size;
    return {
      type: file.readUInt32LE(at),
      offset: Number(file.readBigUInt64LE(at + 8)),
      address: Number(file.readBigUInt64LE(at + 16)),
      size: Number(file.readBigUInt64LE(at + 32)),
    };
  });
}

function readDynamic(file: Buffer, { offset, size }: Segment): { tag: number; value: number }[] {
  const tags: { tag: number; value: number }[] = [];
  for (let at = offset; at + 16 <= offset + size; at += 16) {
    const tag = Number(file.readBigInt64LE(at));
    if (tag === 0) break;
    tags.push({ tag, value: Number(file.readBigUInt64LE(at + 8)) });
  }
  return tags;
}

/** Where a virtual address lies in the file. */
function fileOffset(segments: readonly Segment[], address: number): number {
  const segment = segments.find(
    (s) => s.type === PT.load && address >= s.address && address < s.address + s.size,
  );
  return segment ? segment.offset + (address - segment.address) : 0;
}

function textAt(file: Buffer, offset: number): string {
  return file.toString('utf8', offset, file.indexOf(0, offset));
}
