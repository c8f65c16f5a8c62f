import { duplicate, forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type {
  FlowSchema,
  FlowSubject,
  KubeObject,
  NonResourcePolicyRule,
  ResourcePolicyRule,
} from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid } from '#api/validate.ts';
import { nameIsDnsLabel, nameIsDnsSubdomain } from '#api/validate-names.ts';

const MAX_PRECEDENCE = 10_000;
const DISTINGUISHERS = ['ByNamespace', 'ByUser'] as const;
const SUBJECT_KINDS = ['Group', 'ServiceAccount', 'User'] as const;
const VERBS = [
  'create',
  'delete',
  'deletecollection',
  'get',
  'list',
  'patch',
  'proxy',
  'update',
  'watch',
] as const;

/** Source: flowcontrol.apiserver.k8s.io/v1 FlowSchemaSpec. */
export function checkFlowSchema(errors: Errors, { metadata, spec }: FlowSchema): void {
  const precedence = spec?.matchingPrecedence ?? 0;
  const at = 'spec.matchingPrecedence';
  if (precedence <= 0) errors.push(invalid(at, precedence, 'must be a positive value'));
  if (precedence > MAX_PRECEDENCE) {
    errors.push(invalid(at, precedence, `must not be greater than ${MAX_PRECEDENCE}`));
  }
  if (precedence === 1 && metadata.name !== 'exempt') {
    const rule = "only the schema named 'exempt' may have matchingPrecedence 1";
    errors.push(invalid(at, precedence, rule));
  }
  const method = spec?.distinguisherMethod;
  if (method && !DISTINGUISHERS.some((one) => one === method.type)) {
    const shown = internalForm('DistinguisherMethod', method);
    errors.push(notSupported('spec.distinguisherMethod.type', shown, DISTINGUISHERS));
  }
  const level = spec?.priorityLevelConfiguration?.name ?? '';
  const levelAt = 'spec.priorityLevelConfiguration.name';
  if (level === '') errors.push(required(levelAt, 'must reference a priority level'));
  else addInvalid(errors, levelAt, level, nameIsDnsSubdomain(level, false));
  for (const [i, rule] of (spec?.rules ?? []).entries())
    checkRule(errors, `spec.rules[${i}]`, rule);
}

type Rule = NonNullable<NonNullable<FlowSchema['spec']>['rules']>[number];

function checkRule(errors: Errors, path: string, rule: Partial<Rule>): void {
  const { subjects = [], resourceRules = [], nonResourceRules = [] } = rule;
  if (subjects.length === 0) {
    errors.push(required(`${path}.subjects`, 'subjects must contain at least one value'));
  }
  for (const [i, one] of subjects.entries()) checkSubject(errors, `${path}.subjects[${i}]`, one);
  if (resourceRules.length === 0 && nonResourceRules.length === 0) {
    const text = 'at least one of resourceRules and nonResourceRules has to be non-empty';
    errors.push(required(path, text));
  }
  for (const [i, one] of resourceRules.entries()) {
    checkResourceRule(errors, `${path}.resourceRules[${i}]`, one);
  }
  for (const [i, one] of nonResourceRules.entries()) {
    checkNonResourceRule(errors, `${path}.nonResourceRules[${i}]`, one);
  }
}

const MEMBERS = [
  ['serviceAccount', 'ServiceAccount'],
  ['user', 'User'],
  ['group', 'Group'],
] as const;

/** The member that the kind names is there, the others are not. */
function checkSubject(errors: Errors, path: string, subject: FlowSubject): void {
  const own = MEMBERS.find(([, kind]) => kind === subject.kind);
  if (!own) {
    errors.push(notSupported(`${path}.kind`, subject.kind, SUBJECT_KINDS));
    return;
  }
  const [member, kind] = own;
  const at = `${path}.${member}`;
  const value = subject[member];
  if (!value) errors.push(required(at, `${member} is required when subject kind is '${kind}'`));
  else checkSubjectName(errors, at, member, value);
  for (const [other, otherKind] of MEMBERS) {
    if (other === member || !subject[other]) continue;
    const text = `${other} is forbidden when subject kind is not '${otherKind}'`;
    errors.push(forbidden(`${path}.${other}`, text));
  }
}

function checkSubjectName(
  errors: Errors,
  path: string,
  member: 'serviceAccount' | 'user' | 'group',
  { name, namespace = '' }: { name: string; namespace?: string },
): void {
  if (!name) errors.push(required(`${path}.name`));
  if (member !== 'serviceAccount') return;
  if (name && name !== '*') {
    addInvalid(errors, `${path}.name`, name, nameIsDnsSubdomain(name, false));
  }
  const at = `${path}.namespace`;
  if (namespace) addInvalid(errors, at, namespace, nameIsDnsLabel(namespace, false));
  else errors.push(required(at, 'must specify namespace for service account'));
}

/** A list of patterns is not empty, and `*` stands alone in it; true when it lists things. */
function checkPatterns(
  errors: Errors,
  path: string,
  values: readonly string[] | undefined,
  { missing, things }: { missing: string; things: string },
): values is readonly string[] {
  if (!values || values.length === 0) {
    errors.push(required(path, missing));
    return false;
  }
  if (!values.includes('*')) return true;
  if (values.length > 1) {
    errors.push(invalid(path, values, `if '*' is present, must not specify other ${things}`));
  }
  return false;
}

function checkVerbs(errors: Errors, path: string, verbs: readonly string[] | undefined): void {
  const words = { missing: 'verbs must contain at least one value', things: 'verbs' };
  if (!checkPatterns(errors, path, verbs, words)) return;
  if (verbs.every((verb) => VERBS.some((known) => known === verb))) return;
  errors.push(notSupported(path, verbs, VERBS));
}

function checkResourceRule(errors: Errors, path: string, rule: ResourcePolicyRule): void {
  checkVerbs(errors, `${path}.verbs`, rule.verbs);
  const supply = (what: string): string => `resource rules must supply at least one ${what}`;
  checkPatterns(errors, `${path}.apiGroups`, rule.apiGroups, {
    missing: supply('api group'),
    things: 'api groups',
  });
  checkPatterns(errors, `${path}.resources`, rule.resources, {
    missing: supply('resource'),
    things: 'resources',
  });
  const { namespaces = [] } = rule;
  if (namespaces.length === 0 && rule.clusterScope) return;
  const words = {
    missing: 'resource rules that are not cluster scoped must supply at least one namespace',
    things: 'namespaces',
  };
  if (!checkPatterns(errors, `${path}.namespaces`, namespaces, words)) return;
  const intro = "each member of this list must be '*' or a DNS-1123 label; ";
  for (const [i, namespace] of namespaces.entries()) {
    const problems = nameIsDnsLabel(namespace, false).map((text) => intro + text);
    addInvalid(errors, `${path}.namespaces[${i}]`, namespace, problems);
  }
}

function checkNonResourceRule(errors: Errors, path: string, rule: NonResourcePolicyRule): void {
  checkVerbs(errors, `${path}.verbs`, rule.verbs);
  const at = `${path}.nonResourceURLs`;
  const urls = rule.nonResourceURLs;
  const words = {
    missing: 'nonResourceURLs must contain at least one value',
    things: 'non-resource URLs',
  };
  if (!checkPatterns(errors, at, urls, words)) return;
  for (const [i, url] of urls.entries()) {
    const problem = urlProblem(url);
    if (problem) errors.push(invalid(`${at}[${i}]`, url, problem));
  }
}

function urlProblem(url: string): string {
  if (url === '') return 'must not be empty';
  if (url === '/') return '';
  if (!url.startsWith('/')) return 'must start with slash';
  if (url.includes(' ')) return 'must not contain white-space';
  if (url.includes('//')) return 'must not contain double slash';
  const star = url.indexOf('*');
  if (star >= 0 && (star !== url.length - 1 || !url.endsWith('/*'))) {
    return 'wildcard can only do suffix matching';
  }
  return '';
}

/** Conditions of a status: each has a type, and no two have the same. */
export function checkConditions(errors: Errors, object: KubeObject): void {
  const status = object['status'] as { conditions?: { type?: string }[] } | undefined;
  const seen = new Set<string>();
  for (const [i, { type = '' }] of (status?.conditions ?? []).entries()) {
    const path = `status.conditions[${i}].type`;
    if (seen.has(type)) errors.push(duplicate(path, type));
    seen.add(type);
    if (type === '') errors.push(required(path, 'must not be empty'));
  }
}
