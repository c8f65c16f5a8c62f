import { defineKind } from '#api/kind.ts';
import type { Subresource } from '#api/kind.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { text } from '#api/meta/columns.ts';
import { invalid } from '#api/field-error.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { Namespace } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkQualifiedName } from '#api/validate.ts';
import { checkStandardFinalizer } from '#api/validate-meta.ts';
import { nameIsDnsLabel } from '#api/validate-names.ts';

/** Namespaces carry their own name as a label, so that selectors can name them. */
const NAME_LABEL = 'kubernetes.io/metadata.name';
const FINALIZER = 'kubernetes';

/** Writes to it change spec.finalizers, and metadata. */
const FINALIZE: Subresource = {
  type: 'handler',
  verbs: ['update'],
  prepareForUpdate: (object, old) => keepStatus(object, old),
  validateUpdate: (object) => checkFinalizers(object as Namespace, (i) => `spec.finalizers[${i}]`),
};

/** A namespace is Terminating exactly while it is being deleted. */
const NAMESPACE_STATUS: Subresource = {
  type: 'status',
  validateUpdate(object) {
    const { metadata, status } = object as Namespace;
    const phase = status?.phase ?? '';
    const [only, state] = metadata.deletionTimestamp
      ? ['Terminating', 'is not empty']
      : ['Active', 'is empty'];
    if (phase === only) return [];
    const rule = `may only be '${only}' if \`deletionTimestamp\` ${state}`;
    return [invalid('status.Phase', phase, rule)];
  },
};

function checkFinalizers({ spec }: Namespace, at: (i: number) => string): Errors {
  const errors: Errors = [];
  for (const [i, finalizer] of (spec?.finalizers ?? []).entries()) {
    checkQualifiedName(errors, at(i), finalizer);
    checkStandardFinalizer(errors, at(i), finalizer);
  }
  return errors;
}

/** Source: core/v1 Namespace. */
export const namespace = defineKind<Namespace>({
  group: '',
  version: 'v1',
  kind: 'Namespace',
  plural: 'namespaces',
  singular: 'namespace',
  shortNames: ['ns'],
  scope: 'Cluster',
  schema: 'V1Namespace',
  fieldRules: [coreRules, metaRules],
  verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
  subresources: { status: NAMESPACE_STATUS, finalize: FINALIZE },
  generation: 'none',
  selectableFields: { 'status.phase': (object) => object.status?.phase ?? '' },
  columns: [text('Status', (object) => object.status?.phase ?? '', 'The status of the namespace')],

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    if (object.metadata.name) {
      object.metadata.labels ??= {};
      object.metadata.labels[NAME_LABEL] = object.metadata.name;
    }
  },
  prepareForCreate(object) {
    object.status = { phase: 'Active' };
    object.spec ??= {};
    const finalizers = object.spec.finalizers ?? [];
    object.spec.finalizers = finalizers.includes(FINALIZER)
      ? finalizers
      : [...finalizers, FINALIZER];
  },
  validateName: nameIsDnsLabel,
  validate: (object) => checkFinalizers(object, () => 'spec.finalizers'),
  /** A namespace is empty before it goes: its controller takes the finalizers away. */
  heldBack: (object) => (object.spec?.finalizers?.length ?? 0) > 0,
  prepareForDelete(object) {
    object.status = { ...object.status, phase: 'Terminating' };
  },
  prepareForUpdate(object, old) {
    keepStatus(object, old);
    object.spec ??= {};
    if (old.spec?.finalizers) object.spec.finalizers = old.spec.finalizers;
    else delete object.spec.finalizers;
  },
  returnsDeleted: true,
});
