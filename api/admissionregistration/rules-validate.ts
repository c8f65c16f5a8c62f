import { compileExpression, RESULTS } from '#api/admissionregistration/policy-scope.ts';
import { duplicate, invalid, notSupported, required, tooMany } from '#api/field-error.ts';
import type { LabelSelector } from '#api/types.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { isPathSegment } from '#api/validate-names.ts';
import { addInvalid, checkQualifiedName, type Errors } from '#api/validate.ts';

/** Rules that policies and webhooks select requests with. Source: admissionregistration.k8s.io/v1. */

export type OperationRule = {
  operations?: string[];
  apiGroups?: string[];
  apiVersions?: string[];
  resources?: string[];
  resourceNames?: string[];
  scope?: string;
};

export type Matching = {
  matchPolicy?: string;
  namespaceSelector?: LabelSelector;
  objectSelector?: LabelSelector;
  resourceRules?: OperationRule[];
  excludeResourceRules?: OperationRule[];
};

export type Condition = { name?: string; expression?: string };

export const FAILURE_POLICIES = ['Fail', 'Ignore'];
export const MATCH_POLICIES = ['Equivalent', 'Exact'];
const OPERATIONS = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];
const SCOPES = ['*', 'Cluster', 'Namespaced'];
const MAX_CONDITIONS = 64;

export function checkRule(errors: Errors, path: string, rule: OperationRule): void {
  const { operations = [], apiGroups = [], apiVersions = [], resources = [] } = rule;
  if (operations.length === 0) errors.push(required(`${path}.operations`));
  checkWildcard(errors, `${path}.operations`, operations, 'operations');
  for (const [i, operation] of operations.entries()) {
    if (OPERATIONS.includes(operation)) continue;
    errors.push(notSupported(`${path}.operations[${i}]`, operation, OPERATIONS));
  }
  if (apiGroups.length === 0) errors.push(required(`${path}.apiGroups`));
  checkWildcard(errors, `${path}.apiGroups`, apiGroups, 'API groups');
  if (apiVersions.length === 0) errors.push(required(`${path}.apiVersions`));
  checkWildcard(errors, `${path}.apiVersions`, apiVersions, 'API versions');
  for (const [i, version] of apiVersions.entries()) {
    if (version === '') errors.push(required(`${path}.apiVersions[${i}]`));
  }
  checkResources(errors, `${path}.resources`, resources);
  if (rule.scope !== undefined && !SCOPES.includes(rule.scope)) {
    errors.push(notSupported(`${path}.scope`, rule.scope, SCOPES));
  }
}

function checkWildcard(
  errors: Errors,
  path: string,
  values: readonly string[],
  what: string,
): void {
  if (values.length < 2 || !values.includes('*')) return;
  errors.push(invalid(path, values, `if '*' is present, must not specify other ${what}`));
}

function checkResources(errors: Errors, path: string, resources: readonly string[]): void {
  if (resources.length === 0) errors.push(required(path));
  const wholes = new Set<string>();
  const parts = new Set<string>();
  let plain = false;
  for (const [i, name] of resources.entries()) {
    if (name === '') {
      errors.push(required(`${path}[${i}]`));
      continue;
    }
    const slash = name.indexOf('/');
    if (slash < 0) {
      plain = name !== '*';
      continue;
    }
    const whole = name.slice(0, slash);
    const part = name.slice(slash + 1);
    const clash = (pattern: string): void => {
      const text = `if '${pattern}' is present, must not specify ${name}`;
      errors.push(invalid(`${path}[${i}]`, name, text));
    };
    if (wholes.has(whole)) clash(`${whole}/*`);
    if (parts.has(part)) clash(`*/${part}`);
    if (part === '*') wholes.add(whole);
    if (whole === '*') parts.add(part);
  }
  if (resources.length > 1 && resources.includes('*/*')) {
    errors.push(invalid(path, resources, "if '*/*' is present, must not specify other resources"));
  }
  if (resources.includes('*') && plain) {
    const text = "if '*' is present, must not specify other resources without subresources";
    errors.push(invalid(path, resources, text));
  }
}

/** What a policy or binding applies to; defaulted. */
export function checkMatching(errors: Errors, path: string, matching: Matching): void {
  const { matchPolicy, namespaceSelector, objectSelector } = matching;
  if (!matchPolicy) errors.push(required(`${path}.matchPolicy`));
  else if (!MATCH_POLICIES.includes(matchPolicy)) {
    errors.push(notSupported(`${path}.matchPolicy`, matchPolicy, MATCH_POLICIES));
  }
  checkLabelSelector(errors, `${path}.namespaceSelector`, namespaceSelector);
  checkLabelSelector(errors, `${path}.objectSelector`, objectSelector);
  for (const field of ['resourceRules', 'excludeResourceRules'] as const) {
    for (const [i, rule] of (matching[field] ?? []).entries()) {
      checkNamedRule(errors, `${path}.${field}[${i}]`, rule);
    }
  }
}

function checkNamedRule(errors: Errors, path: string, rule: OperationRule): void {
  const seen = new Set<string>();
  for (const [i, name] of (rule.resourceNames ?? []).entries()) {
    addInvalid(errors, `${path}.resourceNames[${i}]`, name, isPathSegment(name));
    if (seen.has(name)) errors.push(duplicate(`${path}.resourceNames[${i}]`, name));
    seen.add(name);
  }
  checkRule(errors, path, rule);
}

export function checkConditions(
  errors: Errors,
  path: string,
  conditions: readonly Condition[],
  params: boolean,
): void {
  if (conditions.length > MAX_CONDITIONS) {
    errors.push(tooMany(path, conditions.length, MAX_CONDITIONS));
  }
  const names = new Set<string>();
  for (const [i, { name = '', expression = '' }] of conditions.entries()) {
    const at = `${path}[${i}]`;
    const source = expression.trim();
    if (source === '') errors.push(required(`${at}.expression`));
    else {
      const scope = { params, authorizer: true, variables: null };
      const compiled = compileExpression(source, scope, RESULTS.condition);
      if ('detail' in compiled) errors.push(invalid(`${at}.expression`, source, compiled.detail));
    }
    if (name === '') errors.push(required(`${at}.name`));
    else checkQualifiedName(errors, `${at}.name`, name);
    if (name !== '' && names.has(name)) errors.push(duplicate(`${at}.name`, name));
    names.add(name);
  }
}

/** Selectors that select everything, matching by equivalence, rules of every scope; mutates. */
export function defaultMatching(matching: Matching): void {
  matching.matchPolicy ??= 'Equivalent';
  matching.namespaceSelector ??= {};
  matching.objectSelector ??= {};
  for (const rule of [
    ...(matching.resourceRules ?? []),
    ...(matching.excludeResourceRules ?? []),
  ]) {
    rule.scope ??= '*';
  }
}
