import { coreRules } from '#api/core/core-rules.ts';
import { invalid, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { checkDriverName, checkPoolName } from '#api/resource/device-names.ts';
import { checkCounterSets, checkDevices } from '#api/resource/device-validate.ts';
import { resourceRules } from '#api/resource/resource-rules.ts';
import type { ResourceSlice } from '#api/resource/resource-types.ts';
import { checkNodeSelector } from '#api/core/pod-validate-affinity.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkNotNegative, checkSubdomain, POSITIVE } from '#api/validate.ts';

const ONE_PLACE =
  'exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required';

/** Devices that a driver offers. Source: resource.k8s.io/v1 ResourceSlice. */
export const resourceSlice = defineKind<ResourceSlice>({
  group: 'resource.k8s.io',
  version: 'v1',
  kind: 'ResourceSlice',
  plural: 'resourceslices',
  singular: 'resourceslice',
  scope: 'Cluster',
  schema: 'V1ResourceSlice',
  fieldRules: [resourceRules, coreRules, metaRules],
  generation: 'spec',
  returnsDeleted: true,
  selectableFields: {
    'spec.nodeName': (object) => object.spec?.nodeName ?? '',
    'spec.driver': (object) => object.spec?.driver ?? '',
  },
  columns: [
    text('Node', ({ spec }) => spec?.nodeName ?? '', 'V1ResourceSliceSpec.nodeName'),
    text('Driver', ({ spec }) => spec?.driver ?? '', 'V1ResourceSliceSpec.driver'),
    text('Pool', ({ spec }) => spec?.pool?.name ?? '', 'V1ResourcePool.name'),
  ],

  defaults(object) {
    object.spec ??= {} as ResourceSlice['spec'];
    object.spec.pool ??= {} as ResourceSlice['spec']['pool'];
  },
  validate({ spec }) {
    const errors: Errors = [];
    checkDriverName(errors, 'spec.driver', spec.driver ?? '');
    const { pool } = spec;
    checkPoolName(errors, 'spec.pool.name', pool.name ?? '');
    if ((pool.resourceSliceCount ?? 0) <= 0) {
      const count = pool.resourceSliceCount ?? 0;
      errors.push(invalid('spec.pool.resourceSliceCount', count, POSITIVE));
    }
    checkNotNegative(errors, 'spec.pool.generation', pool.generation);
    checkPlace(errors, spec);
    checkDevices(errors, 'spec.devices', spec.devices ?? [], spec.perDeviceNodeSelection ?? false);
    checkCounterSets(errors, 'spec.sharedCounters', spec.sharedCounters ?? []);
    if (spec.devices?.length && spec.sharedCounters?.length) {
      const rule = 'only one of `sharedCounters` or `devices` is allowed';
      errors.push(invalid('spec', null, rule));
    }
    return errors;
  },
  validateUpdate({ spec }, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec.driver', spec.driver, old.spec.driver);
    checkImmutable(errors, 'spec.nodeName', spec.nodeName, old.spec.nodeName);
    checkImmutable(errors, 'spec.pool.name', spec.pool.name, old.spec.pool.name);
    return errors;
  },
});

/** Where the devices are, in one of four ways. */
function checkPlace(errors: Errors, spec: ResourceSlice['spec']): void {
  const { nodeName, nodeSelector, allNodes, perDeviceNodeSelection } = spec;
  const ways = [nodeName, nodeSelector, allNodes, perDeviceNodeSelection];
  const given = ways.filter((way) => way !== undefined && way !== false).length;
  if (nodeName !== undefined) {
    if (nodeName === '') {
      errors.push(
        invalid('spec.nodeName', '', 'must be either unset or set to a non-empty string'),
      );
    } else checkSubdomain(errors, 'spec.nodeName', nodeName);
  }
  if (nodeSelector) {
    checkNodeSelector(errors, 'spec.nodeSelector', nodeSelector);
    if ((nodeSelector.nodeSelectorTerms ?? []).length > 1) {
      const rule = 'must have exactly one node selector term';
      errors.push(invalid('spec.nodeSelector.nodeSelectorTerms', null, rule));
    }
  }
  if (allNodes === false) {
    errors.push(invalid('spec.allNodes', false, 'must be either unset or set to true'));
  }
  if (perDeviceNodeSelection === false) {
    const rule = 'must be either unset or set to true';
    errors.push(invalid('spec.perDeviceNodeSelection', false, rule));
  }
  if (given === 0) errors.push(required('spec', ONE_PLACE));
  if (given > 1) errors.push(invalid('spec', null, `${ONE_PLACE}, but multiple fields are set`));
}
