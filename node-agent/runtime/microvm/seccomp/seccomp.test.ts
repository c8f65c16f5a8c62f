import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import {
  compileFilter,
  type Condition,
  type Filter,
  filterProgram,
  type Instruction,
  type Rule,
} from './filter.ts';
import { I386, X86_64 } from './numbers.ts';
import { defaultFilter, readProfile, seccompFilter } from './profile.ts';

const ARCH = { x86_64: 0xc000003e, i386: 0x40000003, arm: 0x40000028 };

/** What the kernel does with a program: struct seccomp_data in, SECCOMP_RET_* out. */
function run(program: readonly Instruction[], arch: number, number: number, args: bigint[] = []) {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(number, 0);
  data.writeUInt32LE(arch, 4);
  for (const [index, value] of args.entries()) data.writeBigUInt64LE(value, 16 + index * 8);
  let word = 0;
  for (let at = 0; at < program.length; at++) {
    const { code, jt, jf, k } = program[at] as Instruction;
    if (code === 0x20) word = data.readUInt32LE(k);
    else if (code === 0x54) word = (word & k) >>> 0;
    else if (code === 0x05) at += k;
    else if (code === 0x15) at += word === k ? jt : jf;
    else if (code === 0x25) at += word > k ? jt : jf;
    else if (code === 0x35) at += word >= k ? jt : jf;
    else if (code === 0x06) return answerOf(k >>> 0);
    else assert.fail(`no instruction ${code}`);
    assert.ok(jt < 256 && jf < 256);
  }
  return assert.fail('the program ends without an answer');
}

function answerOf(value: number): string {
  const action = (value & 0xffff0000) >>> 0;
  if (action === 0x50000) return `errno ${value & 0xffff}`;
  const names: Record<number, string> = { 0x7fff0000: 'allow', 0x7ffc0000: 'log', 0x30000: 'trap' };
  return names[action] ?? (action === 0x80000000 ? 'kill process' : 'kill thread');
}

const wide = (filter: Filter, name: string, ...args: bigint[]) =>
  run(filterProgram(filter), ARCH.x86_64, X86_64.get(name) ?? -1, args);

test('the default denies what reaches the kernel, unless a capability stands for it', () => {
  const plain = defaultFilter(['CHOWN', 'SYS_CHROOT']);
  const admin = defaultFilter(['SYS_ADMIN', 'SYS_TIME']);
  const rows: [name: string, args: bigint[], plain: string, admin: string][] = [
    ['read', [], 'allow', 'allow'],
    ['execve', [], 'allow', 'allow'],
    ['chroot', [], 'allow', 'errno 1'],
    ['mount', [], 'errno 1', 'allow'],
    ['unshare', [], 'errno 1', 'allow'],
    ['clock_settime', [], 'errno 1', 'allow'],
    ['keyctl', [], 'errno 1', 'errno 1'],
    ['kexec_load', [], 'errno 1', 'errno 1'],
    ['bpf', [], 'errno 1', 'allow'],
    ['ptrace', [], 'allow', 'allow'],
    ['clone', [0x11n], 'allow', 'allow'],
    ['clone', [0x10000011n], 'errno 1', 'allow'],
    ['clone3', [], 'errno 38', 'allow'],
    ['personality', [0n], 'allow', 'allow'],
    ['personality', [0xffffffffn], 'allow', 'allow'],
    ['personality', [0x400000n], 'errno 1', 'errno 1'],
    ['socket', [2n], 'allow', 'allow'],
    ['socket', [40n], 'errno 1', 'errno 1'],
    ['set_mempolicy', [], 'errno 1', 'errno 1'],
  ];
  for (const [name, args, first, second] of rows)
    assert.deepEqual(
      [wide(plain, name, ...args), wide(admin, name, ...args)],
      [first, second],
      name,
    );
});

test('other architectures, and calls of later kernels', () => {
  const program = filterProgram(defaultFilter([]));
  assert.equal(run(program, ARCH.i386, I386.get('read') ?? -1), 'allow');
  assert.equal(run(program, ARCH.i386, I386.get('umount') ?? -1), 'errno 1');
  assert.equal(run(program, ARCH.arm, 3), 'kill thread');
  assert.equal(run(program, ARCH.x86_64, 1000), 'errno 38');
  assert.equal(run(program, ARCH.x86_64, 0x40000000), 'errno 38'); // x32
  const narrow = filterProgram({ ...defaultFilter([]), with32Bit: false });
  assert.equal(run(narrow, ARCH.i386, I386.get('read') ?? -1), 'kill thread');
});

test('comparisons are of 64 bits, unsigned', () => {
  const big = 0xffffffff_00000001n;
  const holds: Record<
    Condition['operator'],
    (arg: bigint, value: bigint, other: bigint) => boolean
  > = {
    equal: (arg, value) => arg === value,
    'not equal': (arg, value) => arg !== value,
    less: (arg, value) => arg < value,
    'less or equal': (arg, value) => arg <= value,
    greater: (arg, value) => arg > value,
    'greater or equal': (arg, value) => arg >= value,
    masked: (arg, value, other) => (arg & value) === other,
  };
  const edges = [0n, 1n, 2n, 0xffffffffn, 0x1_00000000n, 0x1_00000001n, big - 1n, big, big + 1n];
  for (const operator of Object.keys(holds) as Condition['operator'][])
    for (const value of edges)
      for (const argument of edges) {
        const condition: Condition = { argument: 3, operator, value, other: value & big };
        const verdict = { action: 'errno', errno: 7 } as const;
        const rules: Rule[] = [{ names: ['write'], conditions: [condition], verdict }];
        const filter: Filter = { otherwise: { action: 'allow' }, rules, with32Bit: false };
        const expected = holds[operator](argument, value, value & big) ? 'errno 7' : 'allow';
        const got = wide(filter, 'write', 0n, 0n, 0n, argument);
        assert.equal(got, expected, `${argument} ${operator} ${value}`);
      }
});

test('any set of rules says what its list says', () => {
  const random = seededRandom(7);
  const names = [...X86_64.keys()];
  for (let round = 0; round < 40; round++) {
    const chosen = new Map<string, number>();
    for (let count = 1 + randomInt(random, 300); count > 0; count--)
      chosen.set(names[randomInt(random, names.length)] ?? '', 2 + randomInt(random, 8));
    const rules = [...chosen].map(
      ([name, errno]): Rule => ({
        names: [name],
        conditions: [],
        verdict: { action: 'errno', errno },
      }),
    );
    const program = filterProgram({ otherwise: { action: 'log' }, rules, with32Bit: true });
    for (const name of names)
      assert.equal(
        run(program, ARCH.x86_64, X86_64.get(name) ?? -1),
        chosen.has(name) ? `errno ${chosen.get(name)}` : 'log',
      );
  }
});

test('a profile of the node, with its rules in order', () => {
  const filter = readProfile(`{
    "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
    "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [
      { "names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
      { "names": ["ioctl"], "action": "SCMP_ACT_KILL_PROCESS",
        "args": [{ "index": 1, "value": 18446744073709551615, "op": "SCMP_CMP_EQ" }] },
      { "names": ["ioctl"], "action": "SCMP_ACT_LOG" },
      { "names": ["fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }
    ] }`);
  assert.equal(wide(filter, 'write'), 'allow');
  assert.equal(wide(filter, 'open'), 'errno 13');
  assert.equal(wide(filter, 'ioctl', 0n, 0xffffffffffffffffn), 'kill process');
  assert.equal(wide(filter, 'ioctl', 0n, 5n), 'log');
  assert.equal(wide(filter, 'fchmodat'), 'errno 0');
  assert.equal(wide(filter, 'set_mempolicy_home_node'), 'errno 38'); // later than all it names
});

test('what a profile gets wrong is named with its place', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-seccomp-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'p.json');
  const refused: [text: string, words: RegExp][] = [
    ['{', /p\.json: .*JSON/],
    ['[]', /p\.json: the profile is no object/],
    ['{}', /defaultAction: "undefined" is not known/],
    ['{"defaultAction":"SCMP_ACT_NOTIFY"}', /defaultAction: "SCMP_ACT_NOTIFY"/],
    ['{"defaultAction":"SCMP_ACT_ALLOW","syscalls":{}}', /syscalls is no list/],
    [
      '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","errnoRet":5000}]}',
      /syscalls\[0\]\.action: 5000 is no errno/,
    ],
    [
      '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}',
      /args\[0\]\.index/,
    ],
    [
      '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]}]}',
      /args\[0\]\.value: -1 is no number of 64 bits/,
    ],
  ];
  const seccomp = { profileType: 'Localhost', localhostRef: path } as const;
  assert.throws(() => seccompFilter({ seccomp }, []), /p\.json: ENOENT/);
  for (const [text, words] of refused) {
    writeFileSync(path, text);
    assert.throws(() => seccompFilter({ seccomp }, []), words);
  }
});

test('nothing is filtered for those who ask for nothing, or for everything', () => {
  assert.equal(seccompFilter({}, []).length, 0);
  const seccomp = { profileType: 'RuntimeDefault' } as const;
  assert.equal(seccompFilter({ seccomp, privileged: true }, []).length, 0);
  assert.equal(seccompFilter({ seccomp: { profileType: 'Unconfined' } }, []).length, 0);
  const bytes = seccompFilter({ seccomp }, []);
  assert.deepEqual(bytes, compileFilter(defaultFilter([])));
  assert.ok(bytes.length % 8 === 0 && bytes.length < 8 * 1024, `${bytes.length} bytes`);
});
