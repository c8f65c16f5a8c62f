import { coordinationRules } from '#api/coordination/coordination-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { Lease } from '#api/types.ts';

/** Source: coordination.k8s.io/v1 Lease. */
export const lease = defineKind<Lease>({
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
  singular: 'lease',
  scope: 'Namespaced',
  schema: 'V1Lease',
  fieldRules: [coordinationRules, metaRules],
  generation: 'none',
  columns: [
    text('Holder', (object) => object.spec?.holderIdentity ?? '', 'V1LeaseSpec.holderIdentity'),
  ],

  defaults(object) {
    object.spec ??= {};
  },
});
