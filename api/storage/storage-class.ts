import { duplicate, invalid, required, tooLong } from '#api/field-error.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { storageRules } from '#api/storage/storage-rules.ts';
import type { StorageClass } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkImmutable, checkQualifiedName, sameValue } from '#api/validate.ts';

const MAX_PARAMETERS = 512;
const MAX_PARAMETER_BYTES = 256 * 1024;

/** Source: storage.k8s.io/v1 StorageClass. */
export const storageClass = defineKind<StorageClass>({
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'StorageClass',
  plural: 'storageclasses',
  singular: 'storageclass',
  shortNames: ['sc'],
  scope: 'Cluster',
  schema: 'V1StorageClass',
  fieldRules: [storageRules, coreRules, metaRules],
  generation: 'none',
  returnsDeleted: true,
  columns: [
    text('Provisioner', (object) => object.provisioner ?? '', 'V1StorageClass.provisioner'),
    text(
      'ReclaimPolicy',
      (object) => object.reclaimPolicy ?? 'Delete',
      'V1StorageClass.reclaimPolicy',
    ),
    text(
      'VolumeBindingMode',
      (object) => object.volumeBindingMode ?? UNSET,
      'V1StorageClass.volumeBindingMode',
    ),
    text(
      'AllowVolumeExpansion',
      (object) => String(object.allowVolumeExpansion ?? false),
      'V1StorageClass.allowVolumeExpansion',
    ),
  ],

  defaults(object) {
    object.provisioner ??= '';
    object.reclaimPolicy ??= 'Delete';
    object.volumeBindingMode ??= 'Immediate';
  },
  validate(object) {
    const errors: Errors = [];
    if (!object.provisioner) errors.push(required('provisioner'));
    else checkQualifiedName(errors, 'provisioner', object.provisioner.toLowerCase());
    checkParameters(errors, object.parameters ?? {});
    if (object.reclaimPolicy) {
      checkEnum(errors, 'reclaimPolicy', object.reclaimPolicy, ['Delete', 'Retain']);
    }
    checkEnum(errors, 'volumeBindingMode', object.volumeBindingMode, [
      'Immediate',
      'WaitForFirstConsumer',
    ]);
    checkTopologies(errors, 'allowedTopologies', object.allowedTopologies ?? []);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'parameters', object.parameters, old.parameters);
    checkImmutable(errors, 'provisioner', object.provisioner, old.provisioner);
    checkImmutable(errors, 'reclaimPolicy', object.reclaimPolicy, old.reclaimPolicy);
    checkImmutable(errors, 'volumeBindingMode', object.volumeBindingMode, old.volumeBindingMode);
    return errors;
  },
});

export function checkParameters(
  errors: Errors,
  parameters: Readonly<Record<string, string>>,
): void {
  const entries = Object.entries(parameters);
  if (entries.length > MAX_PARAMETERS) {
    const rule = `Provisioner Parameters exceeded max allowed`;
    errors.push(invalid('parameters', rule, String(MAX_PARAMETERS)));
    return;
  }
  let bytes = 0;
  for (const [key, value] of entries) {
    if (key === '') errors.push(invalid('parameters', key, 'field can not be empty.'));
    bytes += Buffer.byteLength(key) + Buffer.byteLength(value ?? '');
  }
  if (bytes > MAX_PARAMETER_BYTES) errors.push(tooLong('parameters', MAX_PARAMETER_BYTES));
}

type Topology = NonNullable<StorageClass['allowedTopologies']>[number];

function checkTopologies(errors: Errors, path: string, terms: readonly Topology[]): void {
  const seen: Record<string, string[]>[] = [];
  for (const [i, term] of terms.entries()) {
    const at = `${path}[${i}].matchLabelExpressions`;
    const values: Record<string, string[]> = {};
    for (const [j, requirement] of (term.matchLabelExpressions ?? []).entries()) {
      checkRequirement(errors, `${at}[${j}]`, requirement);
      if (values[requirement.key]) errors.push(duplicate(`${at}[${j}].key`, requirement.key));
      values[requirement.key] = [...new Set(requirement.values ?? [])].sort();
    }
    // A term that says what another says is one too many. Upstream begins with an empty one for
    // each term, so a term that says nothing is a duplicate as many times as there are terms.
    const empty = Object.keys(values).length === 0 ? terms.length : 0;
    const same = seen.filter((other) => sameValue(other, values)).length;
    for (let n = 0; n < empty + same; n++) errors.push(duplicate(at, ''));
    seen.push(values);
  }
}

type Requirement = NonNullable<Topology['matchLabelExpressions']>[number];

function checkRequirement(errors: Errors, path: string, { key, values }: Requirement): void {
  const list = values ?? [];
  if (list.length === 0) errors.push(required(`${path}.values`));
  for (const [i, value] of list.entries()) {
    if (list.indexOf(value) !== i) errors.push(duplicate(`${path}.values[${i}]`, value));
  }
  checkQualifiedName(errors, `${path}.key`, key ?? '');
}
