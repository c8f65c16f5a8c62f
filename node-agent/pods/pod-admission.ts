import { matchesNodeSelectorTerm } from '#api/node-selector.ts';
import { addAmounts, type Amounts, podAmounts } from '#api/pod-resources.ts';
import { tolerates } from '#api/tolerations.ts';
import type { Node, Pod } from '#api/types.ts';
import { isCritical } from '#node-agent/node/eviction.ts';
import type { RuntimeFeatures } from '#node-agent/runtime/service.ts';
import { SAFE_SYSCTLS } from '#node-agent/containers/security-context.ts';

/** Why a node refuses a pod: the event it gets, and with a word before it the status it fails with. */
export type Refusal = {
  reason: string;
  message: string;
  /** All that the node has too little of, where nothing else is wrong. */
  short?: Amounts;
};

export type AdmissionFacts = {
  node: Node;
  allocatable: Amounts;
  hasAppArmor: boolean;
  features: Pick<RuntimeFeatures, 'supplementalGroupsPolicy'>;
  /** Beyond the safe ones; a trailing `*` stands for any rest of a name. */
  allowedUnsafeSysctls: readonly string[];
};

/**
 * Whether a pod that was bound here can run beside the pods already admitted. The scheduler checks
 * the same, but a pod can be bound by hand, and two can be bound at a time.
 */
export function admitPod(
  pod: Pod,
  others: readonly Pod[],
  facts: AdmissionFacts,
): Refusal | undefined {
  const { node, allocatable } = facts;
  return (
    refuseByOs(pod) ??
    refuseBySelector(pod, node) ??
    refuseBySysctls(pod, facts.allowedUnsafeSysctls) ??
    refuseByAppArmor(pod, facts.hasAppArmor) ??
    refuseByGroupsPolicy(pod, facts.features) ??
    refuseByRoom(pod, others, allocatable)
  );
}

function refuseBySelector({ spec }: Pod, node: Node): Refusal | undefined {
  const labels = node.metadata.labels ?? {};
  const selected = Object.entries(spec.nodeSelector ?? {}).every(([k, v]) => labels[k] === v);
  const terms =
    spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  const matched = !terms || terms.some((term) => matchesNodeSelectorTerm(term, node));
  if (!selected || !matched) {
    return {
      reason: 'NodeAffinity',
      message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
    };
  }
  const taint = node.spec?.taints?.find(
    (t) => t.effect === 'NoExecute' && !tolerates(spec.tolerations, t),
  );
  if (!taint) return undefined;
  return {
    reason: 'TaintToleration',
    message: `Predicate TaintToleration failed: node(s) had untolerated taint {${taint.key}: ${taint.value ?? ''}}`,
  };
}

function refuseByOs({ spec }: Pod): Refusal | undefined {
  const selected = spec.nodeSelector?.['kubernetes.io/os'];
  if (selected !== undefined && selected !== 'linux') {
    return {
      reason: 'PodOSSelectorNodeLabelDoesNotMatch',
      message: "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
    };
  }
  if (!spec.os || spec.os.name === 'linux') return undefined;
  return {
    reason: 'PodOSNotSupported',
    message: "Failed to admit pod as the OS field doesn't match node OS",
  };
}

/** Source: Kubernetes documentation, "Using sysctls in a Kubernetes cluster". */
function refuseBySysctls({ spec }: Pod, allowed: readonly string[]): Refusal | undefined {
  for (const { name } of spec.securityContext?.sysctls ?? []) {
    const why = forbiddenSysctl(name, spec, allowed);
    if (why) return { reason: 'SysctlForbidden', message: `forbidden sysctl: "${name}" ${why}` };
  }
  return undefined;
}

function forbiddenSysctl(
  name: string,
  { hostNetwork, hostIPC }: Pod['spec'],
  allowed: readonly string[],
): string | undefined {
  const dotted = name.replaceAll('/', '.');
  const listed = allowed.some((entry) =>
    entry.endsWith('*') ? dotted.startsWith(entry.slice(0, -1)) : entry === dotted,
  );
  if (!listed && !SAFE_SYSCTLS.has(dotted)) return 'not allowlisted';
  if (hostNetwork && dotted.startsWith('net.')) return 'not allowed with host net enabled';
  const ofIpc = /^kernel\.(shm|msg|sem)|^fs\.mqueue\./.test(dotted);
  return hostIPC && ofIpc ? 'not allowed with host ipc enabled' : undefined;
}

/** An older runtime takes the field and still adds the groups of the image. */
function refuseByGroupsPolicy(
  { spec }: Pod,
  features: AdmissionFacts['features'],
): Refusal | undefined {
  if (spec.securityContext?.supplementalGroupsPolicy !== 'Strict') return undefined;
  if (features.supplementalGroupsPolicy) return undefined;
  return {
    reason: 'SupplementalGroupsPolicyNotSupported',
    message: 'SupplementalGroupsPolicy=Strict is not supported in this node',
  };
}

/** A profile that nobody enforces would only look like protection. */
function refuseByAppArmor({ spec }: Pod, hasAppArmor: boolean): Refusal | undefined {
  if (hasAppArmor) return undefined;
  const profiles = [spec, ...spec.containers, ...(spec.initContainers ?? [])].map(
    ({ securityContext }) => securityContext?.appArmorProfile?.type,
  );
  if (!profiles.some((type) => type && type !== 'Unconfined')) return undefined;
  return {
    reason: 'AppArmor',
    message: 'Cannot enforce AppArmor: AppArmor is not enabled on the host',
  };
}

function refuseByRoom(pod: Pod, others: readonly Pod[], allocatable: Amounts): Refusal | undefined {
  const ports = refuseByPorts(pod, others);
  // For a critical pod others would go, and in vain if its port is taken.
  if (ports && isCritical(pod)) return ports;
  return refuseByResources(pod, others, allocatable) ?? ports;
}

function refuseByResources(
  pod: Pod,
  others: readonly Pod[],
  allocatable: Amounts,
): Refusal | undefined {
  const used: Amounts = new Map([['pods', others.length]]);
  for (const other of others) addAmounts(used, podAmounts(other.spec, 'requests'));
  const asked: Amounts = new Map([['pods', 1], ...podAmounts(pod.spec, 'requests')]);
  const short: Amounts = new Map();
  for (const [name, amount] of asked) {
    const capacity = allocatable.get(name);
    // What the agent does not count (extended resources of others) is not its to refuse.
    if (capacity === undefined || amount === 0) continue;
    const missing = (used.get(name) ?? 0) + amount - capacity;
    if (missing > 0) short.set(name, missing);
  }
  const [name] = short.keys();
  if (name === undefined) return undefined;
  return {
    reason: `OutOf${name}`,
    message:
      `Node didn't have enough resource: ${name}, requested: ${asked.get(name)}, ` +
      `used: ${used.get(name) ?? 0}, capacity: ${allocatable.get(name)}`,
    short,
  };
}

function refuseByPorts(pod: Pod, others: readonly Pod[]): Refusal | undefined {
  const taken = others.flatMap(hostPorts);
  const clash = hostPorts(pod).some((port) =>
    taken.some(
      (t) =>
        t.port === port.port &&
        t.protocol === port.protocol &&
        (t.ip === port.ip || isAny(t.ip) || isAny(port.ip)),
    ),
  );
  if (!clash) return undefined;
  return {
    reason: 'NodePorts',
    message:
      "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
  };
}

const isAny = (ip: string): boolean => ip === '' || ip === '0.0.0.0' || ip === '::';

function hostPorts({ spec }: Pod): { port: number; protocol: string; ip: string }[] {
  return spec.containers.flatMap((container) =>
    (container.ports ?? []).flatMap(
      ({ hostPort, protocol = 'TCP', hostIP = '', containerPort }) => {
        const port = hostPort ?? (spec.hostNetwork ? containerPort : 0);
        return port ? [{ port, protocol, ip: hostIP }] : [];
      },
    ),
  );
}
