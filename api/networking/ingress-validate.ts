import { forbidden, invalid, required } from '#api/field-error.ts';
import type { Ingress } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkPort, checkSubdomain } from '#api/validate.ts';
import {
  isDns1035Label,
  isDns1123Subdomain,
  isPathSegment,
  isPortName,
  isWildcardDns1123Subdomain,
  nameIsDnsSubdomain,
} from '#api/validate-names.ts';
import { ipFamily } from '#api/validate-network.ts';

type Spec = NonNullable<Ingress['spec']>;
type Backend = NonNullable<Spec['defaultBackend']>;
type Path = NonNullable<NonNullable<Spec['rules']>[number]['http']>['paths'][number];

const CLASS_ANNOTATION = 'kubernetes.io/ingress.class';
const PATH_TYPES = ['Exact', 'ImplementationSpecific', 'Prefix'];
/** Parts of a path that clients and proxies read differently. */
const BAD_SEQUENCES = ['//', '/./', '/../', '%2f', '%2F'];
const BAD_SUFFIXES = ['/..', '/.'];

/** Source: networking.k8s.io/v1 IngressSpec. */
export function validateIngress(object: Ingress): Errors {
  const errors: Errors = [];
  const spec = object.spec ?? {};
  const annotated = object.metadata.annotations?.[CLASS_ANNOTATION];
  if (annotated !== undefined && spec.ingressClassName !== undefined) {
    const path = `metadata.annotations[${CLASS_ANNOTATION}]`;
    const rule = 'can not be set when the class field is also set';
    errors.push(invalid(path, annotated, rule));
  }
  if (!spec.rules?.length && !spec.defaultBackend) {
    errors.push(invalid('spec', null, 'either `defaultBackend` or `rules` must be specified'));
  }
  if (spec.defaultBackend) checkBackend(errors, 'spec.defaultBackend', spec.defaultBackend);
  checkRules(errors, spec);
  for (const [i, { hosts }] of (spec.tls ?? []).entries()) {
    for (const [j, host] of (hosts ?? []).entries()) {
      checkHost(errors, `spec.tls[${i}].hosts[${j}]`, host);
    }
  }
  if (spec.ingressClassName !== undefined) {
    const problems = nameIsDnsSubdomain(spec.ingressClassName, false);
    addInvalid(errors, 'spec.ingressClassName', spec.ingressClassName, problems);
  }
  return errors;
}

function checkRules(errors: Errors, spec: Spec): void {
  for (const [i, rule] of (spec.rules ?? []).entries()) {
    const at = `spec.rules[${i}]`;
    if (rule.host) {
      if (ipFamily(rule.host)) {
        errors.push(invalid(`${at}.host`, rule.host, 'must be a DNS name, not an IP address'));
      } else checkHost(errors, `${at}.host`, rule.host);
    }
    if (!rule.http) continue;
    if (!rule.http.paths?.length) errors.push(required(`${at}.http.paths`));
    for (const [j, path] of (rule.http.paths ?? []).entries()) {
      checkPath(errors, `${at}.http.paths[${j}]`, path);
    }
  }
}

const checkHost = (errors: Errors, path: string, host: string): void =>
  addInvalid(
    errors,
    path,
    host,
    host.includes('*') ? isWildcardDns1123Subdomain(host) : isDns1123Subdomain(host),
  );

function checkPath(errors: Errors, at: string, entry: Path): void {
  const { path = '', pathType, backend } = entry;
  if (!pathType) errors.push(required(`${at}.pathType`, 'pathType must be specified'));
  else if (pathType === 'Exact' || pathType === 'Prefix') {
    if (!path.startsWith('/')) {
      errors.push(invalid(`${at}.path`, path, 'must be an absolute path'));
    }
    for (const sequence of BAD_SEQUENCES) {
      if (path.includes(sequence)) {
        errors.push(invalid(`${at}.path`, path, `must not contain '${sequence}'`));
      }
    }
    for (const suffix of BAD_SUFFIXES) {
      if (path.endsWith(suffix)) {
        errors.push(invalid(`${at}.path`, path, `cannot end with '${suffix}'`));
      }
    }
  } else if (pathType === 'ImplementationSpecific') {
    if (path && !path.startsWith('/')) {
      errors.push(invalid(`${at}.path`, path, 'must be an absolute path'));
    }
  } else checkEnum(errors, `${at}.pathType`, pathType, PATH_TYPES);
  checkBackend(errors, `${at}.backend`, backend ?? {});
}

function checkBackend(errors: Errors, path: string, backend: Backend): void {
  const { service, resource } = backend;
  if (service && resource) {
    errors.push(invalid(path, '', 'cannot set both resource and service backends'));
  } else if (resource) {
    const { apiGroup, kind, name } = resource;
    if (apiGroup) checkSubdomain(errors, `${path}.resource.apiGroup`, apiGroup);
    for (const [field, value] of Object.entries({ kind, name })) {
      if (!value) errors.push(required(`${path}.resource.${field}`));
      else addInvalid(errors, `${path}.resource.${field}`, value, isPathSegment(value));
    }
  } else if (!service) {
    errors.push(required(path, 'port name or number is required'));
  } else checkService(errors, `${path}.service`, service);
}

function checkService(
  errors: Errors,
  path: string,
  service: NonNullable<Backend['service']>,
): void {
  if (!service.name) errors.push(required(`${path}.name`));
  else addInvalid(errors, `${path}.name`, service.name, isDns1035Label(service.name));
  const { name = '', number = 0 } = service.port ?? {};
  if (name && number) {
    errors.push(forbidden(path, 'cannot set both port name & port number'));
  } else if (name) addInvalid(errors, `${path}.port.name`, name, isPortName(name));
  else if (number) checkPort(errors, `${path}.port.number`, number);
  else errors.push(required(path, 'port name or number is required'));
}
