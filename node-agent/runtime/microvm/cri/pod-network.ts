import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import type { GuestNetwork } from '#node-agent/runtime/microvm/machine.ts';
import { type PodSandboxConfig, RuntimeError } from '#node-agent/runtime/service.ts';
import { type CniAttachment, cniAdd, cniDel, type CniResult, readCniNetwork } from './cni.ts';
import type { SandboxRecord } from './records.ts';

const run = promisify(execFile);
const NETNS_DIR = '/run/netns';
/** So that leftovers are known by their name. */
const PREFIX = 'gmv-';
const TIMEOUT_MS = 10_000;

/** The interface that CNI makes in the pod's namespace; the VM's tap is joined to it. */
export const INTERFACE = 'eth0';

export type PodNetwork = {
  /** Makes the namespace and has the plugins fill it. */
  setUp(record: SandboxRecord): Promise<CniResult>;
  /** Undoes `setUp`, also one that failed half way. Idempotent. */
  tearDown(record: SandboxRecord): Promise<void>;
  /** How the guest sets its own interface up. */
  guestNetwork(record: SandboxRecord): Promise<GuestNetwork>;
  /** Bytes that went through the pod's interface, by the namespace's own counters. */
  traffic(record: SandboxRecord): Promise<LinkCounters | undefined>;
  /** Undefined when a pod could be given a network. */
  problem(): string | undefined;
};

export type LinkCounters = {
  rx: { bytes: number; errors: number };
  tx: { bytes: number; errors: number };
};

export const netnsPath = (sandboxId: string): string =>
  `${NETNS_DIR}/${PREFIX}${sandboxId.slice(0, 24)}`;

export function podNetwork({ confDir, binDir }: { confDir: string; binDir: string }): PodNetwork {
  return {
    async setUp(record) {
      const network = readCniNetwork(confDir);
      await ip('netns', 'add', nameOf(record.netns));
      await ip('-n', nameOf(record.netns), 'link', 'set', 'lo', 'up');
      return cniAdd(network, attachmentOf(record), binDir);
    },
    async tearDown(record) {
      try {
        await cniDel(readCniNetwork(confDir), attachmentOf(record), {
          binDir,
          result: record.network,
        });
      } finally {
        if (existsSync(record.netns)) await ip('netns', 'delete', nameOf(record.netns));
      }
    },
    async guestNetwork(record) {
      const [link] = await links(record.netns, []);
      return guestNetwork(record, link);
    },
    async traffic(record) {
      const [link] = await links(record.netns, ['-s']);
      return link?.stats64;
    },
    problem() {
      try {
        readCniNetwork(confDir);
        return undefined;
      } catch (error) {
        return (error as Error).message;
      }
    },
  };
}

type Link = { address?: string; mtu?: number; stats64?: LinkCounters };

async function links(netns: string, flags: readonly string[]): Promise<Link[]> {
  const text = await ip(...flags, '-j', '-n', nameOf(netns), 'link', 'show', 'dev', INTERFACE);
  return JSON.parse(text) as Link[];
}

/** Pure: CNI's answer and the interface as it is, in the guest's words. */
export function guestNetwork(
  { config, network }: Pick<SandboxRecord, 'config' | 'network'>,
  link: Link | undefined,
): GuestNetwork {
  const ips = network?.ips ?? [];
  if (!link?.address || ips.length === 0)
    throw new RuntimeError('Unknown', 'the CNI plugins gave the pod no interface with an address');
  const gatewayFor = (destination: string): string | undefined =>
    ips.find(({ gateway }) => gateway?.includes(':') === destination.includes(':'))?.gateway;
  const routes = (network?.routes ?? []).map(({ dst, gw }) => {
    const gateway = gw ?? gatewayFor(dst);
    return { destination: dst, ...(gateway ? { gateway } : {}) };
  });
  return {
    hostname: config.hostname,
    mac: link.address,
    mtu: link.mtu ?? 1500,
    addresses: ips.map(({ address }) => address),
    routes,
    sysctls: config.linux.sysctls ?? {},
    maxProcesses: Number(config.linux.resources?.unified?.['pids.max'] ?? 0),
  };
}

function attachmentOf({ id, netns, config }: SandboxRecord): CniAttachment {
  const { name, namespace, uid } = config.metadata;
  return {
    containerId: id,
    netns,
    interfaceName: INTERFACE,
    pod: { name, namespace, uid },
    runtimeConfig: capabilityArguments(config),
  };
}

/** Source: CNI conventions, "Dynamic Plugin specific Fields". */
export function capabilityArguments(config: PodSandboxConfig): Record<string, unknown> {
  const mappings = config.portMappings
    .filter(({ hostPort }) => hostPort > 0)
    .map(({ hostPort, containerPort, protocol, hostIp }) => ({
      hostPort,
      containerPort,
      protocol: protocol.toLowerCase(),
      ...(hostIp ? { hostIP: hostIp } : {}),
    }));
  return mappings.length > 0 ? { portMappings: mappings } : {};
}

const nameOf = (netns: string): string => netns.slice(NETNS_DIR.length + 1);

async function ip(...args: string[]): Promise<string> {
  try {
    return (await run('ip', args, { timeout: TIMEOUT_MS })).stdout;
  } catch (cause) {
    const words = (cause as { stderr?: string }).stderr?.trim() || String(cause);
    throw new RuntimeError('Unknown', `ip ${args.join(' ')}: ${words}`, { cause });
  }
}
