import type { ImageSettings } from '#base/oci/image-store.ts';
import type { GuestProcess, GuestUser } from '#node-agent/runtime/microvm/machine.ts';
import type { ContainerConfig, ContainerSecurityContext } from '#node-agent/runtime/service.ts';

const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** What every container runtime leaves to a process that asks for nothing. */
const DEFAULT_CAPABILITIES = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
];

/** Source: capabilities(7), as of the kernels that guests run. */
const ALL_CAPABILITIES = [
  ...DEFAULT_CAPABILITIES,
  ...(
    'DAC_READ_SEARCH LINUX_IMMUTABLE NET_BROADCAST NET_ADMIN IPC_LOCK IPC_OWNER SYS_MODULE ' +
    'SYS_RAWIO SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME ' +
    'SYS_TTY_CONFIG LEASE AUDIT_CONTROL MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM ' +
    'BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE'
  ).split(' '),
];

/** The capability set of a container. Throws an Error for a name that the kernel does not have. */
export function capabilitySet(
  context: Pick<ContainerSecurityContext, 'capabilities' | 'privileged'>,
): string[] {
  if (context.privileged) return ALL_CAPABILITIES;
  const names = (list: readonly string[] | undefined): string[] =>
    (list ?? []).map((name) => name.toUpperCase().replace(/^CAP_/, ''));
  const add = names(context.capabilities?.addCapabilities);
  const drop = names(context.capabilities?.dropCapabilities);
  for (const name of [...add, ...drop])
    if (name !== 'ALL' && !ALL_CAPABILITIES.includes(name))
      throw new Error(`unknown capability "${name}"; capabilities(7) lists them`);
  const base = add.includes('ALL')
    ? ALL_CAPABILITIES
    : drop.includes('ALL')
      ? []
      : DEFAULT_CAPABILITIES;
  return ALL_CAPABILITIES.filter(
    (name) => (base.includes(name) || add.includes(name)) && !drop.includes(name),
  );
}

export type ProcessRequest = {
  config: ContainerConfig;
  image: ImageSettings;
  user: GuestUser;
  home: string;
  hostname: string;
};

/**
 * The first process of a container. Throws an Error when neither pod nor image name a command.
 * Source: Kubernetes documentation, "Define a Command and Arguments for a Container".
 */
export function processPlan({ config, image, user, home, hostname }: ProcessRequest): GuestProcess {
  const context = config.linux.securityContext;
  const argv =
    config.command.length > 0
      ? [...config.command, ...config.args]
      : [
          ...(image.Entrypoint ?? []),
          ...(config.args.length > 0 ? config.args : (image.Cmd ?? [])),
        ];
  if (argv.length === 0)
    throw new Error('no command specified: neither the container nor its image names one');
  return {
    argv,
    env: environment(config, image, { home, hostname }),
    cwd: config.workingDir || image.WorkingDir || '/',
    user,
    capabilities: capabilitySet(context),
    noNewPrivileges: context.noNewPrivs ?? false,
    tty: config.tty,
    stdin: config.stdin,
  };
}

function environment(
  config: ContainerConfig,
  image: ImageSettings,
  { home, hostname }: { home: string; hostname: string },
): string[] {
  const values = new Map<string, string>([
    ['PATH', DEFAULT_PATH],
    ['HOSTNAME', hostname],
    ['HOME', home],
    ...(config.tty ? ([['TERM', 'xterm']] as const) : []),
  ]);
  for (const line of image.Env ?? []) {
    const equals = line.indexOf('=');
    if (equals > 0) values.set(line.slice(0, equals), line.slice(equals + 1));
  }
  for (const { key, value } of config.envs) values.set(key, value);
  return [...values].map(([key, value]) => `${key}=${value}`);
}

const SIGNALS: Record<string, number> = {
  HUP: 1,
  INT: 2,
  QUIT: 3,
  ABRT: 6,
  KILL: 9,
  USR1: 10,
  USR2: 12,
  PIPE: 13,
  ALRM: 14,
  TERM: 15,
  STKFLT: 16,
  CHLD: 17,
  CONT: 18,
  STOP: 19,
  TSTP: 20,
  TTIN: 21,
  TTOU: 22,
  URG: 23,
  XCPU: 24,
  XFSZ: 25,
  VTALRM: 26,
  PROF: 27,
  WINCH: 28,
  IO: 29,
  PWR: 30,
  SYS: 31,
};

/** The number of an image's StopSignal (`SIGQUIT`, `quit`, `3`, `SIGRTMIN+3`); SIGTERM otherwise. */
export function stopSignalOf(text: string | undefined): number {
  const name = (text ?? '').toUpperCase().replace(/^SIG/, '');
  if (/^\d+$/.test(name)) return Number(name) > 0 && Number(name) < 65 ? Number(name) : 15;
  const [, realtime] = /^RTMIN\+?(\d+)?$/.exec(name) ?? [];
  if (name.startsWith('RTMIN')) return Math.min(64, 34 + Number(realtime ?? 0));
  return SIGNALS[name] ?? 15;
}
