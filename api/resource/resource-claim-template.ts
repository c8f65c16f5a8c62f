import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { checkDeviceClaim, defaultDeviceClaim } from '#api/resource/device-claim.ts';
import { resourceRules } from '#api/resource/resource-rules.ts';
import type { ResourceClaimTemplate } from '#api/resource/resource-types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable } from '#api/validate.ts';
import { checkSharedMeta } from '#api/validate-meta.ts';

/** What each pod's own claim is made from. Source: resource.k8s.io/v1 ResourceClaimTemplate. */
export const resourceClaimTemplate = defineKind<ResourceClaimTemplate>({
  group: 'resource.k8s.io',
  version: 'v1',
  kind: 'ResourceClaimTemplate',
  plural: 'resourceclaimtemplates',
  singular: 'resourceclaimtemplate',
  scope: 'Namespaced',
  schema: 'V1ResourceClaimTemplate',
  fieldRules: [resourceRules, coreRules, metaRules],
  generation: 'none',
  returnsDeleted: true,

  defaults(object) {
    object.spec ??= { spec: {} };
    object.spec.metadata ??= {};
    object.spec.spec ??= {};
    object.spec.spec.devices ??= {};
    defaultDeviceClaim(object.spec.spec.devices);
  },
  validate({ spec }) {
    const errors: Errors = [];
    if (spec.metadata) checkSharedMeta(errors, spec.metadata, 'spec.metadata');
    checkDeviceClaim(errors, 'spec.spec.devices', spec.spec.devices ?? {});
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec', object.spec, old.spec);
    return errors;
  },
});
