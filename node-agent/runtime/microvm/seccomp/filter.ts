import { I386, type SyscallNumbers, X86_64 } from './numbers.ts';

/** How the kernel answers a call. `errno` is what the caller sees. */
export type Verdict =
  | { action: 'allow' | 'log' | 'trap' | 'kill thread' | 'kill process' }
  | { action: 'errno'; errno: number };

/** `masked` compares `argument & value` with `other`; all are 64-bit. */
export type Condition = {
  argument: number;
  operator:
    | 'equal'
    | 'not equal'
    | 'less'
    | 'less or equal'
    | 'greater'
    | 'greater or equal'
    | 'masked';
  value: bigint;
  other: bigint;
};

/** All conditions hold: the verdict. Rules of one call are tried in order, unconditional ones last. */
export type Rule = { names: readonly string[]; conditions: readonly Condition[]; verdict: Verdict };

export type Filter = {
  otherwise: Verdict;
  rules: readonly Rule[];
  /** Whether programs of 32 bits run under it; without, their first call ends them. */
  with32Bit: boolean;
};

/** One instruction of the kernel's classic BPF: `struct sock_filter`. */
export type Instruction = { code: number; jt: number; jf: number; k: number };

/** The kernel takes no longer program. Source: linux/bpf_common.h. */
const MAX_INSTRUCTIONS = 4096;
const INSTRUCTION_BYTES = 8;
/** A conditional jump goes no further. */
const MAX_JUMP = 255;
const ENOSYS = 38;

/** Source: linux/filter.h, bpf_common.h. */
const LOAD = 0x20; // 32 bits of seccomp_data, absolute
const AND = 0x54;
const RETURN = 0x06;
const JUMP = 0x05;
const IF_EQUAL = 0x15;
const IF_GREATER = 0x25;
const IF_GREATER_OR_EQUAL = 0x35;

/** struct seccomp_data. Source: linux/seccomp.h. */
const NUMBER_AT = 0;
const ARCHITECTURE_AT = 4;
const ARGUMENTS_AT = 16;
/** Source: linux/audit.h. */
const ARCH_X86_64 = 0xc000003e;
const ARCH_I386 = 0x40000003;

/** Source: linux/seccomp.h, SECCOMP_RET_*. */
const RETURNS: Record<Verdict['action'], number> = {
  'kill process': 0x80000000,
  'kill thread': 0,
  trap: 0x00030000,
  errno: 0x00050000,
  log: 0x7ffc0000,
  allow: 0x7fff0000,
};

const verdictValue = (verdict: Verdict): number =>
  verdict.action === 'errno' ? RETURNS.errno | verdict.errno : RETURNS[verdict.action];

const op = (code: number, k: number, jt = 0, jf = 0): Instruction => ({ code, jt, jf, k });
const answer = (verdict: Verdict): Instruction => op(RETURN, verdictValue(verdict));
const load = (at: number): Instruction => op(LOAD, at);

/**
 * The filter as a BPF program, in the bytes that seccomp(2) takes. Throws an Error when it is longer
 * than the kernel allows.
 */
export function compileFilter(filter: Filter): Uint8Array {
  const program = filterProgram(filter);
  const bytes = Buffer.alloc(program.length * INSTRUCTION_BYTES);
  for (const [index, { code, jt, jf, k }] of program.entries()) {
    const at = index * INSTRUCTION_BYTES;
    bytes.writeUInt16LE(code, at);
    bytes.writeUInt8(jt, at + 2);
    bytes.writeUInt8(jf, at + 3);
    bytes.writeUInt32LE(k >>> 0, at + 4);
  }
  return bytes;
}

export function filterProgram(filter: Filter): Instruction[] {
  const wide = architecture(filter, X86_64);
  const narrow = filter.with32Bit
    ? architecture(filter, I386)
    : [answer({ action: 'kill thread' })];
  const program = [
    load(ARCHITECTURE_AT),
    ...branch(IF_EQUAL, ARCH_X86_64, wide, [
      ...branch(IF_EQUAL, ARCH_I386, narrow, [answer({ action: 'kill thread' })]),
    ]),
  ];
  if (program.length > MAX_INSTRUCTIONS)
    throw new Error(
      `the filter has ${program.length} instructions; the kernel takes ${MAX_INSTRUCTIONS}`,
    );
  return program;
}

/** Both end in answers. The first is skipped where the test fails, by two jumps when it is long. */
function branch(
  test: number,
  k: number,
  yes: readonly Instruction[],
  no: readonly Instruction[],
): Instruction[] {
  if (yes.length <= MAX_JUMP) return [op(test, k, 0, yes.length), ...yes, ...no];
  return [op(test, k, 1, 0), op(JUMP, yes.length), ...yes, ...no];
}

/** What is done from this number on, up to the next one's. */
type Interval = { from: number; body: Instruction[]; key: string };

function architecture(filter: Filter, numbers: SyscallNumbers): Instruction[] {
  return [load(NUMBER_AT), ...search(intervals(filter, numbers))];
}

/** A binary search for the number's interval. */
function search(all: readonly Interval[]): Instruction[] {
  const [only] = all;
  if (!only) throw new Error('a filter without a verdict');
  if (all.length === 1) return only.body;
  const middle = all.length >> 1;
  const right = all[middle] as Interval;
  return branch(
    IF_GREATER_OR_EQUAL,
    right.from,
    search(all.slice(middle)),
    search(all.slice(0, middle)),
  );
}

/**
 * Numbers above the highest that the rules name are calls of later kernels: a program that tries
 * one has to hear that there is none (ENOSYS), and then does without. So do the other runtimes.
 */
function intervals({ otherwise, rules }: Filter, numbers: SyscallNumbers): Interval[] {
  const byNumber = new Map<number, Rule[]>();
  for (const rule of rules)
    for (const name of rule.names) {
      const number = numbers.get(name);
      if (number === undefined) continue; // a call of another architecture or a later kernel
      byNumber.set(number, [...(byNumber.get(number) ?? []), rule]);
    }
  const named = [...byNumber.keys()].sort((a, b) => a - b);
  const last = named.at(-1) ?? -1;
  const open = otherwise.action === 'allow' || otherwise.action === 'log';
  const beyond: Verdict = open ? otherwise : { action: 'errno', errno: ENOSYS };
  const found: Interval[] = [];
  const add = (from: number, body: Instruction[]): void => {
    const key = JSON.stringify(body);
    if (found.at(-1)?.key !== key) found.push({ from, body, key });
  };
  let next = 0;
  for (const number of named) {
    if (number > next) add(next, [answer(otherwise)]);
    add(number, callBody(byNumber.get(number) ?? [], otherwise));
    next = number + 1;
  }
  add(last + 1, [answer(beyond)]);
  return found;
}

function callBody(rules: readonly Rule[], otherwise: Verdict): Instruction[] {
  const conditional = rules.filter(({ conditions }) => conditions.length > 0);
  const plain = rules.find(({ conditions }) => conditions.length === 0);
  return [...conditional.flatMap(ruleBody), answer(plain?.verdict ?? otherwise)];
}

/** Falls through to what follows when a condition does not hold. */
function ruleBody({ conditions, verdict }: Rule): Instruction[] {
  let body = [answer(verdict)];
  for (const condition of [...conditions].reverse()) body = test(condition, body);
  return body;
}

/** A jump within a condition: to the next instruction, to what holds, or past all of it. */
type Where = 'next' | 'yes' | 'no';
type Step = Instruction | { if: number; k: number; then: Where; else: Where };

function test(condition: Condition, yes: readonly Instruction[]): Instruction[] {
  const steps = comparison(condition);
  return [
    ...steps.map((step, index): Instruction => {
      if (!('if' in step)) return step;
      const rest = steps.length - index - 1;
      const to = { next: 0, yes: rest, no: rest + yes.length };
      return op(step.if, step.k, to[step.then], to[step.else]);
    }),
    ...yes,
  ];
}

/** Arguments are 64 bits, the machine's words 32: the high one decides unless it is equal. */
function comparison({ argument, operator, value, other }: Condition): Step[] {
  const low = load(ARGUMENTS_AT + argument * 8);
  const high = load(ARGUMENTS_AT + argument * 8 + 4);
  const halves = (of: bigint): [number, number] => [
    Number((of >> 32n) & 0xffffffffn),
    Number(of & 0xffffffffn),
  ];
  const [valueHigh, valueLow] = halves(value);
  const when = (code: number, k: number, then: Where, otherwise: Where): Step => ({
    if: code,
    k,
    then,
    else: otherwise,
  });
  const order = (lowTest: number, greater: Where, less: Where): Step[] => [
    high,
    when(IF_GREATER, valueHigh, greater, 'next'),
    when(IF_EQUAL, valueHigh, 'next', less),
    low,
    when(lowTest, valueLow, greater, less),
  ];
  switch (operator) {
    case 'equal':
      return [
        ...[high, when(IF_EQUAL, valueHigh, 'next', 'no')],
        ...[low, when(IF_EQUAL, valueLow, 'yes', 'no')],
      ];
    case 'not equal':
      return [
        ...[high, when(IF_EQUAL, valueHigh, 'next', 'yes')],
        ...[low, when(IF_EQUAL, valueLow, 'no', 'yes')],
      ];
    case 'masked': {
      const [otherHigh, otherLow] = halves(other);
      return [
        ...[high, op(AND, valueHigh), when(IF_EQUAL, otherHigh, 'next', 'no')],
        ...[low, op(AND, valueLow), when(IF_EQUAL, otherLow, 'yes', 'no')],
      ];
    }
    case 'greater':
      return order(IF_GREATER, 'yes', 'no');
    case 'greater or equal':
      return order(IF_GREATER_OR_EQUAL, 'yes', 'no');
    case 'less':
      return order(IF_GREATER_OR_EQUAL, 'no', 'yes');
    case 'less or equal':
      return order(IF_GREATER, 'no', 'yes');
  }
}
