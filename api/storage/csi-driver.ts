import { duplicate, invalid, notSupported, tooLong } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { joinOr, NONE, text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { storageRules } from '#api/storage/storage-rules.ts';
import type { CSIDriver } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkImmutable, sameMeaning } from '#api/validate.ts';

const MIN_TOKEN_SECONDS = 600;
const MAX_TOKEN_SECONDS = 2 ** 32;
const MAX_NAME = 63;
const GROUP_POLICIES = ['File', 'None', 'ReadWriteOnceWithFSType'];
const LIFECYCLES = ['Persistent', 'Ephemeral'];

const flag = (value: boolean | undefined): boolean => value ?? false;

/** Source: storage.k8s.io/v1 CSIDriver. */
export const csiDriver = defineKind<CSIDriver>({
  group: 'storage.k8s.io',
  version: 'v1',
  kind: 'CSIDriver',
  plural: 'csidrivers',
  singular: 'csidriver',
  scope: 'Cluster',
  schema: 'V1CSIDriver',
  fieldRules: [storageRules, metaRules],
  generation: 'none',
  unconditionalUpdate: false,
  returnsDeleted: true,
  columns: [
    {
      name: 'AttachRequired',
      type: 'boolean',
      describedBy: 'V1CSIDriverSpec.attachRequired',
      value: (object) => object.spec?.attachRequired ?? true,
    },
    {
      name: 'PodInfoOnMount',
      type: 'boolean',
      describedBy: 'V1CSIDriverSpec.podInfoOnMount',
      value: ({ spec }) => flag(spec?.podInfoOnMount),
    },
    {
      name: 'StorageCapacity',
      type: 'boolean',
      describedBy: 'V1CSIDriverSpec.storageCapacity',
      value: ({ spec }) => flag(spec?.storageCapacity),
    },
    text(
      'TokenRequests',
      (object) =>
        joinOr(
          object.spec?.tokenRequests?.map(({ audience }) => audience),
          UNSET,
        ),
      'V1CSIDriverSpec.tokenRequests',
    ),
    {
      name: 'RequiresRepublish',
      type: 'boolean',
      describedBy: 'V1CSIDriverSpec.requiresRepublish',
      value: ({ spec }) => flag(spec?.requiresRepublish),
    },
    text(
      'Modes',
      (object) => joinOr(object.spec?.volumeLifecycleModes, NONE),
      'V1CSIDriverSpec.volumeLifecycleModes',
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    const { spec } = object;
    spec.attachRequired ??= true;
    spec.podInfoOnMount ??= false;
    spec.storageCapacity ??= false;
    spec.fsGroupPolicy ??= 'ReadWriteOnceWithFSType';
    if (!spec.volumeLifecycleModes?.length) spec.volumeLifecycleModes = ['Persistent'];
    spec.requiresRepublish ??= false;
    spec.seLinuxMount ??= false;
  },
  /** Generations are counted from the first change on. */
  prepareForUpdate(object, old) {
    if (sameMeaning(object.spec, old.spec)) return;
    object.metadata.generation = (old.metadata.generation ?? 0) + 1;
  },
  validate(object) {
    const errors: Errors = [];
    const spec = object.spec ?? {};
    if ((object.metadata.name ?? '').length > MAX_NAME) {
      errors.push(tooLong('metadata.name', MAX_NAME));
    }
    checkEnum(errors, 'spec.fsGroupPolicy', spec.fsGroupPolicy, GROUP_POLICIES);
    const seen = new Set<string>();
    for (const [i, { audience, expirationSeconds: seconds }] of (
      spec.tokenRequests ?? []
    ).entries()) {
      const at = `spec.tokenRequests[${i}]`;
      if (seen.has(audience)) errors.push(duplicate(`${at}.audience`, audience));
      seen.add(audience);
      if (seconds === undefined) continue;
      if (seconds < MIN_TOKEN_SECONDS) {
        const rule = 'may not specify a duration less than 10 minutes';
        errors.push(invalid(`${at}.expirationSeconds`, seconds, rule));
      }
      if (seconds > MAX_TOKEN_SECONDS) {
        const rule = 'may not specify a duration larger than 2^32 seconds';
        errors.push(invalid(`${at}.expirationSeconds`, seconds, rule));
      }
    }
    for (const mode of spec.volumeLifecycleModes ?? []) {
      if (!LIFECYCLES.includes(mode)) {
        errors.push(notSupported('spec.volumeLifecycleModes', mode, LIFECYCLES));
      }
    }
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    const now = object.spec ?? {};
    const before = old.spec ?? {};
    checkImmutable(errors, 'spec.attachedRequired', now.attachRequired, before.attachRequired);
    checkImmutable(
      errors,
      'spec.volumeLifecycleModes',
      now.volumeLifecycleModes,
      before.volumeLifecycleModes,
    );
    return errors;
  },
});
