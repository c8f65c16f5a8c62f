import type { HorizontalPodAutoscaler, Pod } from '#api/types.ts';
import { formatQuantity, milliQuantity, parseQuantity, quantityMilli } from '#api/quantity.ts';
import { MetricError, replicasFor, type Uses } from '#controllers/autoscaler-replicas.ts';
import { isReady } from '#controllers/pods.ts';

/** What metrics of adapters (Pods, Object, External) ask for. Pure. */

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
type MetricSpec = NonNullable<Spec['metrics']>[number];
type MetricStatus = NonNullable<
  NonNullable<HorizontalPodAutoscaler['status']>['currentMetrics']
>[number];
type Target = NonNullable<MetricSpec['object']>['target'];

/** What an adapter answered: a value of each pod, one of the whole, or why there is none. */
export type Reading = { uses: Uses } | { milli: number } | { error: string };

export type Situation = {
  /** Replicas as the target's spec and status have them. */
  current: number;
  statusReplicas: number;
  pods: readonly Pod[];
  tolerance: { up: number; down: number };
  now: number;
};

export type Judged = { replicas: number; metric: string; status: MetricStatus };
export type Reasoned = { reason: string; message: string };

/** Undefined for metrics of resources, which are not read from an adapter. */
export function judgeValue(
  spec: MetricSpec,
  reading: Reading | undefined,
  situation: Situation,
): Judged | Reasoned | undefined {
  const read = reading ?? { error: 'the metric was not read' };
  try {
    switch (spec.type) {
      case 'Pods':
        return spec.pods && judgePods(spec.pods, read, situation);
      case 'Object':
        return spec.object && judgeObject(spec.object, read, situation);
      case 'External':
        return spec.external && judgeExternal(spec.external, read, situation);
      default:
        return undefined;
    }
  } catch (error) {
    if (!(error instanceof MetricError)) throw error;
    return { reason: `FailedGet${spec.type}Metric`, message: error.message };
  }
}

function judgePods(
  { metric, target }: NonNullable<MetricSpec['pods']>,
  reading: Reading,
  { current, pods, tolerance, now }: Situation,
): Judged {
  const failed = (why: string): MetricError =>
    new MetricError(`failed to get pods metric value: unable to get metric ${metric.name}: ${why}`);
  if (!('uses' in reading)) throw failed('error' in reading ? reading.error : 'no value per pod');
  const wanted = { averageMilli: milliOf(target.averageValue) };
  // Named by no resource: a young pod's own metric counts from the beginning.
  const question = { resource: '', wanted, tolerance };
  const answer = replicasFor(current, question, { pods, uses: reading.uses, now });
  return {
    replicas: answer.replicas,
    metric: `pods metric ${metric.name}`,
    status: { type: 'Pods', pods: { metric, current: average(answer.averageMilli) } },
  };
}

function judgeObject(
  { metric, target, describedObject }: NonNullable<MetricSpec['object']>,
  reading: Reading,
  situation: Situation,
): Judged {
  if (!('milli' in reading)) {
    const why = 'error' in reading ? reading.error : 'no value';
    const on = `${describedObject.kind}.${describedObject.name}`;
    throw new MetricError(
      `failed to get object metric value: unable to get metric ${metric.name}: on ${on}: ${why}`,
    );
  }
  const { replicas, current } = sharedValue(target, reading.milli, situation);
  return {
    replicas,
    metric: `${describedObject.kind} metric ${metric.name}`,
    status: { type: 'Object', object: { metric, describedObject, current } },
  };
}

function judgeExternal(
  { metric, target }: NonNullable<MetricSpec['external']>,
  reading: Reading,
  situation: Situation,
): Judged {
  if (!('milli' in reading)) {
    const why = 'error' in reading ? reading.error : 'no value';
    throw new MetricError(
      `failed to get ${metric.name} external metric value: unable to get external metric ${metric.name}: ${why}`,
    );
  }
  const { replicas, current } = sharedValue(target, reading.milli, situation);
  return {
    replicas,
    metric: `external metric ${metric.name}`,
    status: { type: 'External', external: { metric, current } },
  };
}

type Shared = { replicas: number; current: { value?: string; averageValue?: string } };

/** One value for all pods together: held against a total, or against an amount for each pod. */
function sharedValue(target: Target, milli: number, situation: Situation): Shared {
  const { current, statusReplicas } = situation;
  if (target.averageValue !== undefined) {
    const each = milliOf(target.averageValue);
    const ratio = milli / (each * statusReplicas);
    const replicas = isTolerable(ratio, situation) ? statusReplicas : Math.ceil(milli / each);
    const share = statusReplicas === 0 ? 0 : Math.ceil(milli / statusReplicas);
    return { replicas, current: average(share) };
  }
  const ratio = milli / milliOf(target.value);
  const value = formatQuantity(milliQuantity(milli));
  if (current === 0) return { replicas: Math.ceil(ratio), current: { value } };
  if (isTolerable(ratio, situation)) return { replicas: current, current: { value } };
  const ready = situation.pods.filter((pod) => pod.status?.phase === 'Running' && isReady(pod));
  if (situation.pods.length === 0) {
    throw new MetricError('unable to calculate ready pods: no pods returned by selector');
  }
  return { replicas: Math.ceil(ratio * ready.length), current: { value } };
}

const isTolerable = (ratio: number, { tolerance }: Situation): boolean =>
  1 - tolerance.down <= ratio && ratio <= 1 + tolerance.up;

/** Validation demands a positive quantity. */
const milliOf = (text: string | undefined): number => quantityMilli(parseQuantity(text ?? '1'));

const average = (milli: number): { averageValue: string } => ({
  averageValue: formatQuantity(milliQuantity(milli)),
});
