import { required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { networkingRules } from '#api/networking/networking-rules.ts';
import type { IPAddress } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkImmutableAs, checkSubdomain } from '#api/validate.ts';
import { isPathSegment } from '#api/validate-names.ts';
import { ipFamily, NOT_AN_IP } from '#api/validate-network.ts';

/**
 * One address in use; its name is the address, so that the store itself rules out a second use.
 * Source: networking.k8s.io/v1 IPAddress.
 */
export const ipAddress = defineKind<IPAddress>({
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'IPAddress',
  plural: 'ipaddresses',
  singular: 'ipaddress',
  shortNames: ['ip'],
  scope: 'Cluster',
  schema: 'V1IPAddress',
  fieldRules: [networkingRules, metaRules],
  generation: 'none',
  columns: [text('ParentRef', parent, 'V1IPAddressSpec.parentRef')],
  validateName: (name) => (ipFamily(name) === 0 ? [NOT_AN_IP] : canonicalProblem(name)),

  validate(object) {
    const errors: Errors = [];
    const reference = object.spec?.parentRef;
    const path = 'spec.parentRef';
    if (!reference) {
      errors.push(required(path));
      return errors;
    }
    const { group, resource, namespace, name } = reference;
    if (group) checkSubdomain(errors, `${path}.group`, group);
    for (const [field, value] of Object.entries({ resource, name })) {
      if (!value) errors.push(required(`${path}.${field}`));
      else addInvalid(errors, `${path}.${field}`, value, isPathSegment(value));
    }
    if (namespace) addInvalid(errors, `${path}.namespace`, namespace, isPathSegment(namespace));
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutableAs(
      errors,
      ['spec.parentRef', 'ParentReference'],
      object.spec?.parentRef,
      old.spec?.parentRef,
    );
    return errors;
  },
});

/** Two spellings of one address would be two objects. */
function canonicalProblem(name: string): string[] {
  if (ipFamily(name) === 4 || !/[A-Z]|(^|:)0+[0-9a-f]/.test(name)) return [];
  return ['must be in canonical form'];
}

function parent(object: IPAddress): string {
  const reference = object.spec?.parentRef;
  if (!reference) return '<none>';
  const { group, resource, namespace, name } = reference;
  const kind = group ? `${resource}.${group}` : resource;
  return [kind, namespace, name].filter(Boolean).join('/');
}
