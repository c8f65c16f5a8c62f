import { type Overload, overload } from '#api/cel/function.ts';
import { CelError, Opaque, type Value } from '#api/cel/values.ts';
import { isDns1123Label, isDns1123Subdomain } from '#api/validate-names.ts';

/** Authorization checks in expressions. Source: Kubernetes CEL "authorizer" library. */

export type CelCheck = {
  /** Set for requests that are not about resources. */
  path: string | null;
  group: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  fieldSelector: string;
  labelSelector: string;
  /** Asks for this service account (`namespace:name`) instead of the request's user. */
  serviceAccount: { namespace: string; name: string } | null;
};

export type CelDecision = { allowed: boolean; reason: string; error: string };

/** Answers checks of one request's user. */
export type CelAuthorizer = (verb: string, check: CelCheck) => CelDecision;

type Check = Opaque<CelCheck & { ask: CelAuthorizer }>;

const PREFIX = 'kubernetes.authorization';

const make = (type: string, check: CelCheck & { ask: CelAuthorizer }): Check =>
  new Opaque(`${PREFIX}.${type}`, check, (other) => other === check);

const NOTHING: CelCheck = {
  path: null,
  group: '',
  resource: '',
  subresource: '',
  namespace: '',
  name: '',
  fieldSelector: '',
  labelSelector: '',
  serviceAccount: null,
};

/** The variable `authorizer`. */
export const authorizerValue = (ask: CelAuthorizer): Value =>
  make('Authorizer', { ...NOTHING, ask });

/** The variable `authorizer.requestResource`. */
export const resourceCheckValue = (ask: CelAuthorizer, check: Partial<CelCheck>): Value =>
  make('ResourceCheck', { ...NOTHING, ...check, ask });

const part = (name: keyof CelCheck): Overload =>
  overload(
    name,
    `${PREFIX}.ResourceCheck.(string) ${PREFIX}.ResourceCheck`,
    (check: Check, value: string) => make('ResourceCheck', { ...check.value, [name]: value }),
  );

const decide = (check: Check, verb: string): Value => {
  const decision = check.value.ask(verb, check.value);
  return new Opaque(`${PREFIX}.Decision`, decision, (other: CelDecision) => other === decision);
};

type Decision = Opaque<CelDecision>;

export const authorizerFunctions: readonly Overload[] = [
  overload(
    'path',
    `${PREFIX}.Authorizer.(string) ${PREFIX}.PathCheck`,
    (one: Check, path: string) =>
      path.trim() === ''
        ? new CelError('path must not be empty')
        : make('PathCheck', { ...one.value, path }),
  ),
  overload(
    'group',
    `${PREFIX}.Authorizer.(string) ${PREFIX}.GroupCheck`,
    (one: Check, group: string) => make('GroupCheck', { ...one.value, group }),
  ),
  overload(
    'serviceAccount',
    `${PREFIX}.Authorizer.(string, string) ${PREFIX}.Authorizer`,
    (one: Check, namespace: string, name: string) => {
      if (isDns1123Subdomain(name).length > 0) return new CelError('Invalid service account name');
      if (isDns1123Label(namespace).length > 0) {
        return new CelError('Invalid service account namespace');
      }
      return make('Authorizer', { ...one.value, serviceAccount: { namespace, name } });
    },
  ),
  overload(
    'resource',
    `${PREFIX}.GroupCheck.(string) ${PREFIX}.ResourceCheck`,
    (one: Check, resource: string) =>
      resource.trim() === ''
        ? new CelError('resource must not be empty')
        : make('ResourceCheck', { ...one.value, resource }),
  ),
  part('subresource'),
  part('namespace'),
  part('name'),
  part('fieldSelector'),
  part('labelSelector'),
  overload('check', `${PREFIX}.PathCheck.(string) ${PREFIX}.Decision`, decide),
  overload('check', `${PREFIX}.ResourceCheck.(string) ${PREFIX}.Decision`, decide),
  overload('allowed', `${PREFIX}.Decision.() bool`, (one: Decision) => one.value.allowed),
  overload('reason', `${PREFIX}.Decision.() string`, (one: Decision) => one.value.reason),
  overload('errored', `${PREFIX}.Decision.() bool`, (one: Decision) => one.value.error !== ''),
  overload('error', `${PREFIX}.Decision.() string`, (one: Decision) => one.value.error),
];
