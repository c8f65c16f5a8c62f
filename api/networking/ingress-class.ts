import { forbidden, invalid, notSupported, required, tooLong } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { NONE, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { networkingRules } from '#api/networking/networking-rules.ts';
import type { IngressClass } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkImmutable, checkLabel, checkSubdomain } from '#api/validate.ts';
import { isDns1123Subdomain, isPathSegment } from '#api/validate-names.ts';

const MAX_CONTROLLER_LENGTH = 250;

/** Source: networking.k8s.io/v1 IngressClass. */
export const ingressClass = defineKind<IngressClass>({
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'IngressClass',
  plural: 'ingressclasses',
  singular: 'ingressclass',
  scope: 'Cluster',
  schema: 'V1IngressClass',
  fieldRules: [networkingRules, metaRules],
  generation: 'spec',
  columns: [
    text(
      'Controller',
      (object) => object.spec?.controller ?? '',
      'Controller that is responsible for handling this class',
    ),
    text(
      'Parameters',
      (object) => {
        const parameters = object.spec?.parameters;
        if (!parameters) return NONE;
        const { kind, apiGroup, name } = parameters;
        return apiGroup ? `${kind}.${apiGroup}/${name}` : `${kind}/${name}`;
      },
      'A reference to a resource with additional parameters',
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    if (object.spec.parameters) object.spec.parameters.scope ??= 'Cluster';
  },
  validate(object) {
    const errors: Errors = [];
    const { controller = '', parameters } = object.spec ?? {};
    checkController(errors, 'spec.controller', controller);
    if (parameters) checkParameters(errors, 'spec.parameters', parameters);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'spec.controller', object.spec?.controller, old.spec?.controller);
    return errors;
  },
});

function checkController(errors: Errors, path: string, controller: string): void {
  if (controller.length > MAX_CONTROLLER_LENGTH) {
    errors.push(tooLong(path, MAX_CONTROLLER_LENGTH));
    return;
  }
  if (!controller) {
    errors.push(required(path));
    return;
  }
  const [domain = '', ...rest] = controller.split('/');
  if (rest.length === 0 || rest.join('/') === '') {
    errors.push(
      invalid(path, controller, 'must be a domain-prefixed path (such as "acme.io/foo")'),
    );
  } else addInvalid(errors, path, domain, isDns1123Subdomain(domain));
}

type Parameters = NonNullable<NonNullable<IngressClass['spec']>['parameters']>;

function checkParameters(errors: Errors, path: string, parameters: Parameters): void {
  const { apiGroup, kind, name, scope, namespace } = parameters;
  if (apiGroup !== undefined) checkSubdomain(errors, `${path}.apiGroup`, apiGroup);
  for (const [field, value] of Object.entries({ kind, name })) {
    if (!value) errors.push(required(`${path}.${field}`));
    else addInvalid(errors, `${path}.${field}`, value, isPathSegment(value));
  }
  if (scope !== 'Cluster' && scope !== 'Namespace') {
    errors.push(notSupported(`${path}.scope`, scope ?? '', ['Cluster', 'Namespace']));
  } else if (scope === 'Namespace') {
    if (namespace === undefined) {
      const rule = "`parameters.scope` is set to 'Namespace'";
      errors.push(required(`${path}.namespace`, rule));
    } else checkLabel(errors, `${path}.namespace`, namespace);
  } else if (namespace !== undefined) {
    const rule = "`parameters.scope` is set to 'Cluster'";
    errors.push(forbidden(`${path}.namespace`, rule));
  }
}
