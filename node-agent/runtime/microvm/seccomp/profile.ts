import { readFileSync, statSync } from 'node:fs';
import { type SecurityProfile, RuntimeError } from '#node-agent/runtime/service.ts';
import { compileFilter, type Condition, type Filter, type Rule, type Verdict } from './filter.ts';
import { I386, X86_64 } from './numbers.ts';

/** A profile is a few kilobytes; what is larger is none. */
const MAX_PROFILE_BYTES = 1024 * 1024;
const EPERM = 1;
const ENOSYS = 38;
const MAX_ERRNO = 4095;
const ARGUMENTS = 6;

const allow: Verdict = { action: 'allow' };
const denied: Verdict = { action: 'errno', errno: EPERM };

/**
 * The filter that a container's processes run under, as seccomp(2) takes it; empty for none.
 * Throws RuntimeError for a profile that is missing, malformed, or needs what is not here.
 */
export function seccompFilter(
  wish: { seccomp?: SecurityProfile; privileged?: boolean },
  capabilities: readonly string[],
): Uint8Array {
  const none = new Uint8Array();
  const { seccomp } = wish;
  if (wish.privileged || !seccomp) return none;
  switch (seccomp.profileType) {
    case 'RuntimeDefault':
      return compileFilter(defaultFilter(capabilities));
    case 'Localhost':
      return localFilter(seccomp.localhostRef ?? '');
    default:
      return none;
  }
}

function localFilter(ref: string): Uint8Array {
  const path = ref.replace(/^localhost\//, '');
  try {
    const size = statSync(path).size;
    if (size > MAX_PROFILE_BYTES)
      throw new Error(`it has ${size} bytes, which is more than ${MAX_PROFILE_BYTES}`);
    return compileFilter(readProfile(readFileSync(path, 'utf8')));
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RuntimeError('Unknown', `seccomp profile ${path}: ${why}`, { cause });
  }
}

// ---- the default ------------------------------------------------------------------------------

/** Never for a container. Source: Docker's documentation, "Seccomp security profiles". */
const NEVER =
  '_sysctl add_key afs_syscall create_module epoll_ctl_old epoll_wait_old get_kernel_syms getpmsg ' +
  'io_uring_enter io_uring_register io_uring_setup kexec_file_load kexec_load keyctl ' +
  'migrate_pages move_pages nfsservctl pivot_root putpmsg query_module request_key security ' +
  'swapoff swapon sysfs tuxcall uselib userfaultfd ustat vm86 vm86old vserver';

/** For those who have the capability, by its name. */
const WITH_CAPABILITY: readonly (readonly [string, string])[] = [
  ['DAC_READ_SEARCH', 'open_by_handle_at'],
  [
    'SYS_ADMIN',
    'bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr ' +
      'move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns ' +
      'syslog umount umount2 unshare',
  ],
  ['SYS_BOOT', 'reboot'],
  ['SYS_CHROOT', 'chroot'],
  ['SYS_MODULE', 'delete_module finit_module init_module'],
  ['SYS_PACCT', 'acct'],
  ['SYS_PTRACE', 'kcmp pidfd_getfd process_madvise'],
  ['SYS_RAWIO', 'ioperm iopl'],
  ['SYS_TIME', 'clock_settime clock_settime64 settimeofday stime'],
  ['SYS_TTY_CONFIG', 'vhangup'],
  ['SYS_NICE', 'get_mempolicy mbind set_mempolicy set_mempolicy_home_node'],
  ['SYSLOG', 'syslog'],
  ['BPF', 'bpf'],
  ['PERFMON', 'perf_event_open'],
];

/** Namespaces that clone(2) could make, as bits of its first argument. Source: linux/sched.h. */
const NEW_NAMESPACES = 0x7e020000n;
/** Linux and 32-bit Linux, with and without "no randomization", and the question which it is. */
const PERSONALITIES = [0n, 0x8n, 0x20000n, 0x20008n, 0xffffffffn];
/** A way to the machine's host that no firewall sees. Source: linux/socket.h. */
const AF_VSOCK = 40n;

/**
 * What RuntimeDefault means: everything but what reaches the kernel itself, unless a capability
 * stands for it. A call that is denied fails with EPERM.
 */
export function defaultFilter(capabilities: readonly string[]): Filter {
  const has = new Set(capabilities);
  const conditional: Rule[] = [
    ...PERSONALITIES.map((value) => when('personality', 'equal', value, allow)),
    when('socket', 'not equal', AF_VSOCK, allow),
  ];
  const answers: Rule[] = [];
  if (!has.has('SYS_ADMIN')) {
    conditional.push({
      names: ['clone'],
      conditions: [{ argument: 0, operator: 'masked', value: NEW_NAMESPACES, other: 0n }],
      verdict: allow,
    });
    // Its flags are in memory, which no filter reads: programs fall back to clone.
    answers.push(plain(['clone3'], { action: 'errno', errno: ENOSYS }));
  }
  const opened = new Set<string>();
  const guarded = new Set<string>();
  for (const [capability, names] of WITH_CAPABILITY)
    for (const name of names.split(' ')) (has.has(capability) ? opened : guarded).add(name);
  const closed = new Set([
    ...NEVER.split(' '),
    ...[...guarded].filter((name) => !opened.has(name)),
    ...conditional.flatMap(({ names }) => names),
    ...answers.flatMap(({ names }) => names),
  ]);
  const all = new Set([...X86_64.keys(), ...I386.keys()]);
  const open = [...all].filter((name) => !closed.has(name));
  return {
    otherwise: denied,
    rules: [...conditional, ...answers, plain(open, allow)],
    with32Bit: true,
  };
}

const plain = (names: readonly string[], verdict: Verdict): Rule => ({
  names,
  conditions: [],
  verdict,
});

const when = (
  name: string,
  operator: Condition['operator'],
  value: bigint,
  verdict: Verdict,
): Rule => ({
  names: [name],
  conditions: [{ argument: 0, operator, value, other: 0n }],
  verdict,
});

// ---- profiles of the node -----------------------------------------------------------------------

const OPERATORS: Record<string, Condition['operator']> = {
  SCMP_CMP_NE: 'not equal',
  SCMP_CMP_LT: 'less',
  SCMP_CMP_LE: 'less or equal',
  SCMP_CMP_EQ: 'equal',
  SCMP_CMP_GE: 'greater or equal',
  SCMP_CMP_GT: 'greater',
  SCMP_CMP_MASKED_EQ: 'masked',
};

/**
 * Reads a profile as OCI runtimes take it. Throws an Error that names the field.
 * Source: OCI runtime specification, config-linux.md, "Seccomp".
 */
export function readProfile(text: string): Filter {
  const profile = fields(parseExactly(text), 'the profile');
  if (profile['listenerPath']) throw new Error('listenerPath: a microVM has no seccomp agent');
  const otherwise = verdictOf(
    profile['defaultAction'],
    profile['defaultErrnoRet'],
    'defaultAction',
  );
  const rules = list(profile['syscalls'], 'syscalls').map((one, index): Rule => {
    const at = `syscalls[${index}]`;
    const { names, action, errnoRet, args } = fields(one, at);
    return {
      names: list(names, `${at}.names`).map(String),
      conditions: list(args, `${at}.args`).map((arg, place) =>
        conditionOf(fields(arg, `${at}.args[${place}]`), `${at}.args[${place}]`),
      ),
      verdict: verdictOf(action, errnoRet, `${at}.action`),
    };
  });
  const architectures = list(profile['architectures'], 'architectures');
  return { otherwise, rules, with32Bit: architectures.includes('SCMP_ARCH_X86') };
}

function verdictOf(action: unknown, errno: unknown, at: string): Verdict {
  switch (action) {
    case 'SCMP_ACT_ALLOW':
      return allow;
    case 'SCMP_ACT_LOG':
      return { action: 'log' };
    case 'SCMP_ACT_TRAP':
      return { action: 'trap' };
    case 'SCMP_ACT_KILL':
    case 'SCMP_ACT_KILL_THREAD':
      return { action: 'kill thread' };
    case 'SCMP_ACT_KILL_PROCESS':
      return { action: 'kill process' };
    case 'SCMP_ACT_ERRNO': {
      const value = errno === undefined || errno === null ? EPERM : Number(errno);
      if (!Number.isInteger(value) || value < 0 || value > MAX_ERRNO)
        throw new Error(`${at}: ${String(errno)} is no errno between 0 and ${MAX_ERRNO}`);
      return { action: 'errno', errno: value };
    }
    default:
      throw new Error(
        `${at}: "${String(action)}" is not known in a microVM, which has ALLOW, LOG, ERRNO, TRAP, ` +
          'KILL_THREAD and KILL_PROCESS',
      );
  }
}

function conditionOf(arg: Record<string, unknown>, at: string): Condition {
  const argument = Number(arg['index']);
  const operator = OPERATORS[String(arg['op'])];
  if (!Number.isInteger(argument) || argument < 0 || argument >= ARGUMENTS)
    throw new Error(`${at}.index: a call has arguments 0 to ${ARGUMENTS - 1}`);
  if (!operator) throw new Error(`${at}.op: "${String(arg['op'])}" is no comparison`);
  return {
    argument,
    operator,
    value: word(arg['value'], `${at}.value`),
    other: word(arg['valueTwo'], `${at}.valueTwo`),
  };
}

function word(value: unknown, at: string): bigint {
  if (value === undefined || value === null) return 0n;
  const number = typeof value === 'bigint' ? value : undefined;
  if (number === undefined || number < 0n || number >= 1n << 64n)
    throw new Error(`${at}: ${String(value)} is no number of 64 bits`);
  return number;
}

/** Whole numbers as bigint: what a mask holds is more than a double keeps. */
function parseExactly(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' && /^-?\d+$/.test(context?.source ?? '')
      ? BigInt(context?.source ?? '')
      : value,
  );
}

function fields(value: unknown, at: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${at} is no object`);
  return value as Record<string, unknown>;
}

function list(value: unknown, at: string): unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new Error(`${at} is no list`);
  return value;
}
