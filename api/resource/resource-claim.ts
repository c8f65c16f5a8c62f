import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus } from '#api/meta/status-part.ts';
import {
  checkConsumers,
  checkDeviceClaim,
  defaultDeviceClaim,
} from '#api/resource/device-claim.ts';
import { resourceRules } from '#api/resource/resource-rules.ts';
import type { ResourceClaim } from '#api/resource/resource-types.ts';
import type { KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkImmutableAs } from '#api/validate.ts';

/** Devices that a pod may wait for. Source: resource.k8s.io/v1 ResourceClaim. */
export const resourceClaim = defineKind<ResourceClaim>({
  group: 'resource.k8s.io',
  version: 'v1',
  kind: 'ResourceClaim',
  plural: 'resourceclaims',
  singular: 'resourceclaim',
  scope: 'Namespaced',
  schema: 'ResourceV1ResourceClaim',
  fieldRules: [resourceRules, coreRules, metaRules],
  generation: 'none',
  returnsDeleted: true,
  subresources: { status: { type: 'status', validateUpdate: validateStatus } },
  columns: [
    text('State', state, 'A summary of the current state (allocated, pending, reserved, etc.).'),
  ],
  ...ownedStatus(),

  defaults(object) {
    object.spec ??= {};
    object.spec.devices ??= {};
    object.status ??= {};
    defaultDeviceClaim(object.spec.devices);
  },
  validate({ spec }) {
    const errors: Errors = [];
    checkDeviceClaim(errors, 'spec.devices', spec.devices ?? {});
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec', object.spec, old.spec);
    return errors;
  },
});

function state({ metadata, status }: ResourceClaim): string {
  const words: string[] = [];
  if (metadata.deletionTimestamp) words.push('deleted');
  if (!status?.allocation) {
    if (words.length === 0) words.push('pending');
  } else {
    words.push('allocated');
    words.push(...(status.reservedFor?.length ? ['reserved'] : []));
  }
  return words.join(',');
}

/** What has been allocated stays as it is until it is given back. */
function validateStatus(object: KubeObject, stored: KubeObject): Errors {
  const errors: Errors = [];
  const { status = {} } = object as unknown as ResourceClaim;
  const before = (stored as unknown as ResourceClaim).status ?? {};
  const allocated = status.allocation !== undefined;
  checkConsumers(errors, 'status.reservedFor', status.reservedFor ?? [], allocated);
  if (allocated && before.allocation !== undefined) {
    checkImmutableAs(
      errors,
      ['status.allocation', 'AllocationResult'],
      status.allocation,
      before.allocation,
    );
  }
  return errors;
}
