import { appsRules } from '#api/apps/apps-rules.ts';
import {
  checkAtMostAll,
  checkCollisions,
  checkCountOrPercent,
  checkReplicaCounts,
  checkSelectorAndTemplate,
  isZeroCount,
} from '#api/apps/workload-validate.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { workloadWarnings } from '#api/core/pod-warnings.ts';
import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, selectorColumn, templateColumns, text } from '#api/meta/columns.ts';
import { ownedStatus, SCALE } from '#api/meta/status-part.ts';
import type { Deployment, KubeObject, PodTemplateSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkNotNegative, sameMeaning } from '#api/validate.ts';

const QUARTER = '25%';

const owned = ownedStatus();

/** Source: apps/v1 Deployment. */
export const deployment = defineKind<Deployment>({
  group: 'apps',
  version: 'v1',
  kind: 'Deployment',
  plural: 'deployments',
  singular: 'deployment',
  shortNames: ['deploy'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1Deployment',
  fieldRules: [appsRules, ...podRules],
  generation: 'spec',
  subresources: { status: { type: 'status', validateUpdate: validateStatus }, scale: SCALE },
  ageColumn: false,
  columns: [
    text(
      'Ready',
      (object) => `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}`,
      'Number of the pod with ready state',
    ),
    count('Up-to-date', 'updatedReplicas'),
    count('Available', 'availableReplicas'),
    AGE,
    ...templateColumns<Deployment>((object) => object.spec?.template as PodTemplateSpec),
    selectorColumn<Deployment>((object) => object.spec?.selector, 'V1DeploymentSpec.selector'),
  ],
  prepareForCreate: owned.prepareForCreate,
  /** Annotations are copied to replica sets, so a change of them is a new generation, too. */
  prepareForUpdate(object, old) {
    owned.prepareForUpdate(object as unknown as KubeObject, old as unknown as KubeObject);
    if (sameMeaning(object.metadata.annotations, old.metadata.annotations)) return;
    object.metadata.generation = (old.metadata.generation ?? 0) + 1;
  },

  defaults(object) {
    object.spec ??= {} as NonNullable<Deployment['spec']>;
    object.status ??= {};
    const { spec } = object;
    spec.replicas ??= 1;
    spec.revisionHistoryLimit ??= 10;
    spec.progressDeadlineSeconds ??= 600;
    spec.strategy ??= {};
    if (!spec.strategy.type) spec.strategy.type = 'RollingUpdate';
    if (spec.strategy.type === 'RollingUpdate') {
      spec.strategy.rollingUpdate ??= {};
      spec.strategy.rollingUpdate.maxUnavailable ??= QUARTER;
      spec.strategy.rollingUpdate.maxSurge ??= QUARTER;
    }
    spec.template ??= {};
    defaultPodTemplate(spec.template);
  },
  warnings: workloadWarnings,
  validate(object) {
    const errors: Errors = [];
    const { spec } = object;
    if (!spec) return errors;
    checkNotNegative(errors, 'spec.replicas', spec.replicas);
    checkSelectorAndTemplate(errors, 'spec', spec, {
      emptySelector: 'empty selector is invalid for deployment',
      deadline: 'forbidden',
    });
    checkStrategy(errors, 'spec.strategy', spec.strategy ?? {});
    checkNotNegative(errors, 'spec.minReadySeconds', spec.minReadySeconds);
    checkNotNegative(errors, 'spec.revisionHistoryLimit', spec.revisionHistoryLimit);
    checkProgress(errors, spec);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec.selector', object.spec?.selector, old.spec?.selector);
    return errors;
  },
});

type Spec = NonNullable<Deployment['spec']>;
type Strategy = NonNullable<Spec['strategy']>;

function checkStrategy(errors: Errors, path: string, strategy: Strategy): void {
  const { type, rollingUpdate } = strategy;
  const at = `${path}.rollingUpdate`;
  if (type === 'Recreate') {
    if (rollingUpdate) {
      errors.push(forbidden(at, "may not be specified when strategy `type` is 'Recreate'"));
    }
  } else if (type !== 'RollingUpdate') {
    errors.push(
      notSupported(path, internalForm('DeploymentStrategy', strategy), [
        'Recreate',
        'RollingUpdate',
      ]),
    );
  } else if (!rollingUpdate) {
    errors.push(required(at, 'this should be defaulted and never be nil'));
  } else {
    const { maxUnavailable, maxSurge } = rollingUpdate;
    checkCountOrPercent(errors, `${at}.maxUnavailable`, maxUnavailable);
    checkCountOrPercent(errors, `${at}.maxSurge`, maxSurge);
    if (isZeroCount(maxUnavailable) && isZeroCount(maxSurge)) {
      const rule = 'may not be 0 when `maxSurge` is 0';
      errors.push(invalid(`${at}.maxUnavailable`, maxUnavailable ?? 0, rule));
    }
    checkAtMostAll(errors, `${at}.maxUnavailable`, maxUnavailable);
  }
}

function checkProgress(errors: Errors, spec: Spec): void {
  const path = 'spec.progressDeadlineSeconds';
  const { progressDeadlineSeconds: seconds, minReadySeconds = 0 } = spec;
  if (seconds === undefined) return;
  checkNotNegative(errors, path, seconds);
  if (seconds <= minReadySeconds) {
    errors.push(invalid(path, seconds, 'must be greater than minReadySeconds'));
  }
}

function validateStatus(object: KubeObject, stored: KubeObject): Errors {
  const errors: Errors = [];
  const { status = {} } = object as unknown as Deployment;
  const { status: before } = stored as unknown as Deployment;
  checkNotNegative(errors, 'status.observedGeneration', status.observedGeneration);
  checkReplicaCounts(errors, status, ['updatedReplicas', 'readyReplicas', 'availableReplicas']);
  checkNotNegative(errors, 'status.unavailableReplicas', status.unavailableReplicas);
  checkCollisions(errors, status.collisionCount, before?.collisionCount);
  return errors;
}

function count(name: string, field: 'updatedReplicas' | 'availableReplicas') {
  return {
    name,
    type: 'string' as const,
    describedBy: `V1DeploymentStatus.${field}`,
    value: (object: Deployment): number => object.status?.[field] ?? 0,
  };
}
