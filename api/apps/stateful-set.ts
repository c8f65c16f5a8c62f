import { appsRules } from '#api/apps/apps-rules.ts';
import { checkReplicaCounts, checkSelectorAndTemplate } from '#api/apps/workload-validate.ts';
import { checkClaimSpec } from '#api/core/claim-spec-validate.ts';
import { defaultClaimSpec } from '#api/core/claim-defaults.ts';
import { defaultPodTemplate } from '#api/core/pod-defaults.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { templateWarnings, warnOfFractions } from '#api/core/pod-warnings.ts';
import { forbidden, invalid, notSupported } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, templateColumns, text } from '#api/meta/columns.ts';
import { ownedStatus, SCALE } from '#api/meta/status-part.ts';
import type { KubeObject, StatefulSet } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkLabel, checkNotNegative, sameMeaning } from '#api/validate.ts';

type Spec = NonNullable<StatefulSet['spec']>;

const POLICIES = ['Retain', 'Delete'];
const MUTABLE = [
  'replicas',
  'ordinals',
  'template',
  'updateStrategy',
  'revisionHistoryLimit',
  'persistentVolumeClaimRetentionPolicy',
  'minReadySeconds',
] as const;
const FIXED_SPEC =
  "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

const owned = ownedStatus({ replicas: 0, availableReplicas: 0 });

/** A field that upstream does not serve by default. */
function dropDisabled({ spec }: StatefulSet): void {
  delete spec?.updateStrategy?.rollingUpdate?.maxUnavailable;
}

/** Source: apps/v1 StatefulSet. */
export const statefulSet = defineKind<StatefulSet>({
  group: 'apps',
  version: 'v1',
  kind: 'StatefulSet',
  plural: 'statefulsets',
  singular: 'statefulset',
  shortNames: ['sts'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1StatefulSet',
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
    AGE,
    ...templateColumns<StatefulSet>((object) => object.spec?.template),
  ],
  prepareForCreate(object, author) {
    owned.prepareForCreate(object as unknown as KubeObject, author);
    dropDisabled(object);
  },
  prepareForUpdate(object, old) {
    owned.prepareForUpdate(object as unknown as KubeObject, old as unknown as KubeObject);
    dropDisabled(object);
  },

  defaults(object) {
    object.spec ??= {} as Spec;
    object.status ??= { replicas: 0 };
    object.status.replicas ??= 0;
    object.status.availableReplicas ??= 0;
    const { spec } = object;
    spec.serviceName ??= '';
    spec.template ??= {};
    if (!spec.podManagementPolicy) spec.podManagementPolicy = 'OrderedReady';
    spec.updateStrategy ??= {};
    if (!spec.updateStrategy.type) spec.updateStrategy.type = 'RollingUpdate';
    if (spec.updateStrategy.type === 'RollingUpdate') {
      spec.updateStrategy.rollingUpdate ??= {};
      spec.updateStrategy.rollingUpdate.partition ??= 0;
    }
    spec.persistentVolumeClaimRetentionPolicy ??= {};
    const retention = spec.persistentVolumeClaimRetentionPolicy;
    if (!retention.whenDeleted) retention.whenDeleted = 'Retain';
    if (!retention.whenScaled) retention.whenScaled = 'Retain';
    spec.replicas ??= 1;
    spec.revisionHistoryLimit ??= 10;
    defaultPodTemplate(spec.template);
    for (const claim of spec.volumeClaimTemplates ?? []) {
      claim.apiVersion ??= 'v1';
      claim.kind ??= 'PersistentVolumeClaim';
      claim.metadata ??= {};
      claim.spec ??= {};
      claim.status ??= {};
      claim.status.phase ??= 'Pending';
      defaultClaimSpec(claim.spec);
    }
  },
  warnings(object, old) {
    const { spec } = object;
    const found = templateWarnings('spec.template', spec?.template, old?.spec?.template);
    for (const [i, claim] of (spec?.volumeClaimTemplates ?? []).entries()) {
      const at = `spec.volumeClaimTemplates[${i}].resources`;
      warnOfFractions(found, `${at}.requests`, claim.spec?.resources?.requests);
      warnOfFractions(found, `${at}.limits`, claim.spec?.resources?.limits);
    }
    return found;
  },
  validate(object) {
    const errors: Errors = [];
    const { spec } = object;
    if (!spec) return errors;
    checkPolicies(errors, spec);
    checkNotNegative(errors, 'spec.replicas', spec.replicas);
    checkNotNegative(errors, 'spec.minReadySeconds', spec.minReadySeconds);
    checkNotNegative(errors, 'spec.ordinals.start', spec.ordinals?.start);
    if (spec.serviceName) checkLabel(errors, 'spec.serviceName', spec.serviceName);
    checkSelectorAndTemplate(errors, 'spec', withClaimVolumes(spec), {
      emptySelector: 'empty selector is invalid for statefulset',
      deadline: 'invalid',
    });
    return errors;
  },
  validateCreate(object) {
    const errors: Errors = [];
    for (const [i, { spec }] of (object.spec?.volumeClaimTemplates ?? []).entries()) {
      checkClaimSpec(errors, `spec.volumeClaimTemplates[${i}].spec`, spec ?? {});
    }
    return errors;
  },
  validateUpdate(object, old) {
    const fixed = (spec: Spec | undefined) => {
      const rest: Record<string, unknown> = { ...spec };
      for (const field of MUTABLE) delete rest[field];
      return rest;
    };
    if (sameMeaning(fixed(object.spec), fixed(old.spec))) return [];
    return [forbidden('spec', FIXED_SPEC)];
  },
});

function checkPolicies(errors: Errors, spec: Spec): void {
  const { podManagementPolicy, updateStrategy = {} } = spec;
  if (podManagementPolicy !== 'OrderedReady' && podManagementPolicy !== 'Parallel') {
    const rule = "must be 'OrderedReady' or 'Parallel'";
    errors.push(invalid('spec.podManagementPolicy', podManagementPolicy, rule));
  }
  const path = 'spec.updateStrategy';
  const { type, rollingUpdate } = updateStrategy;
  if (type === 'OnDelete') {
    if (rollingUpdate) {
      const rule = "only allowed for updateStrategy 'RollingUpdate'";
      errors.push(
        invalid(`${path}.rollingUpdate`, internalForm('RollingStatefulSet', rollingUpdate), rule),
      );
    }
  } else if (type === 'RollingUpdate') {
    checkNotNegative(errors, `${path}.rollingUpdate.partition`, rollingUpdate?.partition);
  } else
    errors.push(
      invalid(
        path,
        internalForm('StatefulSetStrategy', updateStrategy),
        "must be 'RollingUpdate' or 'OnDelete'",
      ),
    );
  for (const field of ['whenDeleted', 'whenScaled'] as const) {
    const value = spec.persistentVolumeClaimRetentionPolicy?.[field] ?? '';
    if (!POLICIES.includes(value)) {
      const at = `spec.persistentVolumeClaimRetentionPolicy.${field}`;
      errors.push(notSupported(at, value, POLICIES));
    }
  }
}

/** Claims become volumes of each pod, so that its containers may mount them. */
function withClaimVolumes(spec: Spec): Spec {
  const claims = spec.volumeClaimTemplates ?? [];
  const podSpec = spec.template?.spec;
  if (claims.length === 0 || !podSpec) return spec;
  const own = podSpec.volumes ?? [];
  const names = new Set(claims.map(({ metadata }) => metadata?.name ?? ''));
  const volumes = [
    ...own.filter(({ name }) => !names.has(name)),
    ...[...names]
      .filter((name) => name !== '')
      .map((name) => ({ name, persistentVolumeClaim: { claimName: name } })),
  ];
  return { ...spec, template: { ...spec.template, spec: { ...podSpec, volumes } } };
}

function validateStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as StatefulSet;
  if (!status) return errors;
  checkReplicaCounts(errors, status, [
    'readyReplicas',
    'currentReplicas',
    'updatedReplicas',
    'availableReplicas',
  ]);
  checkNotNegative(errors, 'status.observedGeneration', status.observedGeneration);
  checkNotNegative(errors, 'status.collisionCount', status.collisionCount);
  return errors;
}
