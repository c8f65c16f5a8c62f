import { isIP } from 'node:net';
import { RuntimeError } from '../../service.ts';
import type {
  GuestContainer,
  GuestLimits,
  GuestMount,
  GuestNetwork,
  GuestProcess,
  GuestStats,
} from '../machine.ts';

/** What a guest is asked, by number (guest/agent.h), and the bytes of each request and answer. */
export const OPERATION = {
  configure: 1,
  create: 2,
  start: 3,
  attach: 4,
  exec: 5,
  signal: 6,
  update: 7,
  remove: 8,
  stats: 9,
  readFile: 10,
  dial: 11,
  powerOff: 12,
  resize: 13,
  release: 14,
  kill: 15,
} as const;

/** Their bits, by position. Source: linux/capability.h. */
const CAPABILITIES = [
  ...['CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID'],
  ...['SETPCAP', 'LINUX_IMMUTABLE', 'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW'],
  ...['IPC_LOCK', 'IPC_OWNER', 'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_PACCT'],
  ...['SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD'],
  ...['LEASE', 'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP', 'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG'],
  ...['WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF', 'CHECKPOINT_RESTORE'],
];

type Part = Uint8Array;

const u8 = (value: number | boolean): Part => Buffer.from([Number(value)]);
const u32 = (value: number): Part => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
};
const u64 = (value: number | bigint): Part => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

/** With its final NUL, which the length counts: C reads it where it stands. */
function string(value: string): Part {
  if (value.includes('\0'))
    throw new RuntimeError('Unknown', `a value holds a NUL byte, which no process can be given`);
  const bytes = Buffer.from(`${value}\0`);
  return Buffer.concat([u32(bytes.length), bytes]);
}

const bytes = (value: Uint8Array): Part => Buffer.concat([u32(value.length), value]);

const list = <T>(values: readonly T[], encode: (value: T) => Part): Part =>
  Buffer.concat([u32(values.length), ...values.map(encode)]);

const message = (operation: keyof typeof OPERATION, ...parts: Part[]): Buffer =>
  Buffer.concat([u8(OPERATION[operation]), ...parts]);

/** Throws RuntimeError for a name that no kernel knows. */
export function capabilityMask(names: readonly string[]): bigint {
  let mask = 0n;
  for (const name of names) {
    const bit = CAPABILITIES.indexOf(name.toUpperCase().replace(/^CAP_/, ''));
    if (bit < 0) throw new RuntimeError('Unknown', `no capability is named "${name}"`);
    mask |= 1n << BigInt(bit);
  }
  return mask;
}

const processParts = (process: GuestProcess): Part =>
  Buffer.concat([
    list(process.argv, string),
    list(process.env, string),
    string(process.cwd),
    u32(process.user.uid),
    u32(process.user.gid),
    list(process.user.groups, u32),
    u64(capabilityMask(process.capabilities)),
    u8(process.noNewPrivileges),
    u8(process.tty),
    u8(process.stdin),
  ]);

function limitsParts(limits: GuestLimits): Part {
  const { cpuShares, cpuQuota = 0, cpuPeriod = 0, memoryBytes = 0, pids = 0 } = limits;
  // The published conversion of v1 shares (2…262144) to v2 weight (1…10000).
  const shares = Math.min(262144, Math.max(2, cpuShares ?? 0));
  const weight = cpuShares ? 1 + Math.floor(((shares - 2) * 9999) / 262142) : 0;
  return Buffer.concat(
    [weight, cpuQuota, cpuPeriod, memoryBytes, pids].map((n) => u64(Math.max(0, Math.trunc(n)))),
  );
}

const MOUNT_KIND = { share: 0, lun: 1, tmpfs: 2 } as const;

function mountParts({ source, target, readonly }: GuestMount): Part {
  const parts = (kind: keyof typeof MOUNT_KIND, text: string, lun: number, filesystem: string) => [
    u8(MOUNT_KIND[kind]),
    string(text),
    u32(lun),
    string(filesystem),
  ];
  const fields =
    'share' in source
      ? parts('share', source.share, 0, '')
      : 'lun' in source
        ? parts('lun', '', source.lun, source.filesystem)
        : parts('tmpfs', source.tmpfs, 0, '');
  return Buffer.concat([...fields, string(target), u8(readonly)]);
}

export function createRequest(container: GuestContainer): Buffer {
  const { rootfs, pidNamespace } = container;
  const { writable } = rootfs;
  const onDisk = typeof writable === 'object';
  const inContainer = typeof pidNamespace === 'object';
  return message(
    'create',
    string(container.id),
    u32(rootfs.lun),
    string(rootfs.filesystem),
    u8(onDisk ? 2 : writable === 'memory' ? 1 : 0),
    u32(onDisk ? writable.lun : 0),
    u8(container.readonlyRootfs),
    u8(container.privileged),
    processParts(container.process),
    list(container.mounts, mountParts),
    list(container.devices, ({ lun, path, mode }) =>
      Buffer.concat([u32(lun), string(path), u32(mode)]),
    ),
    limitsParts(container.limits),
    u8(inContainer ? 2 : pidNamespace === 'pod' ? 1 : 0),
    string(inContainer ? pidNamespace.container : ''),
    list(container.maskedPaths, string),
    list(container.readonlyPaths, string),
    bytes(container.seccompFilter),
  );
}

export function configureRequest(network: GuestNetwork): Buffer {
  const mac = network.mac.split(':').map((part) => Number.parseInt(part, 16));
  if (mac.length !== 6 || mac.some((byte) => !(byte >= 0 && byte < 256)))
    throw new RuntimeError('Unknown', `"${network.mac}" is no MAC address`);
  for (const address of network.addresses)
    if (!isIP(address.split('/')[0] ?? ''))
      throw new RuntimeError('Unknown', `"${address}" is no address in CIDR notation`);
  return message(
    'configure',
    string(network.hostname),
    Buffer.from(mac),
    u32(network.mtu),
    list(network.addresses, string),
    list(network.routes, ({ destination, gateway = '' }) =>
      Buffer.concat([string(destination), string(gateway)]),
    ),
    list(Object.entries(network.sysctls), ([name, value]) =>
      Buffer.concat([string(name), string(value)]),
    ),
    u64(network.maxProcesses ?? 0),
  );
}

export const startRequest = (id: string): Buffer => message('start', string(id));
export const attachRequest = (id: string): Buffer => message('attach', string(id));
export const removeRequest = (id: string): Buffer => message('remove', string(id));
export const statsRequest = (id: string): Buffer => message('stats', string(id));
export const execRequest = (id: string, process: GuestProcess): Buffer =>
  message('exec', string(id), processParts(process));
export const signalRequest = (id: string, signal: number, all: boolean): Buffer =>
  message('signal', string(id), u8(signal), u8(all));
export const updateRequest = (id: string, limits: GuestLimits): Buffer =>
  message('update', string(id), limitsParts(limits));
export const readFileRequest = (id: string, path: string, maxBytes: number): Buffer =>
  message('readFile', string(id), string(path), u32(maxBytes));
export const dialRequest = (port: number): Buffer => message('dial', u32(port));
export const powerOffRequest = (): Buffer => message('powerOff');
export const resizeRequest = (id: number, width: number, height: number): Buffer =>
  message('resize', u32(id), u32(width), u32(height));
export const releaseRequest = (id: number): Buffer => message('release', u32(id));
export const killRequest = (id: number): Buffer => message('kill', u32(id));

/** errno 0 with the answer's data, or an errno with words. Undefined when it is malformed. */
export function decodeReply(
  payload: Buffer,
): { errno: number; text: string; data: Buffer } | undefined {
  if (payload.length < 8) return undefined;
  const end = 8 + payload.readUInt32LE(4);
  if (end > payload.length) return undefined;
  return {
    errno: payload.readInt32LE(0),
    text: payload.toString('utf8', 8, end),
    data: payload.subarray(end),
  };
}

export type Attached = {
  processId: number;
  nextSequence: bigint;
  inputOffset: bigint;
  inputEnded: boolean;
};

/** Decoders of answers give undefined for bytes that are no such answer. */
export function decodeAttached(data: Buffer): Attached | undefined {
  if (data.length < 21) return undefined;
  return {
    processId: data.readUInt32LE(0),
    nextSequence: data.readBigUInt64LE(4),
    inputOffset: data.readBigUInt64LE(12),
    inputEnded: data[20] === 1,
  };
}

export function decodeStats(data: Buffer): GuestStats | undefined {
  if (data.length < 56) return undefined;
  const at = (index: number): number => Number(data.readBigUInt64LE(index * 8));
  return {
    cpuNanoseconds: at(0),
    memoryUsageBytes: at(1),
    memoryWorkingSetBytes: at(2),
    memoryRssBytes: at(3),
    pids: at(4),
    filesystemBytes: at(5),
    filesystemInodes: at(6),
  };
}
