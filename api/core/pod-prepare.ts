import { qosClassOf } from '#api/core/pod-qos.ts';
import type { LabelSelector, Pod } from '#api/types.ts';

/** A new pod waits; what its author says about its status does not count. */
export function preparePodForCreate(pod: Pod): void {
  pod.status = { phase: 'Pending', qosClass: qosClassOf(pod.spec) };
  if (pod.spec.schedulingGates?.length) {
    pod.status.conditions = [
      {
        type: 'PodScheduled',
        status: 'False',
        reason: 'SchedulingGated',
        message: 'Scheduling is blocked due to non-empty scheduling gates',
        lastProbeTime: null as never,
        lastTransitionTime: pod.metadata.creationTimestamp as string,
      },
    ];
  }
  // Negative values are from before they had a meaning: the shortest grace there is.
  if ((pod.spec.terminationGracePeriodSeconds ?? 0) < 0) pod.spec.terminationGracePeriodSeconds = 1;
  mergeMatchLabelKeys(pod);
  profilesFromAnnotations(pod);
}

type WithLabelKeys = {
  labelSelector?: LabelSelector;
  matchLabelKeys?: string[];
  mismatchLabelKeys?: string[];
};

/**
 * Label keys become requirements with the pod's own label values, so that the scheduler reads
 * selectors only. Source: KEP-3633, KEP-3243.
 */
function mergeMatchLabelKeys(pod: Pod): void {
  const { affinity, topologySpreadConstraints } = pod.spec;
  for (const rules of [affinity?.podAffinity, affinity?.podAntiAffinity]) {
    for (const { podAffinityTerm } of rules?.preferredDuringSchedulingIgnoredDuringExecution ??
      []) {
      if (podAffinityTerm) mergeKeys(podAffinityTerm, pod);
    }
    for (const term of rules?.requiredDuringSchedulingIgnoredDuringExecution ?? []) {
      mergeKeys(term, pod);
    }
  }
  for (const constraint of topologySpreadConstraints ?? []) mergeKeys(constraint, pod);
}

function mergeKeys(term: WithLabelKeys, pod: Pod): void {
  if (!term.labelSelector) return;
  addRequirements(term.labelSelector, 'In', term.matchLabelKeys, pod);
  addRequirements(term.labelSelector, 'NotIn', term.mismatchLabelKeys, pod);
}

function addRequirements(
  selector: LabelSelector,
  operator: 'In' | 'NotIn',
  keys: readonly string[] | undefined,
  pod: Pod,
): void {
  for (const key of keys ?? []) {
    const value = pod.metadata.labels?.[key];
    if (value === undefined) continue;
    selector.matchExpressions ??= [];
    selector.matchExpressions.push({ key, operator, values: [value] });
  }
}

const APP_ARMOR_PREFIX = 'container.apparmor.security.beta.kubernetes.io/';
const LOCALHOST = 'localhost/';

/** The annotation that came before `securityContext.appArmorProfile` still sets it. */
function profilesFromAnnotations(pod: Pod): void {
  const { annotations } = pod.metadata;
  if (!annotations || pod.spec.os?.name === 'windows') return;
  for (const key of Object.keys(annotations)) {
    if (!key.startsWith(APP_ARMOR_PREFIX)) continue;
    const name = key.slice(APP_ARMOR_PREFIX.length);
    const profile = profileOf(annotations[key] ?? '');
    const container = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].find(
      (candidate) => candidate.name === name,
    );
    if (!container || !profile || container.securityContext?.appArmorProfile) continue;
    const whole = pod.spec.securityContext?.appArmorProfile;
    if (
      whole &&
      whole.type === profile.type &&
      whole.localhostProfile === profile.localhostProfile
    ) {
      continue;
    }
    container.securityContext ??= {};
    container.securityContext.appArmorProfile = profile;
  }
}

function profileOf(text: string): { type: string; localhostProfile?: string } | undefined {
  if (text === '' || text === 'unconfined') return { type: 'Unconfined' };
  if (text === 'runtime/default') return { type: 'RuntimeDefault' };
  if (text.startsWith(LOCALHOST)) {
    return { type: 'Localhost', localhostProfile: text.slice(LOCALHOST.length) };
  }
  return undefined;
}
