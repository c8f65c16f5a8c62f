import { fitsNodeAffinity } from '#api/node-selector.ts';
import { tolerates } from '#api/tolerations.ts';
import type { DaemonSet, Node, Pod, PodSpec, Taint, Toleration } from '#api/types.ts';
import { podFromTemplate } from '#controllers/pods.ts';
import { REVISION_LABEL } from '#controllers/revisions.ts';

/** Which nodes want a DaemonSet's pod, and what it looks like. Pure. */

const TEMPLATE_GENERATION = 'deprecated.daemonset.template.generation';
const POD_GENERATION = 'pod-template-generation';
const NODE_NAME_FIELD = 'metadata.name';

const NODE = 'node.kubernetes.io';
const exists = (key: string, effect: string): Toleration => ({ key, operator: 'Exists', effect });

/** Daemons stay where others have to go. Source: DaemonSet "Taints and tolerations". */
const TOLERATIONS: readonly Toleration[] = [
  exists(`${NODE}/not-ready`, 'NoExecute'),
  exists(`${NODE}/unreachable`, 'NoExecute'),
  exists(`${NODE}/disk-pressure`, 'NoSchedule'),
  exists(`${NODE}/memory-pressure`, 'NoSchedule'),
  exists(`${NODE}/pid-pressure`, 'NoSchedule'),
  exists(`${NODE}/unschedulable`, 'NoSchedule'),
];
const NETWORK_UNAVAILABLE = exists(`${NODE}/network-unavailable`, 'NoSchedule');

function tolerationsOf(spec: PodSpec): Toleration[] {
  const added = spec.hostNetwork ? [...TOLERATIONS, NETWORK_UNAVAILABLE] : TOLERATIONS;
  const isSame = (a: Toleration, b: Toleration): boolean =>
    a.key === b.key &&
    a.effect === b.effect &&
    (a.operator ?? 'Equal') === b.operator &&
    (a.value ?? '') === (b.value ?? '');
  const own = (spec.tolerations ?? []).filter((one) => !added.some((more) => isSame(one, more)));
  return [...own, ...added];
}

/** Whether a new pod should be there, and whether one that is there may stay. */
export type Verdict = { shouldRun: boolean; mayStay: boolean };

export function judgeNode(set: DaemonSet, node: Node): Verdict {
  const spec = set.spec?.template.spec ?? { containers: [] };
  const isThere = !spec.nodeName || spec.nodeName === node.metadata.name;
  if (!isThere || !fitsNodeAffinity(spec, node)) return { shouldRun: false, mayStay: false };
  const tolerations = tolerationsOf(spec);
  const repelling = (node.spec?.taints ?? []).filter((taint: Taint) =>
    taint.effect === 'PreferNoSchedule' ? false : !tolerates(tolerations, taint),
  );
  return {
    shouldRun: repelling.length === 0,
    mayStay: !repelling.some((taint) => taint.effect === 'NoExecute'),
  };
}

/** The node's pod; it is the scheduler that binds it, because only that knows what fits. */
export function daemonPod(set: DaemonSet, nodeName: string, hash: string): Pod {
  const template = set.spec?.template ?? {};
  const pod = podFromTemplate(template, set);
  const generation = set.metadata.annotations?.[TEMPLATE_GENERATION];
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      labels: {
        ...pod.metadata.labels,
        ...(generation === undefined ? {} : { [POD_GENERATION]: generation }),
        [REVISION_LABEL]: hash,
      },
    },
    spec: {
      ...pod.spec,
      affinity: onNode(pod.spec.affinity, nodeName),
      tolerations: tolerationsOf(pod.spec),
    },
  };
}

type Affinity = NonNullable<PodSpec['affinity']>;

function onNode(affinity: Affinity | undefined, nodeName: string): Affinity {
  const required = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const matchFields = [{ key: NODE_NAME_FIELD, operator: 'In', values: [nodeName] }];
  const terms = required?.nodeSelectorTerms ?? [];
  const nodeSelectorTerms =
    terms.length > 0 ? terms.map((term) => ({ ...term, matchFields })) : [{ matchFields }];
  return {
    ...affinity,
    nodeAffinity: {
      ...affinity?.nodeAffinity,
      requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms },
    },
  };
}

/** The node that a daemon's pod is on or bound for; '' when it does not say. */
export function targetNode(pod: Pod): string {
  if (pod.spec.nodeName) return pod.spec.nodeName;
  const required = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  const [field] = required?.nodeSelectorTerms[0]?.matchFields ?? [];
  return field?.key === NODE_NAME_FIELD ? (field.values?.[0] ?? '') : '';
}
