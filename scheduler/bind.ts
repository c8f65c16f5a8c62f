import type { Pod, PodCondition } from '#api/types.ts';
import { isStatusError } from '#api/status.ts';
import type { Api } from '#client/api.ts';
import { pods } from '#client/resources.ts';

const keyOf = (pod: Pod) => ({
  namespace: pod.metadata.namespace ?? '',
  name: pod.metadata.name ?? '',
});

/** The one write of a successful cycle. The uid guards against a pod of the same name made anew. */
export async function bind(
  api: Api,
  pod: Pod,
  node: string,
  options: { signal: AbortSignal },
): Promise<void> {
  const { name, namespace, uid } = pod.metadata;
  await api.post(
    pods,
    keyOf(pod),
    'binding',
    {
      apiVersion: 'v1',
      kind: 'Binding',
      metadata: { name, namespace, uid },
      target: { apiVersion: 'v1', kind: 'Node', name: node },
    },
    options,
  );
}

export type Unscheduled = {
  /** Unschedulable, SchedulerError or SchedulingGated. */
  reason: string;
  message: string;
  nominatedNodeName?: string;
  nowIso: string;
};

/**
 * Says in the pod's status why it has no node. Nothing is written when it already says so, and a
 * pod that is gone meanwhile is no error.
 */
export async function reportUnscheduled(
  api: Api,
  pod: Pod,
  why: Unscheduled,
  options: { signal: AbortSignal },
): Promise<void> {
  const old = pod.status?.conditions?.find((c) => c.type === 'PodScheduled');
  const nominated = why.nominatedNodeName ?? pod.status?.nominatedNodeName;
  const unchanged =
    old?.status === 'False' && old.reason === why.reason && old.message === why.message;
  if (unchanged && nominated === pod.status?.nominatedNodeName) return;
  const condition: PodCondition = {
    type: 'PodScheduled',
    status: 'False',
    reason: why.reason,
    message: why.message,
    lastTransitionTime:
      old?.status === 'False' && old.lastTransitionTime ? old.lastTransitionTime : why.nowIso,
    ...(pod.metadata.generation === undefined
      ? {}
      : { observedGeneration: pod.metadata.generation }),
  };
  try {
    await api.patch(
      pods,
      keyOf(pod),
      {
        type: 'strategic',
        body: {
          metadata: { uid: pod.metadata.uid },
          status: {
            conditions: [condition],
            ...(nominated === undefined ? {} : { nominatedNodeName: nominated }),
          },
        },
      },
      { subresource: 'status', ...options },
    );
  } catch (error) {
    if (!isStatusError(error, 'NotFound') && !isStatusError(error, 'Conflict')) throw error;
  }
}

/** Removes a pod in favour of a more important one; its status says so first. */
export async function evictVictim(
  api: Api,
  victim: Pod,
  preemptor: Pod,
  options: { signal: AbortSignal; nowIso: string },
): Promise<void> {
  const { signal, nowIso } = options;
  const condition: PodCondition = {
    type: 'DisruptionTarget',
    status: 'True',
    reason: 'PreemptionByScheduler',
    message: `${preemptor.spec.schedulerName}: preempting to accommodate a higher priority pod`,
    lastTransitionTime: nowIso,
  };
  try {
    await api.patch(
      pods,
      keyOf(victim),
      { type: 'strategic', body: { status: { conditions: [condition] } } },
      { subresource: 'status', signal },
    );
    const uid = victim.metadata.uid;
    await api.delete(pods, keyOf(victim), {
      signal,
      ...(uid === undefined ? {} : { preconditions: { uid } }),
    });
  } catch (error) {
    if (!isStatusError(error, 'NotFound') && !isStatusError(error, 'Conflict')) throw error;
  }
}
