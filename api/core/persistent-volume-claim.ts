import { defaultClaimSpec, syncDataSources } from '#api/core/claim-defaults.ts';
import { checkCapacity, checkClaimSpec } from '#api/core/claim-spec-validate.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { podSpecRules } from '#api/core/pod-spec-rules.ts';
import { accessModesText } from '#api/core/volume-columns.ts';
import { warnOfFractions } from '#api/core/pod-warnings.ts';
import { warnOfClassAnnotation } from '#api/core/volume-warnings.ts';
import { forbidden } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, UNSET, text, wide } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import { compareQuantity } from '#api/quantity.ts';
import type { KubeObject, PersistentVolumeClaim } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, quantityOf, sameMeaning } from '#api/validate.ts';

type Spec = NonNullable<PersistentVolumeClaim['spec']>;

const FIXED_SPEC =
  'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims';

/** Source: core/v1 PersistentVolumeClaim. */
export const persistentVolumeClaim = defineKind<PersistentVolumeClaim>({
  group: '',
  version: 'v1',
  kind: 'PersistentVolumeClaim',
  plural: 'persistentvolumeclaims',
  singular: 'persistentvolumeclaim',
  shortNames: ['pvc'],
  scope: 'Namespaced',
  schema: 'V1PersistentVolumeClaim',
  fieldRules: [coreRules, podSpecRules, metaRules],
  generation: 'none',
  returnsDeleted: true,
  subresources: { status: { type: 'status', validateUpdate: validateStatus } },
  ageColumn: false,
  columns: [
    text(
      'Status',
      (object) =>
        object.metadata.deletionTimestamp ? 'Terminating' : (object.status?.phase ?? ''),
      'V1PersistentVolumeClaimStatus.phase',
    ),
    text(
      'Volume',
      (object) => object.spec?.volumeName ?? '',
      'V1PersistentVolumeClaimSpec.volumeName',
    ),
    text(
      'Capacity',
      (object) => (object.spec?.volumeName ? (object.status?.capacity?.['storage'] ?? '') : ''),
      'V1PersistentVolumeClaimStatus.capacity',
    ),
    text(
      'Access Modes',
      (object) => (object.spec?.volumeName ? accessModesText(object.status?.accessModes) : ''),
      'V1PersistentVolumeClaimStatus.accessModes',
    ),
    text(
      'StorageClass',
      (object) => object.spec?.storageClassName ?? '',
      'StorageClass of the pvc',
    ),
    text(
      'VolumeAttributesClass',
      (object) => object.spec?.volumeAttributesClassName || UNSET,
      'VolumeAttributesClass of the pvc',
    ),
    AGE,
    wide(
      text(
        'VolumeMode',
        (object) => object.spec?.volumeMode ?? UNSET,
        'V1PersistentVolumeClaimSpec.volumeMode',
      ),
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    if (!object.status.phase) object.status.phase = 'Pending';
    canonicalResources(object.status.capacity);
    canonicalResources(object.status.allocatedResources);
    defaultClaimSpec(object.spec);
  },
  prepareForCreate(object) {
    object.status = { phase: 'Pending' };
    syncDataSources(object.spec ?? {});
  },
  prepareForUpdate(object, old) {
    keepStatus(object as unknown as KubeObject, old as unknown as KubeObject);
    syncDataSources(object.spec ?? {});
  },
  validate(object) {
    const errors: Errors = [];
    checkClaimSpec(errors, 'spec', object.spec ?? {});
    return errors;
  },
  validateUpdate,
  warnings: claimWarnings,
});

function claimWarnings({ metadata, spec }: PersistentVolumeClaim): string[] {
  const found: string[] = [];
  warnOfClassAnnotation(found, metadata);
  warnOfFractions(found, 'spec.resources.requests', spec?.resources?.requests);
  warnOfFractions(found, 'spec.resources.limits', spec?.resources?.limits);
  return found;
}

/** A claim gets its volume once, and may grow when bound. */
function validateUpdate(object: PersistentVolumeClaim, old: PersistentVolumeClaim): Errors {
  const errors: Errors = [];
  const now = object.spec ?? {};
  const before = old.spec ?? {};
  const bound = object.status?.phase === 'Bound';
  if (!sameMeaning(fixedPart(now, before, bound), before)) {
    errors.push(forbidden('spec', FIXED_SPEC));
  }
  const size = quantityOf(now.resources?.requests?.['storage']);
  const stored = quantityOf(before.resources?.requests?.['storage']);
  const given = quantityOf(old.status?.capacity?.['storage']);
  if (compareQuantity(size, stored) < 0 && compareQuantity(size, given) <= 0) {
    const rule = 'field can not be less than status.capacity';
    errors.push(forbidden('spec.resources.requests.storage', rule));
  }
  checkImmutable(errors, 'volumeMode', now.volumeMode, before.volumeMode);
  if (before.volumeAttributesClassName) {
    const path = 'spec.volumeAttributesClassName';
    if (now.volumeAttributesClassName === undefined) {
      errors.push(forbidden(path, 'update from non-nil value to nil is forbidden'));
    } else if (now.volumeAttributesClassName === '') {
      errors.push(forbidden(path, 'update from non-nil value to an empty string is forbidden'));
    }
  }
  return errors;
}

/** The wanted spec with everything that may change put back. */
function fixedPart(now: Spec, before: Spec, bound: boolean): Spec {
  const result: Spec = { ...now };
  if (!before.volumeName) delete result.volumeName;
  if (before.storageClassName === undefined) delete result.storageClassName;
  if (!bound) return result;
  const storage = before.resources?.requests?.['storage'];
  if (now.resources?.requests && storage !== undefined) {
    result.resources = {
      ...now.resources,
      requests: { ...now.resources.requests, storage },
    };
  }
  if (now.volumeAttributesClassName !== undefined) {
    delete result.volumeAttributesClassName;
    if (before.volumeAttributesClassName !== undefined) {
      result.volumeAttributesClassName = before.volumeAttributesClassName;
    }
  }
  return result;
}

function validateStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as PersistentVolumeClaim;
  for (const [name, value] of Object.entries(status?.capacity ?? {})) {
    checkCapacity(errors, `status.capacity[${name}]`, value);
  }
  for (const [name, value] of Object.entries(status?.allocatedResources ?? {})) {
    checkCapacity(errors, `status.allocatedResources[${name}]`, value);
  }
  return errors;
}
