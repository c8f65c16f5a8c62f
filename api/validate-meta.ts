import type { FieldError } from '#api/field-error.ts';
import { forbidden, invalid, required, tooLong } from '#api/field-error.ts';
import type { Kind } from '#api/kind.ts';
import type { KubeObject, ObjectMeta } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkImmutable, checkNotNegative, checkQualifiedName } from '#api/validate.ts';
import { checkLabels } from '#api/validate-labels.ts';
import { isDns1123Label, isQualifiedName, nameIsDnsSubdomain } from '#api/validate-names.ts';

/** All annotations together, keys and values, in bytes. */
const MAX_ANNOTATION_BYTES = 256 * 1024;
/** Names of finalizers that need no domain. */
const STANDARD_FINALIZERS: readonly string[] = ['kubernetes', 'orphan', 'foregroundDeletion'];

type KindRules = Pick<Kind, 'scope' | 'validateName' | 'group'> & Partial<Pick<Kind, 'schema'>>;

/**
 * The rules of a new object's metadata, in upstream's order.
 * Source: metav1.ObjectMeta in the API reference.
 */
export function validateObjectMeta(object: KubeObject, kind: KindRules): FieldError[] {
  const errors: Errors = [];
  const { metadata } = object;
  const nameRule = kind.validateName ?? nameIsDnsSubdomain;
  if (metadata.generateName) {
    addInvalid(
      errors,
      'metadata.generateName',
      metadata.generateName,
      nameRule(metadata.generateName, true),
    );
  }
  if (metadata.name) {
    addInvalid(errors, 'metadata.name', metadata.name, nameRule(metadata.name, false));
  } else errors.push(required('metadata.name', 'name or generateName is required'));
  if (kind.scope === 'Namespaced') {
    if (metadata.namespace) {
      addInvalid(
        errors,
        'metadata.namespace',
        metadata.namespace,
        isDns1123Label(metadata.namespace),
      );
    } else errors.push(required('metadata.namespace'));
  } else if (metadata.namespace) {
    errors.push(forbidden('metadata.namespace', 'not allowed on this type'));
  }
  checkNotNegative(errors, 'metadata.generation', metadata.generation);
  checkSharedMeta(errors, metadata);
  checkFinalizers(errors, metadata, kind);
  return errors;
}

/**
 * All that an update says about metadata. Upstream checks it in general, then again for the kind,
 * and a built-in kind's rules begin with it once more: causes come as often.
 */
export function validateUpdatedMeta(object: KubeObject, old: KubeObject, kind: Kind): FieldError[] {
  const shared: Errors = [];
  checkSharedMeta(shared, object.metadata);
  checkFinalizers(shared, object.metadata, kind);
  const changes = validateObjectMetaUpdate(object, old);
  if (shared.length + changes.length === 0) return [];
  const again = typeof kind.schema === 'string' && kind.validate ? shared : [];
  return [...shared, ...changes, ...changes, ...again];
}

/**
 * What an update may not do to metadata. Source: as above.
 */
export function validateObjectMetaUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  const errors: Errors = [];
  const { metadata } = object;
  const stored = old.metadata;
  if (stored.deletionTimestamp) checkNoNewFinalizers(errors, metadata, stored);
  if (!metadata.resourceVersion) {
    errors.push(invalid('metadata.resourceVersion', '', 'must be specified for an update'));
  }
  if ((metadata.generation ?? 0) < (stored.generation ?? 0)) {
    errors.push(
      invalid('metadata.generation', metadata.generation ?? 0, 'must not be decremented'),
    );
  }
  for (const field of [
    'name',
    'namespace',
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
  ] as const) {
    checkImmutable(errors, `metadata.${field}`, metadata[field], stored[field]);
  }
  checkSharedMeta(errors, metadata);
  return errors;
}

/** The metadata of a pod template or claim template: labels and annotations. */
export function checkSharedMeta(errors: Errors, metadata: ObjectMeta, path = 'metadata'): void {
  if (metadata.labels) checkLabels(errors, `${path}.labels`, metadata.labels);
  if (metadata.annotations) {
    checkAnnotations(errors, `${path}.annotations`, metadata.annotations);
  }
  if (metadata.ownerReferences?.length) checkOwners(errors, metadata);
}

export function checkAnnotations(
  errors: Errors,
  path: string,
  annotations: Readonly<Record<string, string>>,
): void {
  let bytes = 0;
  for (const key of Object.keys(annotations)) {
    addInvalid(errors, path, key, isQualifiedName(key.toLowerCase()));
    bytes += Buffer.byteLength(key) + Buffer.byteLength(annotations[key] ?? '');
  }
  if (bytes > MAX_ANNOTATION_BYTES) errors.push(tooLong(path, MAX_ANNOTATION_BYTES));
}

function checkOwners(errors: Errors, metadata: ObjectMeta): void {
  const owners = metadata.ownerReferences ?? [];
  let controller = '';
  for (const owner of owners) {
    const path = 'metadata.ownerReferences';
    if (!owner.apiVersion || owner.apiVersion.endsWith('/')) {
      errors.push(
        invalid(`${path}.apiVersion`, owner.apiVersion ?? '', 'version must not be empty'),
      );
    }
    for (const field of ['kind', 'name', 'uid'] as const) {
      if (!owner[field])
        errors.push(invalid(`${path}.${field}`, owner[field] ?? '', 'must not be empty'));
    }
    if (owner.apiVersion === 'v1' && owner.kind === 'Event') {
      errors.push(invalid(path, owner, '/v1, Kind=Event is disallowed from being an owner'));
    }
    if (!owner.controller) continue;
    if (controller) {
      errors.push(
        invalid(
          path,
          owners,
          `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${owner.kind}/${owner.name}`,
        ),
      );
    } else controller = `${owner.kind}/${owner.name}`;
  }
}

function checkFinalizers(
  errors: Errors,
  metadata: ObjectMeta,
  { schema }: Partial<Pick<Kind, 'schema'>>,
): void {
  const finalizers = metadata.finalizers ?? [];
  for (const finalizer of finalizers) {
    checkQualifiedName(errors, 'metadata.finalizers', finalizer);
  }
  if (finalizers.includes('orphan') && finalizers.includes('foregroundDeletion')) {
    errors.push(
      invalid(
        'metadata.finalizers',
        finalizers,
        'finalizer orphan and foregroundDeletion cannot be both set',
      ),
    );
  }
  // A custom kind's controllers may take any word.
  if (typeof schema === 'object') return;
  for (const [i, finalizer] of finalizers.entries()) {
    checkStandardFinalizer(errors, `metadata.finalizers[${i}]`, finalizer);
  }
}

/** A finalizer is a known word, or has a domain. */
export function checkStandardFinalizer(errors: Errors, path: string, finalizer: string): void {
  if (finalizer.includes('/') || STANDARD_FINALIZERS.includes(finalizer)) return;
  errors.push(
    invalid(path, finalizer, 'name is neither a standard finalizer name nor is it fully qualified'),
  );
}

function checkNoNewFinalizers(errors: Errors, metadata: ObjectMeta, stored: ObjectMeta): void {
  const known = new Set(stored.finalizers ?? []);
  const added = (metadata.finalizers ?? []).filter((finalizer) => !known.has(finalizer)).sort();
  if (added.length === 0) return;
  const list = added.map((finalizer) => JSON.stringify(finalizer)).join(', ');
  errors.push(
    forbidden(
      'metadata.finalizers',
      `no new finalizers can be added if the object is being deleted, found new finalizers []string{${list}}`,
    ),
  );
}
