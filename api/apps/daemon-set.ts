import { appsRules } from '#api/apps/apps-rules.ts';
import {
  checkAtMostAll,
  checkCollisions,
  checkCountOrPercent,
  checkSelectorAndTemplate,
  isZeroCount,
} from '#api/apps/workload-validate.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { templateWarnings } from '#api/core/pod-warnings.ts';
import { invalid, notSupported, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import {
  AGE,
  formatMap,
  integer,
  selectorColumn,
  templateColumns,
  text,
} from '#api/meta/columns.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { DaemonSet, KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkNotNegative, sameMeaning } from '#api/validate.ts';

type Spec = NonNullable<DaemonSet['spec']>;

const GENERATION = 'deprecated.daemonset.template.generation';
const COUNTS = [
  'currentNumberScheduled',
  'numberMisscheduled',
  'desiredNumberScheduled',
  'numberReady',
] as const;
const MORE_COUNTS = ['updatedNumberScheduled', 'numberAvailable', 'numberUnavailable'] as const;
const EMPTY = Object.fromEntries(COUNTS.map((field) => [field, 0]));

const { prepareForCreate, prepareForUpdate } = ownedStatus(EMPTY);

/** Source: apps/v1 DaemonSet. */
export const daemonSet = defineKind<DaemonSet>({
  group: 'apps',
  version: 'v1',
  kind: 'DaemonSet',
  plural: 'daemonsets',
  singular: 'daemonset',
  shortNames: ['ds'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1DaemonSet',
  fieldRules: [appsRules, ...podRules],
  generation: 'spec',
  subresources: { status: { type: 'status', validateUpdate: validateStatus } },
  ageColumn: false,
  columns: [
    integer(
      'Desired',
      (object) => object.status?.desiredNumberScheduled ?? 0,
      'V1DaemonSetStatus.desiredNumberScheduled',
    ),
    integer(
      'Current',
      (object) => object.status?.currentNumberScheduled ?? 0,
      'V1DaemonSetStatus.currentNumberScheduled',
    ),
    integer('Ready', (object) => object.status?.numberReady ?? 0, 'V1DaemonSetStatus.numberReady'),
    integer(
      'Up-to-date',
      (object) => object.status?.updatedNumberScheduled ?? 0,
      'V1DaemonSetStatus.updatedNumberScheduled',
    ),
    integer(
      'Available',
      (object) => object.status?.numberAvailable ?? 0,
      'V1DaemonSetStatus.numberAvailable',
    ),
    text(
      'Node Selector',
      (object) => formatMap(object.spec?.template?.spec?.nodeSelector),
      'V1PodSpec.nodeSelector',
    ),
    AGE,
    ...templateColumns<DaemonSet>((object) => object.spec?.template),
    selectorColumn<DaemonSet>((object) => object.spec?.selector, 'V1DaemonSetSpec.selector'),
  ],

  defaults(object) {
    object.spec ??= {} as Spec;
    object.status = { ...EMPTY, ...object.status } as NonNullable<DaemonSet['status']>;
    const { spec } = object;
    spec.template ??= {};
    spec.updateStrategy ??= {};
    if (!spec.updateStrategy.type) spec.updateStrategy.type = 'RollingUpdate';
    if (spec.updateStrategy.type === 'RollingUpdate') {
      spec.updateStrategy.rollingUpdate ??= {};
      spec.updateStrategy.rollingUpdate.maxUnavailable ??= 1;
      spec.updateStrategy.rollingUpdate.maxSurge ??= 0;
    }
    spec.revisionHistoryLimit ??= 10;
    defaultPodTemplate(spec.template);
    if (!object.metadata.annotations?.[GENERATION]) countTemplates(object, 0);
  },
  prepareForCreate(object, author) {
    prepareForCreate?.(object as unknown as KubeObject, author);
    countTemplates(object, 1);
  },
  prepareForUpdate(object, old) {
    prepareForUpdate?.(object as unknown as KubeObject, old as unknown as KubeObject);
    const before = Number(old.metadata.annotations?.[GENERATION] ?? 0);
    const changed = !sameMeaning(object.spec?.template, old.spec?.template);
    countTemplates(object, changed ? before + 1 : before);
  },
  warnings: (object, old) =>
    templateWarnings('spec.template', object.spec?.template, old?.spec?.template),
  validate(object) {
    const errors: Errors = [];
    const { spec } = object;
    if (!spec) return errors;
    checkSelectorAndTemplate(errors, 'spec', spec, {
      emptySelector: 'empty selector is invalid for daemonset',
      deadline: 'invalid',
    });
    checkNotNegative(errors, 'spec.minReadySeconds', spec.minReadySeconds);
    checkStrategy(errors, 'spec.updateStrategy', spec.updateStrategy ?? {});
    checkNotNegative(errors, 'spec.revisionHistoryLimit', spec.revisionHistoryLimit);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec.selector', object.spec?.selector, old.spec?.selector);
    return errors;
  },
});

/** The annotation that numbered templates before metadata.generation did is still kept. */
function countTemplates(object: DaemonSet, generation: number): void {
  object.metadata.annotations = {
    ...object.metadata.annotations,
    [GENERATION]: String(generation),
  };
}

function checkStrategy(
  errors: Errors,
  path: string,
  strategy: NonNullable<Spec['updateStrategy']>,
): void {
  const { type, rollingUpdate } = strategy;
  if (type === 'OnDelete') return;
  if (type !== 'RollingUpdate') {
    errors.push(
      notSupported(path, internalForm('DaemonSetStrategy', strategy), [
        'RollingUpdate',
        'OnDelete',
      ]),
    );
    return;
  }
  const at = `${path}.rollingUpdate`;
  if (!rollingUpdate) {
    errors.push(required(at));
    return;
  }
  const { maxUnavailable, maxSurge } = rollingUpdate;
  checkCountOrPercent(errors, `${at}.maxUnavailable`, maxUnavailable);
  checkCountOrPercent(errors, `${at}.maxSurge`, maxSurge);
  if (isZeroCount(maxUnavailable) && isZeroCount(maxSurge)) {
    const rule = 'cannot be 0 when maxSurge is 0';
    errors.push(invalid(`${at}.maxUnavailable`, maxUnavailable ?? 0, rule));
  }
  if (!isZeroCount(maxUnavailable) && !isZeroCount(maxSurge)) {
    const rule = 'may not be set when maxUnavailable is non-zero';
    errors.push(invalid(`${at}.maxSurge`, maxSurge, rule));
  }
  checkAtMostAll(errors, `${at}.maxUnavailable`, maxUnavailable);
  checkAtMostAll(errors, `${at}.maxSurge`, maxSurge);
}

function validateStatus(object: KubeObject, stored: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as DaemonSet;
  const { status: before } = stored as unknown as DaemonSet;
  if (!status) return errors;
  for (const field of [...COUNTS, ...MORE_COUNTS]) {
    checkNotNegative(errors, `status.${field}`, status[field]);
  }
  checkNotNegative(errors, 'status.observedGeneration', status.observedGeneration);
  checkCollisions(errors, status.collisionCount, before?.collisionCount);
  return errors;
}
