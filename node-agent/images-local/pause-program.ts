import { ELF_MACHINE, elfProgram } from '#base/oci/elf.ts';

const SIGINT = 2;
const SIGTERM = 15;
const SIGCHLD = 17;
const MASK = (1 << (SIGINT - 1)) | (1 << (SIGTERM - 1)) | (1 << (SIGCHLD - 1));
const MASK_BYTES = 8;
const WNOHANG = 1;

/**
 * The pause program, put together by hand so that no compiler is needed: it blocks three signals
 * and then waits for them one at a time (a blocked signal reaches even a namespace's pid 1, which
 * ignores those it has no handler for). SIGCHLD reaps all that has ended; SIGTERM and SIGINT exit
 * with 0.
 *
 * Throws an Error for an architecture other than amd64 and arm64.
 */
export function pauseProgram(architecture: string): Uint8Array {
  if (architecture === 'amd64') return elfProgram(ELF_MACHINE.amd64, assemble(amd64()));
  if (architecture === 'arm64') return elfProgram(ELF_MACHINE.arm64, assemble(arm64()));
  throw new Error(`no pause program for ${architecture}: only amd64 and arm64 are known`);
}

/** A label, plain bytes, or an instruction that holds the distance from its start to a label. */
type Piece =
  | string
  | readonly number[]
  | { to: string; size: number; encode: (distance: number) => readonly number[] };

function assemble(pieces: readonly Piece[]): Uint8Array {
  const labels = new Map<string, number>();
  let at = 0;
  for (const piece of pieces) {
    if (typeof piece === 'string') labels.set(piece, at);
    else at += 'to' in piece ? piece.size : piece.length;
  }
  const code: number[] = [];
  for (const piece of pieces) {
    if (typeof piece === 'string') continue;
    if ('to' in piece) code.push(...piece.encode((labels.get(piece.to) ?? 0) - code.length));
    else code.push(...piece);
  }
  return new Uint8Array(code);
}

function little(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}

/** Sources: Intel SDM volume 2; the kernel's syscall_64.tbl. */
function amd64(): Piece[] {
  const setEax = (value: number): number[] => [0xb8, ...little(value)];
  const compareEax = (value: number): number[] => [0x83, 0xf8, value];
  const syscall = [0x0f, 0x05];
  const zeroEdi = [0x31, 0xff];
  const zeroEsi = [0x31, 0xf6];
  const zeroEdx = [0x31, 0xd2];
  const setR10 = (value: number): number[] => [0x41, 0xba, ...little(value)];
  const jump = (opcode: number, to: string): Piece => ({
    to,
    size: 2,
    encode: (distance) => [opcode, (distance - 2) & 0xff],
  });
  const [equal, notEqual, greater, always] = [0x74, 0x75, 0x7f, 0xeb];
  /** lea register, [rip + mask] */
  const leaMask = (register: number): Piece => ({
    to: 'mask',
    size: 7,
    encode: (distance) => [0x48, 0x8d, register, ...little(distance - 7)],
  });
  const [rsi, rdi] = [0x35, 0x3d];
  const nr = { sigprocmask: 14, wait4: 61, sigtimedwait: 128, exitGroup: 231 };
  const rows: Piece[][] = [
    [setEax(nr.sigprocmask), zeroEdi, leaMask(rsi), zeroEdx, setR10(MASK_BYTES), syscall],
    ['wait'],
    [setEax(nr.sigtimedwait), leaMask(rdi), zeroEsi, zeroEdx, setR10(MASK_BYTES), syscall],
    [compareEax(SIGINT), jump(equal, 'exit'), compareEax(SIGTERM), jump(equal, 'exit')],
    [compareEax(SIGCHLD), jump(notEqual, 'wait')],
    ['reap'],
    // edi = -1 (any child), edx = WNOHANG
    [setEax(nr.wait4), [0xbf, ...little(-1)], zeroEsi, [0xba, ...little(WNOHANG)]],
    [[0x45, 0x31, 0xd2], syscall, [0x85, 0xc0], jump(greater, 'reap'), jump(always, 'wait')],
    ['exit'],
    [setEax(nr.exitGroup), zeroEdi, syscall],
    ['mask'],
    [[...little(MASK), ...little(0)]],
  ];
  return rows.flat();
}

/** Sources: Arm ARM (A64 base instructions); the kernel's asm-generic/unistd.h. */
function arm64(): Piece[] {
  const word = (value: number): number[] => little(value);
  /** movz x<register>, #value */
  const set = (register: number, value: number): number[] =>
    word(0xd2800000 | (value << 5) | register);
  /** cmp w0, #value */
  const compare = (value: number): number[] => word(0x7100001f | (value << 10));
  const syscall = word(0xd4000001);
  const [equal, notEqual, greater] = [0, 1, 12];
  const branchIf = (condition: number, to: string): Piece => ({
    to,
    size: 4,
    encode: (distance) => word(0x54000000 | (((distance >> 2) & 0x7ffff) << 5) | condition),
  });
  const branch = (to: string): Piece => ({
    to,
    size: 4,
    encode: (distance) => word(0x14000000 | ((distance >> 2) & 0x3ffffff)),
  });
  /** adr x<register>, mask */
  const maskAddress = (register: number): Piece => ({
    to: 'mask',
    size: 4,
    encode: (distance) =>
      word(0x10000000 | ((distance & 3) << 29) | (((distance >> 2) & 0x7ffff) << 5) | register),
  });
  const nr = { sigprocmask: 135, sigtimedwait: 137, exitGroup: 94, wait4: 260 };
  const rows: Piece[][] = [
    [set(8, nr.sigprocmask), set(0, 0), maskAddress(1), set(2, 0), set(3, MASK_BYTES), syscall],
    ['wait'],
    [set(8, nr.sigtimedwait), maskAddress(0), set(1, 0), set(2, 0), set(3, MASK_BYTES), syscall],
    [compare(SIGINT), branchIf(equal, 'exit'), compare(SIGTERM), branchIf(equal, 'exit')],
    [compare(SIGCHLD), branchIf(notEqual, 'wait')],
    ['reap'],
    // movn x0, #0 gives -1: any child
    [set(8, nr.wait4), word(0x92800000), set(1, 0), set(2, WNOHANG), set(3, 0), syscall],
    [compare(0), branchIf(greater, 'reap'), branch('wait')],
    ['exit'],
    [set(8, nr.exitGroup), set(0, 0), syscall],
    ['mask'],
    [[...little(MASK), ...little(0)]],
  ];
  return rows.flat();
}
