import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkQuantityPositive, checkSubdomain, inRange } from '#api/validate.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { nameIsDnsSubdomain } from '#api/validate-names.ts';
import { addInvalid } from '#api/validate.ts';
import { quantityOf } from '#api/validate.ts';
import { quantityValue } from '#api/quantity.ts';
import type { Volume } from '#api/types.ts';

type ClaimTemplate = NonNullable<NonNullable<Volume['ephemeral']>['volumeClaimTemplate']>;
export type ClaimSpec = ClaimTemplate['spec'];

export const ACCESS_MODES = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];
export const VOLUME_MODES = ['Block', 'Filesystem'];
const SOURCE_KINDS = ['PersistentVolumeClaim'];

/** Access modes of claims and volumes; ReadWriteOncePod stands alone. */
export function checkAccessModes(errors: Errors, path: string, modes: readonly string[]): void {
  for (const mode of modes) checkEnum(errors, path, mode, ACCESS_MODES);
  const alone = modes.includes('ReadWriteOncePod');
  if (alone && modes.some((mode) => mode !== 'ReadWriteOncePod' && ACCESS_MODES.includes(mode))) {
    errors.push(forbidden(path, 'may not use ReadWriteOncePod with other access modes'));
  }
}

/** A capacity: a whole number of bytes, not negative. */
export function checkCapacity(errors: Errors, path: string, value: string): void {
  const amount = quantityValue(quantityOf(value));
  if (amount < 0) errors.push(invalid(path, amount, 'must be a valid resource quantity'));
}

/** Source: core/v1 PersistentVolumeClaimSpec. */
export function checkClaimSpec(errors: Errors, path: string, spec: ClaimSpec): void {
  const modes = spec.accessModes ?? [];
  if (modes.length === 0) {
    errors.push(required(`${path}.accessModes`, 'at least 1 access mode is required'));
  }
  if (spec.selector) checkLabelSelector(errors, `${path}.selector`, spec.selector);
  checkAccessModes(errors, `${path}.accessModes`, modes);
  const size = spec.resources?.requests?.['storage'];
  if (size === undefined) errors.push(required(`${path}.resources[storage]`));
  else {
    checkCapacity(errors, `${path}.resources[storage]`, size);
    checkQuantityPositive(errors, `${path}.resources[storage]`, size);
  }
  if (spec.storageClassName) {
    const problems = nameIsDnsSubdomain(spec.storageClassName, false);
    addInvalid(errors, `${path}.storageClassName`, spec.storageClassName, problems);
  }
  if (spec.volumeMode !== undefined && !VOLUME_MODES.includes(spec.volumeMode)) {
    errors.push(notSupported(`${path}.volumeMode`, spec.volumeMode, VOLUME_MODES));
  }
  checkDataSources(errors, path, spec);
  if (spec.volumeAttributesClassName) {
    const at = `${path}.volumeAttributesClassName`;
    addInvalid(
      errors,
      at,
      spec.volumeAttributesClassName,
      nameIsDnsSubdomain(spec.volumeAttributesClassName, false),
    );
  }
}

type Source = { apiGroup?: string; kind: string; name: string; namespace?: string };

function checkDataSources(errors: Errors, path: string, spec: ClaimSpec): void {
  const { dataSource, dataSourceRef } = spec as { dataSource?: Source; dataSourceRef?: Source };
  if (dataSource) checkSource(errors, `${path}.dataSource`, dataSource);
  if (dataSourceRef) {
    checkSource(errors, `${path}.dataSourceRef`, dataSourceRef);
    if (dataSourceRef.namespace) {
      checkSubdomain(errors, `${path}.dataSourceRef.namespace`, dataSourceRef.namespace);
      if (dataSource) {
        errors.push(
          invalid(path, {}, 'may not be specified when dataSourceRef.namespace is specified'),
        );
      }
    }
  }
  if (!dataSource || !dataSourceRef || dataSourceRef.namespace) return;
  const same = (['apiGroup', 'kind', 'name'] as const).every(
    (field) => (dataSource[field] ?? '') === (dataSourceRef[field] ?? ''),
  );
  if (!same) errors.push(invalid(path, {}, 'must match dataSourceRef'));
}

function checkSource(errors: Errors, path: string, source: Source): void {
  if (!source.name) errors.push(required(`${path}.name`));
  if (!source.kind) errors.push(required(`${path}.kind`));
  const group = source.apiGroup ?? '';
  if (group === '' && source.kind !== SOURCE_KINDS[0]) {
    errors.push(
      invalid(
        `${path}`,
        source.kind,
        "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
      ),
    );
  }
  if (group !== '') checkSubdomain(errors, `${path}.apiGroup`, group);
}

export const MODE_RANGE = 'must be a number between 0 and 0777 (octal), both inclusive';
const MAX_MODE = 0o777;

/** Permission bits of a projected file. */
export function checkFileMode(errors: Errors, path: string, mode: number | undefined): void {
  if (mode !== undefined && (mode < 0 || mode > MAX_MODE)) {
    errors.push(invalid(path, mode, MODE_RANGE));
  }
}

export const LUN_RANGE = inRange(0, 255);
