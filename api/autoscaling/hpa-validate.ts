import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { HorizontalPodAutoscaler, KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkNotNegative, POSITIVE, quantitySign } from '#api/validate.ts';
import { isDns1123Label, isPathSegment } from '#api/validate-names.ts';

type Spec = NonNullable<HorizontalPodAutoscaler['spec']>;
type Metric = NonNullable<Spec['metrics']>[number];
type Target = NonNullable<Metric['pods']>['target'];
type Rules = NonNullable<NonNullable<Spec['behavior']>['scaleUp']>;
type Reference = { apiVersion?: string; kind: string; name: string };

const METRIC_TYPES = ['ContainerResource', 'External', 'Object', 'Pods', 'Resource'];
const SOURCES = {
  Object: 'object',
  External: 'external',
  Pods: 'pods',
  Resource: 'resource',
  ContainerResource: 'containerResource',
} as const;
type SourceName = (typeof SOURCES)[keyof typeof SOURCES];

const MAX_STABILIZATION_SECONDS = 3600;
const MAX_PERIOD_SECONDS = 1800;

/** Source: autoscaling/v2 HorizontalPodAutoscalerSpec. */
export function validateHpa(object: HorizontalPodAutoscaler): Errors {
  const errors: Errors = [];
  const spec = object.spec ?? ({} as Spec);
  const { minReplicas, behavior } = spec;
  const maxReplicas = spec.maxReplicas ?? 0;
  if (minReplicas !== undefined && minReplicas < 1) {
    errors.push(invalid('spec.minReplicas', minReplicas, 'must be greater than or equal to 1'));
  }
  if (maxReplicas < 1) {
    errors.push(required('spec.maxReplicas', 'must be set and greater than 0'));
  }
  if (minReplicas !== undefined && maxReplicas < minReplicas) {
    const rule = 'must be greater than or equal to `minReplicas`';
    errors.push(invalid('spec.maxReplicas', maxReplicas, rule));
  }
  const target = spec.scaleTargetRef ?? ({} as Reference);
  checkReference(errors, 'spec.scaleTargetRef', target);
  checkGroup(errors, 'spec.scaleTargetRef.apiVersion', target);
  for (const [i, metric] of (spec.metrics ?? []).entries()) {
    checkMetric(errors, `spec.metrics[${i}]`, metric);
  }
  const counted = (spec.metrics ?? []).some((one) => one.object || one.external);
  if (minReplicas === 0 && !counted) {
    const rule =
      'must specify at least one Object or External metric to support scaling to zero replicas';
    errors.push(forbidden('spec.metrics', rule));
  }
  if (behavior?.scaleUp) checkScaling(errors, 'spec.behavior.scaleUp', behavior.scaleUp);
  if (behavior?.scaleDown) checkScaling(errors, 'spec.behavior.scaleDown', behavior.scaleDown);
  return errors;
}

function checkReference(errors: Errors, path: string, reference: Reference): void {
  for (const field of ['kind', 'name'] as const) {
    const value = reference[field];
    if (!value) errors.push(required(`${path}.${field}`));
    else addInvalid(errors, `${path}.${field}`, value, isPathSegment(value));
  }
}

/** Everything that scales has a group, but the oldest of its kind. */
function checkGroup(errors: Errors, path: string, { apiVersion = '', kind }: Reference): void {
  const parts = apiVersion.split('/');
  if (parts.length > 2) {
    errors.push(invalid(path, apiVersion, `unexpected GroupVersion string: ${apiVersion}`));
  } else if (parts.length < 2 && !(apiVersion === 'v1' && kind === 'ReplicationController')) {
    errors.push(invalid(path, apiVersion, 'apiVersion must specify API group'));
  }
}

function checkMetric(errors: Errors, path: string, metric: Metric): void {
  const type = metric.type ?? '';
  if (!type) errors.push(required(`${path}.type`, 'must specify a metric source type'));
  if (!METRIC_TYPES.includes(type)) {
    errors.push(notSupported(`${path}.type`, type, METRIC_TYPES));
  }
  const present = Object.values(SOURCES).filter((name) => metric[name] != null);
  const first = present[0];
  if (first) checkSource(errors, `${path}.${first}`, first, metric);
  const expected = SOURCES[type as keyof typeof SOURCES] as SourceName | undefined;
  if (!expected) {
    errors.push(notSupported(`${path}.type`, type, METRIC_TYPES));
    return;
  }
  if (!present.includes(expected)) {
    const rule = 'must populate information for the given metric source';
    errors.push(required(`${path}.${expected}`, rule));
  }
  if (present.length === 1) return;
  for (const name of present) {
    if (name === expected) continue;
    errors.push(forbidden(`${path}.${name}`, 'must populate the given metric source only'));
  }
}

function checkSource(errors: Errors, at: string, name: SourceName, metric: Metric): void {
  const target = (metric[name]?.target ?? {}) as Target;
  const to = `${at}.target`;
  switch (name) {
    case 'object':
      checkReference(errors, `${at}.describedObject`, metric.object?.describedObject as Reference);
      checkMetricName(errors, at, metric.object?.metric?.name);
      checkTarget(errors, to, target);
      if (target.value === undefined && target.averageValue === undefined) {
        const rule = 'must set either a target value or averageValue';
        errors.push(required(`${to}.averageValue`, rule));
      }
      break;
    case 'external':
      checkMetricName(errors, at, metric.external?.metric?.name);
      checkTarget(errors, to, target);
      if (target.value === undefined && target.averageValue === undefined) {
        const rule = 'must set either a target value for metric or a per-pod target';
        errors.push(required(`${to}.averageValue`, rule));
      }
      if (target.value !== undefined && target.averageValue !== undefined) {
        const rule = 'may not set both a target value for metric and a per-pod target';
        errors.push(forbidden(`${to}.value`, rule));
      }
      break;
    case 'pods':
      checkMetricName(errors, at, metric.pods?.metric?.name);
      checkTarget(errors, to, target);
      if (target.averageValue === undefined) {
        const rule = 'must specify a positive target averageValue';
        errors.push(required(`${to}.averageValue`, rule));
      }
      break;
    case 'containerResource': {
      const container = metric.containerResource?.container;
      if (!container) errors.push(required(`${at}.container`, 'must specify a container'));
      else addInvalid(errors, `${at}.container`, container, isDns1123Label(container));
      checkResource(errors, at, metric.containerResource?.name, target);
      break;
    }
    case 'resource':
      checkResource(errors, at, metric.resource?.name, target);
      break;
    default:
  }
}

function checkResource(errors: Errors, at: string, name: string | undefined, target: Target): void {
  const to = `${at}.target`;
  if (!name) errors.push(required(`${at}.name`, 'must specify a resource name'));
  checkTarget(errors, to, target);
  if (target.averageUtilization === undefined && target.averageValue === undefined) {
    const rule = 'must set either a target raw value or a target utilization';
    errors.push(required(`${to}.averageUtilization`, rule));
  }
  if (target.averageUtilization !== undefined && target.averageValue !== undefined) {
    const rule = 'may not set both a target raw value and a target utilization';
    errors.push(forbidden(`${to}.averageValue`, rule));
  }
}

function checkMetricName(errors: Errors, at: string, name: string | undefined): void {
  if (!name) errors.push(required(`${at}.metric.name`, 'must specify a metric name'));
  else addInvalid(errors, `${at}.metric.name`, name, isPathSegment(name));
}

function checkTarget(errors: Errors, to: string, target: Target): void {
  const { type, value, averageValue, averageUtilization } = target;
  if (!type) errors.push(required(`${to}.type`, 'must specify a metric target type'));
  if (!['Utilization', 'Value', 'AverageValue'].includes(type)) {
    const rule = 'must be either Utilization, Value, or AverageValue';
    errors.push(invalid(`${to}.type`, type ?? '', rule));
  }
  if (value !== undefined && quantitySign(value) <= 0) {
    errors.push(invalid(`${to}.value`, value, 'must be positive'));
  }
  if (averageValue !== undefined && quantitySign(averageValue) <= 0) {
    errors.push(invalid(`${to}.averageValue`, averageValue, 'must be positive'));
  }
  if (averageUtilization !== undefined && averageUtilization < 1) {
    errors.push(invalid(`${to}.averageUtilization`, averageUtilization, 'must be greater than 0'));
  }
}

function checkScaling(errors: Errors, path: string, rules: Rules): void {
  const window = rules.stabilizationWindowSeconds;
  const at = `${path}.stabilizationWindowSeconds`;
  if (window !== undefined && window < 0) {
    errors.push(invalid(at, window, 'must be greater than or equal to zero'));
  }
  if (window !== undefined && window > MAX_STABILIZATION_SECONDS) {
    const rule = `must be less than or equal to ${MAX_STABILIZATION_SECONDS}`;
    errors.push(invalid(at, window, rule));
  }
  if (rules.selectPolicy !== undefined) {
    checkEnum(errors, `${path}.selectPolicy`, rules.selectPolicy, ['Disabled', 'Max', 'Min']);
  }
  const policies = rules.policies ?? [];
  if (policies.length === 0) {
    errors.push(required(`${path}.policies`, 'must specify at least one Policy'));
  }
  for (const [i, policy] of policies.entries()) {
    const to = `${path}.policies[${i}]`;
    checkEnum(errors, `${to}.type`, policy.type, ['Percent', 'Pods']);
    if ((policy.value ?? 0) <= 0) errors.push(invalid(`${to}.value`, policy.value ?? 0, POSITIVE));
    const period = policy.periodSeconds ?? 0;
    if (period <= 0) errors.push(invalid(`${to}.periodSeconds`, period, POSITIVE));
    if (period > MAX_PERIOD_SECONDS) {
      const rule = `must be less than or equal to ${MAX_PERIOD_SECONDS}`;
      errors.push(invalid(`${to}.periodSeconds`, period, rule));
    }
  }
  if (rules.tolerance !== undefined && quantitySign(rules.tolerance) < 0) {
    const rule = 'must be greater or equal to 0';
    errors.push(invalid(`${path}.tolerance`, rules.tolerance, rule));
  }
}

export function validateHpaStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as HorizontalPodAutoscaler;
  checkNotNegative(errors, 'status.currentReplicas', status?.currentReplicas);
  checkNotNegative(errors, 'status.desiredReplicas', status?.desiredReplicas);
  return errors;
}
