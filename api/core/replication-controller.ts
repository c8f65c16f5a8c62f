import { checkReplicaCounts } from '#api/apps/workload-validate.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { checkPodTemplate, checkRestartAlways } from '#api/core/pod-validate.ts';
import { workloadWarnings } from '#api/core/pod-warnings.ts';
import { forbidden, invalid, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, formatMap, integer, templateColumns, text, wide } from '#api/meta/columns.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { KubeObject, ReplicationController } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkNotNegative } from '#api/validate.ts';

type Spec = NonNullable<ReplicationController['spec']>;

/** Source: core/v1 ReplicationController. */
export const replicationController = defineKind<ReplicationController>({
  group: '',
  version: 'v1',
  kind: 'ReplicationController',
  plural: 'replicationcontrollers',
  singular: 'replicationcontroller',
  shortNames: ['rc'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1ReplicationController',
  fieldRules: podRules,
  generation: 'spec',
  orphanByDefault: true,
  subresources: {
    status: { type: 'status', validateUpdate: validateStatus },
    scale: {
      type: 'scale',
      specReplicasPath: '.spec.replicas',
      statusReplicasPath: '.status.replicas',
      selector: (object) => {
        const { selector } = (object['spec'] ?? {}) as Spec;
        return selector ? formatMap(selector) : '';
      },
    },
  },
  selectableFields: { 'status.replicas': (object) => String(object.status?.replicas ?? 0) },
  ageColumn: false,
  columns: [
    integer(
      'Desired',
      (object) => object.spec?.replicas ?? 0,
      'V1ReplicationControllerSpec.replicas',
    ),
    integer(
      'Current',
      (object) => object.status?.replicas ?? 0,
      'V1ReplicationControllerStatus.replicas',
    ),
    integer(
      'Ready',
      (object) => object.status?.readyReplicas ?? 0,
      'V1ReplicationControllerStatus.readyReplicas',
    ),
    AGE,
    ...templateColumns<ReplicationController>((object) => object.spec?.template),
    wide(
      text(
        'Selector',
        (object) => formatMap(object.spec?.selector),
        'V1ReplicationControllerSpec.selector',
      ),
    ),
  ],
  ...ownedStatus({ replicas: 0 }),

  defaults(object) {
    object.spec ??= {};
    object.status ??= { replicas: 0 };
    object.status.replicas ??= 0;
    const { spec, metadata } = object;
    const labels = spec.template?.metadata?.labels;
    // The oldest controller reads its selector and labels off its template.
    if (labels) {
      if (!Object.keys(spec.selector ?? {}).length) spec.selector = { ...labels };
      if (!Object.keys(metadata.labels ?? {}).length) metadata.labels = { ...labels };
    }
    spec.replicas ??= 1;
    if (spec.template) defaultPodTemplate(spec.template);
  },
  warnings: workloadWarnings,
  validate(object) {
    const errors: Errors = [];
    const { spec } = object;
    if (!spec) return errors;
    checkNotNegative(errors, 'spec.minReadySeconds', spec.minReadySeconds);
    const selector = Object.entries(spec.selector ?? {});
    if (selector.length === 0) errors.push(required('spec.selector'));
    checkNotNegative(errors, 'spec.replicas', spec.replicas);
    const { template } = spec;
    if (!template) {
      errors.push(required('spec.template'));
      return errors;
    }
    const labels = template.metadata?.labels ?? {};
    if (selector.some(([key, value]) => labels[key] !== value)) {
      const rule = '`selector` does not match template `labels`';
      errors.push(
        invalid('spec.template.metadata.labels', template.metadata?.labels ?? null, rule),
      );
    }
    checkPodTemplate(errors, 'spec.template', template);
    checkRestartAlways(errors, 'spec.template', template.spec);
    if (template.spec?.activeDeadlineSeconds !== undefined) {
      errors.push(
        forbidden(
          'spec.template.spec.activeDeadlineSeconds',
          'activeDeadlineSeconds in ReplicationController is not Supported',
        ),
      );
    }
    return errors;
  },
});

function validateStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as ReplicationController;
  if (!status) return errors;
  checkReplicaCounts(errors, status, [
    'fullyLabeledReplicas',
    'readyReplicas',
    'availableReplicas',
  ]);
  return errors;
}
