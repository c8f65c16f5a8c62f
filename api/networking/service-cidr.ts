import { invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { defineKind } from '#api/kind.ts';
import { joinOr, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { ownedStatus, STATUS } from '#api/meta/status-part.ts';
import { networkingRules } from '#api/networking/networking-rules.ts';
import type { ServiceCIDR } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable } from '#api/validate.ts';
import { checkCidr, cidrFamily, isDualStack } from '#api/validate-network.ts';

/** A range that Services take their addresses from. Source: networking.k8s.io/v1 ServiceCIDR. */
export const serviceCidr = defineKind<ServiceCIDR>({
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'ServiceCIDR',
  plural: 'servicecidrs',
  singular: 'servicecidr',
  scope: 'Cluster',
  schema: 'V1ServiceCIDR',
  fieldRules: [networkingRules, metaRules],
  generation: 'none',
  subresources: { status: STATUS },
  columns: [text('CIDRs', (object) => joinOr(object.spec?.cidrs, ''), 'V1ServiceCIDRSpec.cidrs')],
  ...ownedStatus(),

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
  },
  validate(object) {
    const errors: Errors = [];
    const path = 'spec.cidrs';
    const cidrs = object.spec?.cidrs ?? [];
    if (cidrs.length === 0) errors.push(required(path, 'at least one CIDR required'));
    else if (cidrs.length > 2) {
      errors.push(
        invalid(path, internalForm('ServiceCIDRSpec', object.spec), 'may only hold up to 2 values'),
      );
    } else {
      const readable = cidrs.map((cidr, i) => checkCidr(errors, `${path}[${i}]`, cidr));
      if (readable.every(Boolean) && cidrs.length === 2 && !isDualStack(cidrs.map(cidrFamily))) {
        const rule =
          'may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64';
        errors.push(invalid(path, cidrs, rule));
      }
    }
    return errors;
  },
  /** A range may get its other family later; nothing else changes. */
  validateUpdate(object, old) {
    const errors: Errors = [];
    const now = object.spec?.cidrs ?? [];
    const before = old.spec?.cidrs ?? [];
    if (before.length === 1 && now.length === 2) {
      checkImmutable(errors, 'spec.cidrs[0]', now[0], before[0]);
    } else if (before.length !== now.length) checkImmutable(errors, 'spec.cidrs', now, before);
    else
      for (const [i, cidr] of now.entries())
        checkImmutable(errors, `spec.cidrs[${i}]`, cidr, before[i]);
    return errors;
  },
});
