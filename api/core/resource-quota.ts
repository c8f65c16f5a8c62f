import { coreRules } from '#api/core/core-rules.ts';
import {
  validateQuota,
  validateQuotaStatus,
  validateQuotaUpdate,
} from '#api/core/quota-validate.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import type { ResourceQuota } from '#api/types.ts';

/** Source: core/v1 ResourceQuota. */
export const resourceQuota = defineKind<ResourceQuota>({
  group: '',
  version: 'v1',
  kind: 'ResourceQuota',
  plural: 'resourcequotas',
  singular: 'resourcequota',
  shortNames: ['quota'],
  scope: 'Namespaced',
  schema: 'V1ResourceQuota',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  returnsDeleted: true,
  subresources: { status: { type: 'status', validateUpdate: validateQuotaStatus } },
  columns: [
    text(
      'Request',
      (object) => used(object, (name) => !isLimit(name)),
      'Request represents a minimum amount of cpu/memory that a container may consume.',
    ),
    text(
      'Limit',
      (object) => used(object, isLimit),
      'Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.',
    ),
  ],
  ...ownedStatus(),

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    canonicalResources(object.spec.hard);
    canonicalResources(object.status.hard);
    canonicalResources(object.status.used);
  },
  validate: validateQuota,
  validateUpdate: validateQuotaUpdate,
});

const isLimit = (name: string): boolean => name.startsWith('limits');

/** `cpu: 1/2, pods: 0/10`, in the order of names. */
function used(object: ResourceQuota, wanted: (name: string) => boolean): string {
  const { hard = {}, used: taken = {} } = object.status ?? {};
  return Object.keys(hard)
    .filter(wanted)
    .sort()
    .map((name) => `${name}: ${taken[name] ?? '0'}/${hard[name]}`)
    .join(', ');
}
