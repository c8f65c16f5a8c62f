import { defineKind } from '#api/kind.ts';
import type { Subresource } from '#api/kind.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { keepStatus, STATUS } from '#api/meta/status-part.ts';
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
};

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
  subresources: { status: STATUS, finalize: FINALIZE },
  generation: 'none',
  selectableFields: { 'status.phase': (object) => object.status?.phase ?? '' },
  columns: [text('Status', (object) => object.status?.phase ?? '')],

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
  validate(object) {
    const errors: Errors = [];
    for (const finalizer of object.spec?.finalizers ?? []) {
      checkQualifiedName(errors, 'spec.finalizers', finalizer);
      checkStandardFinalizer(errors, 'spec.finalizers', finalizer);
    }
    return errors;
  },
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
