import { isDeepStrictEqual } from 'node:util';
import { formatQuantity, milliQuantity, parseQuantity, quantityMilli } from '#api/quantity.ts';
import { formatTime } from '#api/time.ts';
import type { HorizontalPodAutoscaler, Pod, Scale } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Resource } from '#client/api.ts';
import type { EventNote } from '#client/events.ts';
import { horizontalPodAutoscalers } from '#client/resources.ts';
import {
  limitReplicas,
  recordFirst,
  recordRecommendation,
  recordScaling,
  type ScaleHistory,
} from '#controllers/autoscaler-limits.ts';
import {
  MetricError,
  type ReplicaAnswer,
  replicasFor,
  type ResourceTarget,
  type Uses,
} from '#controllers/autoscaler-replicas.ts';
import {
  judgeValue,
  type Judged,
  type Reading,
  type Reasoned,
  type Situation,
} from '#controllers/autoscaler-values.ts';

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
type Status = NonNullable<HorizontalPodAutoscaler['status']>;
type Condition = NonNullable<Status['conditions']>[number];
type MetricSpec = NonNullable<Spec['metrics']>[number];
type MetricStatus = NonNullable<Status['currentMetrics']>[number];

export type AutoscalerWorld = {
  autoscaler: HorizontalPodAutoscaler;
  /** The target's scale, or why it could not be read. */
  target: { resource: Resource; scale: Scale } | { error: string };
  pods: readonly Pod[];
  /** Use of a resource by each pod (of one container, if named), or why it is not known. */
  usesOf(resource: string, container?: string): Uses | { error: string };
  /** What adapters answered, per metric of the spec; unset for metrics of resources. */
  readings: readonly (Reading | undefined)[];
  history: ScaleHistory;
};

export type AutoscalerPlan = {
  actions: Action[];
  history: ScaleHistory;
  /** Written when the actions went well; see `statusAction`. */
  draft: Draft;
};

/** Status under construction. */
export type Draft = {
  conditions: Condition[];
  currentReplicas: number;
  desiredReplicas: number;
  currentMetrics: MetricStatus[] | undefined;
  rescaled: boolean;
};

const DEFAULT_TOLERANCE = 0.1;

/** What an autoscaler does now. Pure. Reasons and messages are upstream's. */
export function planAutoscaler(world: AutoscalerWorld, now: number): AutoscalerPlan {
  const { autoscaler, target } = world;
  const draft: Draft = {
    conditions: [...(autoscaler.status?.conditions ?? [])],
    currentReplicas: autoscaler.status?.currentReplicas ?? 0,
    desiredReplicas: autoscaler.status?.desiredReplicas ?? 0,
    currentMetrics: autoscaler.status?.currentMetrics,
    rescaled: false,
  };
  const plan: AutoscalerPlan = { actions: [], history: world.history, draft };
  if ('error' in target) {
    const message = `the HPA controller was unable to get the target's current scale: ${target.error}`;
    setCondition(draft, now, ['AbleToScale', 'False', 'FailedGetScale', message]);
    plan.actions.push(warn(autoscaler, 'FailedGetScale', target.error));
    return plan;
  }
  const got = "the HPA controller was able to get the target's current scale";
  setCondition(draft, now, ['AbleToScale', 'True', 'SucceededGetScale', got]);
  const current = target.scale.spec?.replicas ?? 0;
  draft.currentReplicas = current;
  draft.desiredReplicas = current;
  plan.history = recordFirst(plan.history, now, current);
  const decision = decide(world, plan, current, now);
  if (!decision) return plan;
  draft.desiredReplicas = decision.replicas;
  if (decision.replicas !== current) rescale(world, plan, { ...decision, current, now });
  return plan;
}

type Decision = { replicas: number; why: string };

/** Undefined: the metrics do not allow any decision. */
function decide(
  world: AutoscalerWorld,
  plan: AutoscalerPlan,
  current: number,
  now: number,
): Decision | undefined {
  const min = world.autoscaler.spec?.minReplicas ?? 1;
  const max = world.autoscaler.spec?.maxReplicas ?? 1;
  if (current === 0 && min !== 0) {
    const message = 'scaling is disabled since the replica count of the target is zero';
    setCondition(plan.draft, now, ['ScalingActive', 'False', 'ScalingDisabled', message]);
    return { replicas: 0, why: '' };
  }
  if (current > max) {
    return { replicas: max, why: 'Current number of replicas above Spec.MaxReplicas' };
  }
  if (current < min) {
    return { replicas: min, why: 'Current number of replicas below Spec.MinReplicas' };
  }
  const proposal = propose(world, plan, current, now);
  if (!proposal) return undefined;
  const behavior = world.autoscaler.spec?.behavior;
  const desired = proposal.replicas;
  const { history } = plan;
  const limited = limitReplicas({ current, desired, min, max, behavior, history, now });
  plan.history = recordRecommendation(history, now, desired);
  const {
    reason: able = 'ReadyForNewScale',
    message: ableText = 'recommended size matches current size',
  } = limited.stabilized ?? {};
  setCondition(plan.draft, now, ['AbleToScale', 'True', able, ableText]);
  const { reason, message } = limited.limited ?? {
    reason: 'DesiredWithinRange',
    message: 'the desired count is within the acceptable range',
  };
  const isLimited = limited.limited ? 'True' : 'False';
  setCondition(plan.draft, now, ['ScalingLimited', isLimited, reason, message]);
  const why = desired > current ? `${proposal.metric} above target` : 'All metrics below target';
  return { replicas: limited.replicas, why };
}

function rescale(
  { autoscaler, target }: AutoscalerWorld,
  plan: AutoscalerPlan,
  { replicas, why, current, now }: Decision & { current: number; now: number },
): void {
  if ('error' in target) return;
  const { scale, resource } = target;
  const success = `New size: ${replicas}; reason: ${why}`;
  const failure = `New size: ${replicas}; reason: ${why}; error: {error}`;
  plan.actions.push({
    type: 'update',
    resource,
    subresource: 'scale',
    object: { ...scale, spec: { ...scale.spec, replicas } },
    announce: {
      about: autoscaler,
      success: { type: 'Normal', reason: 'SuccessfulRescale', message: success },
      failure: { type: 'Warning', reason: 'FailedRescale', message: failure },
    },
  });
  const message = `the HPA controller was able to update the target scale to ${replicas}`;
  setCondition(plan.draft, now, ['AbleToScale', 'True', 'SucceededRescale', message]);
  plan.draft.rescaled = true;
  plan.history = recordScaling(plan.history, now, replicas - current);
}

type Proposal = { replicas: number; metric: string };

/** The largest number that any metric asks for. */
function propose(
  world: AutoscalerWorld,
  plan: AutoscalerPlan,
  current: number,
  now: number,
): Proposal | undefined {
  const { autoscaler, target } = world;
  const { draft, actions } = plan;
  if ('error' in target || !target.scale.status?.selector) {
    const message = "the HPA target's scale is missing a selector";
    setCondition(draft, now, ['ScalingActive', 'False', 'InvalidSelector', message]);
    actions.push(warn(autoscaler, 'SelectorRequired', 'selector is required'));
    return undefined;
  }
  const specs = autoscaler.spec?.metrics ?? [];
  let best: Proposal | undefined;
  const failures: Reasoned[] = [];
  draft.currentMetrics = [];
  const situation: Situation = {
    current,
    statusReplicas: target.scale.status.replicas ?? 0,
    pods: world.pods,
    tolerance: tolerances(autoscaler),
    now,
  };
  for (const [i, spec] of specs.entries()) {
    const answer =
      judgeValue(spec, world.readings[i], situation) ?? judgeMetric(world, spec, situation);
    if ('reason' in answer) {
      failures.push(answer);
      actions.push(warn(autoscaler, answer.reason, answer.message));
      continue;
    }
    draft.currentMetrics.push(answer.status);
    if (!best || answer.replicas > best.replicas) best = answer;
  }
  const [first] = failures;
  // With part of the metrics unknown we may still grow, but never shrink.
  if (first && (!best || best.replicas < current)) {
    const text = `the HPA was unable to compute the replica count: ${first.message}`;
    setCondition(draft, now, ['ScalingActive', 'False', first.reason, text]);
    const counts = `${failures.length} invalid out of ${specs.length}`;
    const message = `invalid metrics (${counts}), first error is: ${first.message}`;
    actions.push(warn(autoscaler, 'FailedComputeMetricsReplicas', message));
    return undefined;
  }
  if (!best) return undefined;
  const text = `the HPA was able to successfully calculate a replica count from ${best.metric}`;
  setCondition(draft, now, ['ScalingActive', 'True', 'ValidMetricFound', text]);
  return best;
}

function judgeMetric(
  world: AutoscalerWorld,
  spec: MetricSpec,
  { current, tolerance, now }: Situation,
): Judged | Reasoned {
  const source = spec.type === 'Resource' ? spec.resource : spec.containerResource;
  const container =
    spec.type === 'ContainerResource' ? spec.containerResource?.container : undefined;
  if (!source) {
    return {
      reason: 'InvalidMetricSourceType',
      message: `a metric of type ${spec.type} must say what it is about`,
    };
  }
  const { name, target } = source;
  const reason = container ? 'FailedGetContainerResourceMetric' : 'FailedGetResourceMetric';
  const wanted =
    target.averageValue === undefined
      ? { utilization: target.averageUtilization ?? 0 }
      : { averageMilli: quantityMilli(parseQuantity(target.averageValue)) };
  const uses = world.usesOf(name, container);
  const what = 'utilization' in wanted ? 'utilization' : 'usage';
  if ('error' in uses) return { reason, message: `failed to get ${name} ${what}: ${uses.error}` };
  const resourceTarget: ResourceTarget = {
    resource: name,
    ...(container ? { container } : {}),
    wanted,
    tolerance,
  };
  try {
    const answer = replicasFor(current, resourceTarget, {
      pods: world.pods,
      uses: uses as Uses,
      now,
    });
    return {
      replicas: answer.replicas,
      metric: metricName(resourceTarget),
      status: statusOf(spec, answer),
    };
  } catch (error) {
    if (!(error instanceof MetricError)) throw error;
    return { reason, message: `failed to get ${name} ${what}: ${error.message}` };
  }
}

function tolerances(autoscaler: HorizontalPodAutoscaler): { up: number; down: number } {
  const share = (text: string | undefined): number =>
    text === undefined ? DEFAULT_TOLERANCE : quantityMilli(parseQuantity(text)) / 1000;
  const { scaleUp, scaleDown } = autoscaler.spec?.behavior ?? {};
  return { up: share(scaleUp?.tolerance), down: share(scaleDown?.tolerance) };
}

function metricName({ resource, container, wanted }: ResourceTarget): string {
  const what = container ? 'container resource' : 'resource';
  return 'utilization' in wanted
    ? `${resource} ${what} utilization (percentage of request)`
    : `${resource} ${what}`;
}

function statusOf(spec: MetricSpec, answer: ReplicaAnswer): MetricStatus {
  const current = {
    ...(answer.utilization === undefined ? {} : { averageUtilization: answer.utilization }),
    averageValue: formatQuantity(milliQuantity(answer.averageMilli)),
  };
  if (spec.containerResource) {
    const { name, container } = spec.containerResource;
    return { type: 'ContainerResource', containerResource: { name, container, current } };
  }
  return { type: 'Resource', resource: { name: spec.resource?.name ?? '', current } };
}

const warn = (about: HorizontalPodAutoscaler, reason: string, message: string): Action => ({
  type: 'event',
  about,
  note: { type: 'Warning', reason, message } satisfies EventNote,
});

function setCondition(
  draft: Draft,
  now: number,
  [type, status, reason, message]: [string, 'True' | 'False', string, string],
): void {
  const before = draft.conditions.find((condition) => condition.type === type);
  const kept = before?.status === status ? before.lastTransitionTime : undefined;
  const lastTransitionTime = kept ?? formatTime(now);
  const next: Condition = { type, status, reason, message, lastTransitionTime };
  draft.conditions = before
    ? draft.conditions.map((condition) => (condition === before ? next : condition))
    : [...draft.conditions, next];
}

/** The status write that a draft calls for, if it changes anything. */
export function statusAction(
  autoscaler: HorizontalPodAutoscaler,
  draft: Draft,
  { failure, now }: { failure?: string | undefined; now: number },
): Action[] {
  if (failure !== undefined) {
    const message = `the HPA controller was unable to update the target scale: ${failure}`;
    setCondition(draft, now, ['AbleToScale', 'False', 'FailedUpdateScale', message]);
  }
  const old = autoscaler.status;
  const { lastScaleTime: scaledBefore } = old ?? {};
  const scaled = draft.rescaled && failure === undefined;
  const lastScaleTime = scaled ? formatTime(now) : scaledBefore;
  const status: Status = {
    ...(lastScaleTime ? { lastScaleTime } : {}),
    currentReplicas: draft.currentReplicas,
    desiredReplicas: failure === undefined ? draft.desiredReplicas : (old?.desiredReplicas ?? 0),
    ...(draft.currentMetrics?.length ? { currentMetrics: draft.currentMetrics } : {}),
    conditions: draft.conditions,
  };
  if (isDeepStrictEqual(plain(status), plain(old))) return [];
  const object = { ...autoscaler, status };
  return [{ type: 'updateStatus', resource: horizontalPodAutoscalers, object }];
}

/** As it looks after a trip over the wire, where zero counts may be left out. */
function plain(status: Partial<Status> | undefined): unknown {
  const { currentReplicas = 0, currentMetrics = [], ...rest } = status ?? {};
  return { currentReplicas, currentMetrics, ...rest };
}
