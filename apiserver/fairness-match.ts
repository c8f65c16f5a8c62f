import type {
  FlowSchema,
  FlowSubject,
  NonResourcePolicyRule,
  ResourcePolicyRule,
} from '#api/types.ts';
import type { RequestInfo } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** A flow schema made ready to be asked for every request. */
export type FlowMatcher = {
  name: string;
  uid: string;
  level: string;
  /** Requests of one schema are told apart by this: each gets its fair part. */
  distinguisher: 'ByUser' | 'ByNamespace' | '';
  matches(user: UserInfo, info: RequestInfo): boolean;
};

/**
 * The schemas in the order in which they are asked: by precedence, then by name.
 * Source: flowcontrol.apiserver.k8s.io/v1 FlowSchemaSpec.matchingPrecedence.
 */
export function compileFlowSchemas(schemas: readonly FlowSchema[]): FlowMatcher[] {
  const precedence = ({ spec }: FlowSchema): number => spec?.matchingPrecedence ?? 0;
  const nameOf = ({ metadata }: FlowSchema): string => metadata.name ?? '';
  return [...schemas]
    .sort((a, b) => precedence(a) - precedence(b) || (nameOf(a) < nameOf(b) ? -1 : 1))
    .map((schema) => {
      const rules = (schema.spec?.rules ?? []).map(compileRule);
      const method = schema.spec?.distinguisherMethod?.type;
      return {
        name: nameOf(schema),
        uid: schema.metadata.uid ?? '',
        level: schema.spec?.priorityLevelConfiguration.name ?? '',
        distinguisher: method === 'ByUser' || method === 'ByNamespace' ? method : '',
        matches: anyOf(rules),
      };
    });
}

/** What tells a schema's flows apart; '' where all its requests are one flow. */
export function distinguish(
  { distinguisher }: FlowMatcher,
  user: UserInfo,
  info: RequestInfo,
): string {
  if (distinguisher === 'ByUser') return user.name;
  return distinguisher === 'ByNamespace' ? info.namespace : '';
}

type Test<Args extends unknown[]> = (...args: Args) => boolean;

const anyOf = <Args extends unknown[]>(tests: readonly Test<Args>[]): Test<Args> => {
  const [only] = tests;
  if (tests.length === 1 && only) return only;
  return (...args) => {
    for (const test of tests) if (test(...args)) return true;
    return false;
  };
};

type Rule = NonNullable<NonNullable<FlowSchema['spec']>['rules']>[number];

function compileRule(rule: Partial<Rule>): Test<[UserInfo, RequestInfo]> {
  const isSubject = anyOf((rule.subjects ?? []).map(compileSubject));
  const isResource = anyOf((rule.resourceRules ?? []).map(compileResourceRule));
  const isPath = anyOf((rule.nonResourceRules ?? []).map(compileNonResourceRule));
  return (user, info) => isSubject(user) && (info.isResource ? isResource(info) : isPath(info));
}

const SERVICE_ACCOUNT = 'system:serviceaccount:';
const never = (): boolean => false;

function compileSubject(subject: FlowSubject): Test<[UserInfo]> {
  const { kind, user, group, serviceAccount } = subject;
  if (kind === 'User' && user) {
    return user.name === '*' ? () => true : ({ name }) => name === user.name;
  }
  if (kind === 'Group' && group) {
    return group.name === '*' ? () => true : ({ groups }) => groups.includes(group.name);
  }
  if (kind !== 'ServiceAccount' || !serviceAccount) return never;
  const prefix = `${SERVICE_ACCOUNT}${serviceAccount.namespace}:`;
  if (serviceAccount.name === '*') return ({ name }) => name.startsWith(prefix);
  const whole = prefix + serviceAccount.name;
  return ({ name }) => name === whole;
}

/** Whether a list of patterns has the value; `*` has all. */
function lister(values: readonly string[] | undefined): Test<[string]> {
  if (!values || values.length === 0) return never;
  if (values.includes('*')) return () => true;
  const set = new Set(values);
  return (value) => set.has(value);
}

function compileResourceRule(rule: ResourcePolicyRule): Test<[RequestInfo]> {
  const hasVerb = lister(rule.verbs);
  const hasGroup = lister(rule.apiGroups);
  const hasResource = lister(rule.resources);
  const hasNamespace = lister(rule.namespaces);
  return (info) => {
    const { resource, subresource, namespace } = info;
    return (
      hasVerb(info.verb) &&
      hasResource(subresource === '' ? resource : `${resource}/${subresource}`) &&
      hasGroup(info.group) &&
      (namespace === '' ? rule.clusterScope === true : hasNamespace(namespace))
    );
  };
}

function compileNonResourceRule(rule: NonResourcePolicyRule): Test<[RequestInfo]> {
  const hasVerb = lister(rule.verbs);
  const hasPath = anyOf(rule.nonResourceURLs.map(compilePath));
  return (info) => hasVerb(info.verb) && hasPath(info.path);
}

/** A path stands for itself and for everything beneath it. */
function compilePath(pattern: string): Test<[string]> {
  if (pattern === '*') return () => true;
  const bare = pattern.replace(/\*$/, '');
  const prefix = bare.endsWith('/') ? bare : `${bare}/`;
  return (path) => path === pattern || path.startsWith(prefix);
}
