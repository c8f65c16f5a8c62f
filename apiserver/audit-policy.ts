import { parseYaml } from '#api/yaml.ts';
import type { RequestInfo } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';

export const AUDIT_LEVELS = ['None', 'Metadata', 'Request', 'RequestResponse'] as const;
export type AuditLevel = (typeof AUDIT_LEVELS)[number];

export const AUDIT_STAGES = [
  'RequestReceived',
  'ResponseStarted',
  'ResponseComplete',
  'Panic',
] as const;
export type AuditStage = (typeof AUDIT_STAGES)[number];

/** Source: audit.k8s.io/v1 PolicyRule. */
export type AuditRule = {
  level: AuditLevel;
  users?: string[];
  userGroups?: string[];
  verbs?: string[];
  resources?: { group?: string; resources?: string[]; resourceNames?: string[] }[];
  namespaces?: string[];
  nonResourceURLs?: string[];
  omitStages?: AuditStage[];
  omitManagedFields?: boolean;
};

export type AuditPolicy = {
  rules: AuditRule[];
  omitStages: AuditStage[];
  omitManagedFields: boolean;
};

/** What is to be recorded of one request. */
export type AuditOrder = {
  level: AuditLevel;
  omitStages: ReadonlySet<AuditStage>;
  omitManagedFields: boolean;
};

/**
 * Reads a policy file. Throws an Error that names the file, the field and what would be right.
 * Source: Kubernetes "Auditing", audit policy.
 */
export function parseAuditPolicy(text: string, source: string): AuditPolicy {
  const [document] = parseYaml(text, { source });
  const value = document?.value;
  const refuse = (path: string, rule: string): never => {
    throw new Error(`${source}: ${path}: ${rule}`);
  };
  if (!isRecord(value)) return refuse('the file', 'must hold a Policy of audit.k8s.io/v1');
  if (value['apiVersion'] !== 'audit.k8s.io/v1') refuse('apiVersion', 'must be audit.k8s.io/v1');
  if (value['kind'] !== 'Policy') refuse('kind', 'must be Policy');
  const rules = value['rules'];
  if (!Array.isArray(rules) || rules.length === 0) refuse('rules', 'must have at least one rule');
  const stages = (of: Record<string, unknown>, path: string): AuditStage[] =>
    listOf(of, 'omitStages', path, refuse).map(
      (stage) =>
        AUDIT_STAGES.find((one) => one === stage) ??
        refuse(`${path}omitStages`, `${stage}: must be one of ${AUDIT_STAGES.join(', ')}`),
    );
  return {
    rules: (rules as unknown[]).map((rule, i) => {
      const path = `rules[${i}].`;
      if (!isRecord(rule)) return refuse(`rules[${i}]`, 'must be a rule');
      checkRule(rule, path, refuse);
      return { ...(rule as AuditRule), omitStages: stages(rule, path) };
    }),
    omitStages: stages(value, ''),
    omitManagedFields: value['omitManagedFields'] === true,
  };
}

type Refuse = (path: string, rule: string) => never;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function listOf(of: Record<string, unknown>, name: string, path: string, refuse: Refuse): string[] {
  const list = of[name] ?? [];
  if (Array.isArray(list) && list.every((one): one is string => typeof one === 'string'))
    return list;
  return refuse(`${path}${name}`, 'must be a list of texts');
}

const LISTS = ['users', 'userGroups', 'verbs', 'namespaces', 'nonResourceURLs'] as const;

function checkRule(rule: Record<string, unknown>, path: string, refuse: Refuse): void {
  if (!AUDIT_LEVELS.some((level) => level === rule['level'])) {
    refuse(`${path}level`, `must be one of ${AUDIT_LEVELS.join(', ')}`);
  }
  for (const name of LISTS) listOf(rule, name, path, refuse);
  const resources = rule['resources'] ?? [];
  if (!Array.isArray(resources)) refuse(`${path}resources`, 'must be a list');
  for (const [i, one] of (resources as unknown[]).entries()) {
    const at = `${path}resources[${i}].`;
    if (!isRecord(one)) return refuse(at.slice(0, -1), 'must name a group and resources');
    const names = listOf(one, 'resourceNames', at, refuse);
    const plurals = listOf(one, 'resources', at, refuse);
    if (names.length > 0 && plurals.length === 0) {
      refuse(`${at}resourceNames`, 'using resourceNames requires at least one resource');
    }
  }
  const urls = rule['nonResourceURLs'] as string[] | undefined;
  const scoped = [rule['resources'], rule['namespaces']] as (unknown[] | undefined)[];
  if (urls?.length && scoped.some((list) => list?.length)) {
    refuse(
      `${path}nonResourceURLs`,
      'rules cannot apply to both regular resources and non-resource URLs',
    );
  }
}

/** The first rule that matches decides; nothing is recorded where none does. */
export function auditOrder(
  policy: AuditPolicy,
  user: UserInfo | undefined,
  info: RequestInfo,
): AuditOrder {
  const rule = policy.rules.find((one) => matches(one, user, info));
  return {
    level: rule?.level ?? 'None',
    omitStages: new Set([...policy.omitStages, ...(rule?.omitStages ?? [])]),
    omitManagedFields: rule?.omitManagedFields ?? policy.omitManagedFields,
  };
}

/** An empty list asks for nothing in particular. */
const asksFor = (list: readonly string[] | undefined): list is readonly string[] =>
  list !== undefined && list.length > 0;

function matches(rule: AuditRule, user: UserInfo | undefined, info: RequestInfo): boolean {
  if (asksFor(rule.users) && !rule.users.includes(user?.name ?? '')) return false;
  if (asksFor(rule.userGroups)) {
    const { userGroups } = rule;
    if (!user?.groups.some((group) => userGroups.includes(group))) return false;
  }
  if (asksFor(rule.verbs) && !rule.verbs.includes(info.verb)) return false;
  if (asksFor(rule.namespaces) || rule.resources?.length) return matchesResource(rule, info);
  if (asksFor(rule.nonResourceURLs)) return matchesUrl(rule.nonResourceURLs, info);
  return true;
}

function matchesUrl(patterns: readonly string[], info: RequestInfo): boolean {
  if (info.isResource) return false;
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? info.path.startsWith(pattern.slice(0, -1)) : pattern === info.path,
  );
}

function matchesResource(rule: AuditRule, info: RequestInfo): boolean {
  if (!info.isResource) return false;
  if (asksFor(rule.namespaces) && !rule.namespaces.includes(info.namespace)) return false;
  if (!rule.resources?.length) return true;
  const { resource, subresource } = info;
  const whole = subresource ? `${resource}/${subresource}` : resource;
  return rule.resources.some(({ group = '', resources = [], resourceNames = [] }) => {
    if (group !== info.group) return false;
    if (resources.length === 0) return true;
    if (resourceNames.length > 0 && !resourceNames.includes(info.name)) return false;
    return resources.some(
      (one) =>
        one === '*' ||
        one === whole ||
        (subresource !== '' && one === `*/${subresource}`) ||
        (one.endsWith('/*') && one.slice(0, -2) === resource),
    );
  });
}
