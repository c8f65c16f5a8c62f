import { podRules } from '#api/core/pod-rules.ts';
import { checkDriverName } from '#api/core/volume-sources-validate.ts';
import { forbidden, invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { ownedStatus, STATUS } from '#api/meta/status-part.ts';
import { storageRules } from '#api/storage/storage-rules.ts';
import type { VolumeAttachment } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkSubdomain, IMMUTABLE, sameMeaning } from '#api/validate.ts';

const ONE_SOURCE = 'must specify exactly one of inlineVolumeSpec and persistentVolumeName';

/** Source: storage.k8s.io/v1 VolumeAttachment. */
export const volumeAttachment = defineKind<VolumeAttachment>({
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'VolumeAttachment',
  plural: 'volumeattachments',
  singular: 'volumeattachment',
  scope: 'Cluster',
  schema: 'V1VolumeAttachment',
  fieldRules: [storageRules, ...podRules],
  generation: 'none',
  unconditionalUpdate: false,
  returnsDeleted: true,
  subresources: { status: STATUS },
  columns: [
    {
      ...text('Attacher', ({ spec }) => spec?.attacher ?? '', 'V1VolumeAttachmentSpec.attacher'),
      format: 'name',
    },
    text(
      'PV',
      (object) => object.spec?.source?.persistentVolumeName ?? '',
      'V1VolumeAttachmentSource.persistentVolumeName',
    ),
    text('Node', (object) => object.spec?.nodeName ?? '', 'V1VolumeAttachmentSpec.nodeName'),
    {
      name: 'Attached',
      type: 'boolean',
      describedBy: 'V1VolumeAttachmentStatus.attached',
      value: (object) => object.status?.attached ?? false,
    },
  ],
  ...ownedStatus({ attached: false }),

  defaults(object) {
    object.spec ??= {} as VolumeAttachment['spec'];
    object.spec.source ??= {};
    object.status ??= { attached: false };
    object.status.attached ??= false;
  },
  validate(object) {
    const errors: Errors = [];
    const { source } = object.spec;
    const attacher = object.spec.attacher ?? '';
    const nodeName = object.spec.nodeName ?? '';
    if (!attacher) errors.push(required('spec.attacher'));
    else checkDriverName(errors, 'spec.attacher', attacher);
    const { persistentVolumeName: name, inlineVolumeSpec: inline } = source ?? {};
    if (name === undefined && !inline) errors.push(required('spec.source', ONE_SOURCE));
    if (name !== undefined && inline) errors.push(forbidden('spec.source', ONE_SOURCE));
    if (name === '') {
      const rule = 'must specify non empty persistentVolumeName';
      errors.push(required('spec.source.persistentVolumeName', rule));
    }
    checkSubdomain(errors, 'spec.nodeName', nodeName);
    return errors;
  },
  validateUpdate: (object, old) =>
    sameMeaning(object.spec, old.spec)
      ? []
      : [invalid('spec', internalForm('VolumeAttachmentSpec', object.spec), IMMUTABLE)],
});
