import type { PolicyRule } from '#api/types.ts';
import type { Attributes } from '#apiserver/authz/authorizer.ts';

/**
 * What RBAC rules allow, as pure functions. Source: rbac.authorization.k8s.io/v1 PolicyRule.
 */
export function ruleAllows(rule: PolicyRule, request: Attributes): boolean {
  if (!matches(rule.verbs, request.verb)) return false;
  if (!request.isResource) return urlMatches(rule.nonResourceURLs, request.path);
  return (
    matches(rule.apiGroups, request.group) &&
    resourceMatches(rule.resources, request.resource, request.subresource) &&
    nameMatches(rule.resourceNames, request.name)
  );
}

const matches = (allowed: readonly string[] | undefined, wanted: string): boolean =>
  allowed !== undefined && (allowed.includes(wanted) || allowed.includes('*'));

// `*` is every resource with its subresources, `*/scale` that subresource of every resource.
function resourceMatches(
  allowed: readonly string[] | undefined,
  resource: string,
  subresource: string,
): boolean {
  if (!allowed) return false;
  const wanted = subresource ? `${resource}/${subresource}` : resource;
  for (const one of allowed) {
    if (one === '*' || one === wanted) return true;
    if (subresource && one === `*/${subresource}`) return true;
  }
  return false;
}

const nameMatches = (allowed: readonly string[] | undefined, name: string): boolean =>
  !allowed || allowed.length === 0 || allowed.includes(name);

/** A trailing `*` stands for any rest of the path. */
function urlMatches(allowed: readonly string[] | undefined, path: string): boolean {
  if (!allowed) return false;
  return allowed.some((one) => {
    if (one === '*' || one === path) return true;
    return one.endsWith('*') && path.startsWith(one.slice(0, -1));
  });
}

/** What of `wanted` the rules in `held` do not cover, split into single rights and joined again. */
export function missingRights(
  held: readonly PolicyRule[],
  wanted: readonly PolicyRule[],
): PolicyRule[] {
  const missing = wanted.flatMap(singleRights).filter((right) => {
    return !held.some((rule) => ruleCovers(rule, right));
  });
  return joinVerbs(missing);
}

/** One rule per verb and resource (and name, and URL). */
function singleRights(rule: PolicyRule): PolicyRule[] {
  const rights: PolicyRule[] = [];
  for (const group of rule.apiGroups ?? []) {
    for (const resource of rule.resources ?? []) {
      for (const verb of rule.verbs) {
        const right = { verbs: [verb], apiGroups: [group], resources: [resource] };
        if (!rule.resourceNames?.length) rights.push(right);
        for (const name of rule.resourceNames ?? []) {
          rights.push({ ...right, resourceNames: [name] });
        }
      }
    }
  }
  for (const url of rule.nonResourceURLs ?? []) {
    for (const verb of rule.verbs) rights.push({ verbs: [verb], nonResourceURLs: [url] });
  }
  return rights;
}

/** `right` is a single one, made by singleRights. */
function ruleCovers(rule: PolicyRule, right: PolicyRule): boolean {
  if (!matches(rule.verbs, right.verbs[0] ?? '')) return false;
  if (right.nonResourceURLs)
    return urlMatches(rule.nonResourceURLs, right.nonResourceURLs[0] ?? '');
  if (!matches(rule.apiGroups, right.apiGroups?.[0] ?? '')) return false;
  const [resource, subresource] = splitResource(right.resources?.[0] ?? '');
  if (!resourceMatches(rule.resources, resource, subresource)) return false;
  if (!rule.resourceNames?.length) return true;
  return right.resourceNames ? rule.resourceNames.includes(right.resourceNames[0] ?? '') : false;
}

function splitResource(text: string): [string, string] {
  const slash = text.indexOf('/');
  return slash < 0 ? [text, ''] : [text.slice(0, slash), text.slice(slash + 1)];
}

/** Rights on the same resource become one rule with several verbs. */
function joinVerbs(rights: readonly PolicyRule[]): PolicyRule[] {
  const joined = new Map<string, PolicyRule>();
  for (const right of rights) {
    const key = JSON.stringify({ ...right, verbs: [] });
    const known = joined.get(key);
    if (!known) joined.set(key, { ...right, verbs: [...right.verbs] });
    else if (!known.verbs.includes(right.verbs[0] ?? '')) known.verbs.push(...right.verbs);
  }
  return [...joined.values()];
}

/** A rule as refusals print it: `{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}`. */
export function describeRule(rule: PolicyRule): string {
  const parts: string[] = [];
  const add = (label: string, values: readonly string[] | undefined): void => {
    if (!values?.length) return;
    parts.push(`${label}:[${values.map((value) => JSON.stringify(value)).join(' ')}]`);
  };
  add('APIGroups', rule.apiGroups);
  add('Resources', rule.resources);
  add('ResourceNames', rule.resourceNames);
  add('NonResourceURLs', rule.nonResourceURLs);
  add('Verbs', rule.verbs);
  return `{${parts.join(', ')}}`;
}

/**
 * A rule in one line, for tables: `verbs | groups | resources [| names]` or `verbs | urls`, each a
 * list with spaces; `core` is the core group. Throws when the line is neither.
 */
export function parseRule(line: string): PolicyRule {
  const columns = line.split(' | ').map((column) => column.split(' '));
  const [verbs, second, resources, names] = columns;
  if (verbs && second && columns.length === 2) return { verbs, nonResourceURLs: second };
  if (!verbs || !second || !resources) throw new Error(`not a rule: ${line}`);
  return {
    verbs,
    apiGroups: second.map((group) => (group === 'core' ? '' : group)),
    resources,
    ...(names ? { resourceNames: names } : {}),
  };
}
