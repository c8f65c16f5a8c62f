import { coordinationRules } from '#api/coordination/coordination-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { forbidden, invalid } from '#api/field-error.ts';
import type { Lease } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkNotNegative, checkQualifiedName } from '#api/validate.ts';

/** Source: coordination.k8s.io/v1 Lease. */
export const lease = defineKind<Lease>({
  group: 'coordination.k8s.io',
  version: 'v1',
  kind: 'Lease',
  plural: 'leases',
  singular: 'lease',
  scope: 'Namespaced',
  createOnUpdate: true,
  unconditionalUpdate: false,
  schema: 'V1Lease',
  fieldRules: [coordinationRules, metaRules],
  generation: 'none',
  columns: [
    text('Holder', (object) => object.spec?.holderIdentity ?? '', 'V1LeaseSpec.holderIdentity'),
  ],

  defaults(object) {
    object.spec ??= {};
  },
  validate(object) {
    const errors: Errors = [];
    const { leaseDurationSeconds, leaseTransitions, strategy, preferredHolder } = object.spec ?? {};
    if (leaseDurationSeconds !== undefined && leaseDurationSeconds <= 0) {
      const path = 'spec.leaseDurationSeconds';
      errors.push(invalid(path, leaseDurationSeconds, 'must be greater than 0'));
    }
    checkNotNegative(errors, 'spec.leaseTransitions', leaseTransitions);
    if (strategy?.includes('/')) checkQualifiedName(errors, 'spec.strategy.strategy', strategy);
    else if (strategy !== undefined) {
      checkEnum(errors, 'spec.strategy.strategy', strategy, ['OldestEmulationVersion']);
    }
    if (preferredHolder && !strategy) {
      const rule = 'may only be specified if `strategy` is defined';
      errors.push(forbidden('spec.preferredHolder', rule));
    }
    return errors;
  },
});
