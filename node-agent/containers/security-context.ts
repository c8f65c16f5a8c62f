import type * as models from '@kubernetes/client-node';
import { join } from 'node:path';
import type { Container, Plain, Pod } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type {
  ContainerSecurityContext,
  Image,
  NamespaceOption,
  PodSandboxConfig,
  RuntimeFeatures,
  SecurityProfile,
  UserNamespace,
} from '#node-agent/runtime/service.ts';

/** Paths of /proc and /sys that show or change the host; always hidden, or made read-only. */
const MASKED_PATHS = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const READONLY_PATHS = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

/** Sysctls that touch nothing but the pod. Source: Kubernetes documentation, "Using sysctls". */
export const SAFE_SYSCTLS = new Set([
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.ping_group_range',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.ip_local_reserved_ports',
  'net.ipv4.tcp_keepalive_time',
  'net.ipv4.tcp_fin_timeout',
  'net.ipv4.tcp_keepalive_intvl',
  'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_rmem',
  'net.ipv4.tcp_wmem',
]);

type Namespaces = {
  /** The pod's own ids; undefined with those of the host. */
  users?: UserNamespace | undefined;
  target?: string | undefined;
};

export function namespaceOptions(pod: Pod, { users, target }: Namespaces): NamespaceOption {
  const { spec } = pod;
  return {
    ...(users ? { usernsOptions: users } : {}),
    network: spec.hostNetwork ? 'NODE' : 'POD',
    ipc: spec.hostIPC ? 'NODE' : 'POD',
    ...(target
      ? { pid: 'TARGET', targetId: target }
      : { pid: spec.hostPID ? 'NODE' : spec.shareProcessNamespace ? 'POD' : 'CONTAINER' }),
  };
}

/**
 * The ids of a pod, which `claim` gives out; undefined for those of the host. Throws ConfigError
 * where the runtime would silently run the pod with them.
 */
export function podUsers(
  pod: Pod,
  features: Pick<RuntimeFeatures, 'userNamespaces'>,
  claim: (uid: string) => UserNamespace,
): UserNamespace | undefined {
  if (pod.spec.hostUsers !== false) return undefined;
  if (!features.userNamespaces)
    throw new ConfigError(
      'hostUsers: false is not supported by the container runtime of this pod ' +
        '(containerd 2.0 with runc 1.2 or later is needed)',
    );
  return claim(pod.metadata.uid ?? '');
}

/** Sysctls have been judged when the pod was admitted. */
export function sandboxSecurity(pod: Pod, users?: UserNamespace): PodSandboxConfig['linux'] {
  const context = pod.spec.securityContext;
  const sysctls: Record<string, string> = {};
  for (const { name, value } of context?.sysctls ?? []) {
    sysctls[name.replaceAll('/', '.')] = value;
  }
  return {
    sysctls,
    securityContext: {
      namespaceOptions: namespaceOptions(pod, { users }),
      privileged: allContainers(pod).some((c) => c.securityContext?.privileged),
      // The pause process needs nothing that the default profile denies, whatever the pod asks for.
      seccomp: { profileType: 'RuntimeDefault' },
    },
  };
}

const allContainers = ({ spec }: Pod): Container[] => [
  ...spec.containers,
  ...(spec.initContainers ?? []),
];

export type ContainerSecurityOptions = {
  pod: Pod;
  container: Container;
  image: Image;
  /** Container whose processes an ephemeral container sees. */
  target?: string | undefined;
  users?: UserNamespace | undefined;
  seccompDir: string;
  features: RuntimeFeatures;
};

/** A container's own settings over its pod's. Throws ConfigError when runAsNonRoot is broken. */
export function containerSecurity(options: ContainerSecurityOptions): ContainerSecurityContext {
  const { pod, container, image, target, users, seccompDir, features } = options;
  const own = container.securityContext ?? {};
  const shared = pod.spec.securityContext ?? {};
  const user = own.runAsUser ?? shared.runAsUser ?? image.uid?.value;
  const group = own.runAsGroup ?? shared.runAsGroup;
  if (own.runAsNonRoot ?? shared.runAsNonRoot) checkNonRoot(options, user);
  const privileged = own.privileged === true;
  const unmasked = privileged || own.procMount === 'Unmasked';
  const seccomp = privileged
    ? undefined
    : seccompProfile(own.seccompProfile ?? shared.seccompProfile, seccompDir);
  const apparmor = privileged
    ? undefined
    : appArmorProfile(own.appArmorProfile ?? shared.appArmorProfile);
  const policy = shared.supplementalGroupsPolicy;
  if (policy === 'Strict' && !features.supplementalGroupsPolicy)
    throw new ConfigError(
      'supplementalGroupsPolicy: Strict is not supported by the container runtime',
    );
  const groups = [
    ...(shared.supplementalGroups ?? []),
    ...(shared.fsGroup === undefined ? [] : [shared.fsGroup]),
  ];
  return {
    namespaceOptions: namespaceOptions(pod, { users, target }),
    privileged,
    ...(user === undefined
      ? image.username
        ? { runAsUsername: image.username }
        : {}
      : { runAsUser: { value: user } }),
    ...(group === undefined ? {} : { runAsGroup: { value: group } }),
    supplementalGroups: groups,
    ...(policy === 'Strict' ? { supplementalGroupsPolicy: policy } : {}),
    readonlyRootfs: own.readOnlyRootFilesystem === true,
    noNewPrivs: own.allowPrivilegeEscalation === false,
    capabilities: {
      addCapabilities: own.capabilities?.add ?? [],
      dropCapabilities: own.capabilities?.drop ?? [],
    },
    maskedPaths: unmasked ? [] : MASKED_PATHS,
    readonlyPaths: unmasked ? [] : READONLY_PATHS,
    ...(seccomp ? { seccomp } : {}),
    ...(apparmor ? { apparmor } : {}),
  };
}

function checkNonRoot({ pod, container, image }: ContainerSecurityOptions, user?: number): void {
  const where = `(pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`;
  const own = container.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser;
  if (own !== undefined) {
    if (own === 0) throw new ConfigError(`container's runAsUser breaks non-root policy ${where}`);
    return;
  }
  if (user === undefined && image.username) {
    throw new ConfigError(
      `container has runAsNonRoot and image has non-numeric user (${image.username}), ` +
        `cannot verify user is non-root ${where}`,
    );
  }
  if ((user ?? 0) === 0)
    throw new ConfigError(`container has runAsNonRoot and image will run as root ${where}`);
}

/** In the runtime's words; `refOf` says where it finds a profile of the node. */
function securityProfile(
  profile: { type: string; localhostProfile?: string } | undefined,
  refOf: (localhostProfile: string) => string,
): SecurityProfile | undefined {
  switch (profile?.type) {
    case undefined:
      return undefined;
    case 'RuntimeDefault':
      return { profileType: 'RuntimeDefault' };
    case 'Localhost':
      return { profileType: 'Localhost', localhostRef: refOf(profile.localhostProfile ?? '') };
    default:
      return { profileType: 'Unconfined' };
  }
}

/** Where the host has no AppArmor the pod has been refused before. */
const appArmorProfile = (
  profile: Plain<models.V1AppArmorProfile> | undefined,
): SecurityProfile | undefined => securityProfile(profile, (name) => name);

const seccompProfile = (
  profile: Plain<models.V1SeccompProfile> | undefined,
  seccompDir: string,
): SecurityProfile | undefined => securityProfile(profile, (name) => join(seccompDir, name));
