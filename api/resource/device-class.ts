import { checkResourceName } from '#api/core/resource-names.ts';
import { invalid } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { checkConfigurations } from '#api/resource/device-claim.ts';
import { checkSelectors } from '#api/resource/device-selector.ts';
import { resourceRules } from '#api/resource/resource-rules.ts';
import type { DeviceClass } from '#api/resource/resource-types.ts';
import type { Errors } from '#api/validate.ts';

/** Devices that claims may ask for by name. Source: resource.k8s.io/v1 DeviceClass. */
export const deviceClass = defineKind<DeviceClass>({
  group: 'resource.k8s.io',
  version: 'v1',
  kind: 'DeviceClass',
  plural: 'deviceclasses',
  singular: 'deviceclass',
  scope: 'Cluster',
  schema: 'V1DeviceClass',
  fieldRules: [resourceRules, coreRules, metaRules],
  generation: 'spec',
  returnsDeleted: true,

  defaults(object) {
    object.spec ??= {};
  },
  validate({ spec }) {
    const errors: Errors = [];
    checkSelectors(errors, 'spec.selectors', spec.selectors ?? []);
    checkConfigurations(errors, 'spec.config', spec.config ?? []);
    const name = spec.extendedResourceName;
    if (name !== undefined) checkExtendedName(errors, 'spec.extendedResourceName', name);
    return errors;
  },
});

/** Pods may ask for the class's devices as for any extended resource. */
function checkExtendedName(errors: Errors, path: string, name: string): void {
  if (!checkResourceName(errors, path, name)) return;
  const domain = name.split('/', 1)[0] ?? '';
  if (!name.includes('/') || domain.endsWith('kubernetes.io') || name.startsWith('requests.')) {
    errors.push(invalid(path, name, 'must be a valid extended resource name'));
  }
}
