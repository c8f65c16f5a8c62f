import type { PolicyScope } from '#api/admissionregistration/policy-scope.ts';
import { compileExpression, RESULTS } from '#api/admissionregistration/policy-scope.ts';
import type { PolicySpec } from '#api/admissionregistration/policy-validate.ts';
import { type CelType, DYN, objectType } from '#api/cel/types.ts';
import { CelError, CelObject, type Value } from '#api/cel/values.ts';
import {
  authorizerValue,
  type CelCheck,
  type CelDecision,
  resourceCheckValue,
} from '#api/cel/authz.ts';
import { type CelProgram, evaluate } from '#api/cel/cel.ts';
import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';
import { reviewFields, reviewObjects } from '#apiserver/admission-review.ts';

/** What all expressions of one evaluated policy may cost. Source: k8s.io/apiserver/pkg/apis/cel. */
export const POLICY_BUDGET = 10_000_000;
/** The same for match conditions. */
export const CONDITIONS_BUDGET = 2_500_000;

/** An expression of a policy: it compiled, or why not. */
export type Expression = { source: string; program: CelProgram | null; detail: string };

export function expressionOf(
  source: string,
  scope: PolicyScope,
  expected: readonly CelType[],
): Expression {
  const compiled = compileExpression(source, scope, expected);
  return 'program' in compiled
    ? { source, program: compiled.program, detail: '' }
    : { source, program: null, detail: compiled.detail };
}

export type NamedExpression = Expression & { name: string };

export type PolicyHead = {
  conditions: readonly Expression[];
  variables: readonly NamedExpression[];
  /** What the policy's own expressions may refer to. */
  scope: PolicyScope;
};

/** Compiles match conditions and variables of a policy. */
export function compileHead(spec: PolicySpec): PolicyHead {
  const params = spec.paramKind !== undefined;
  const conditions = (spec.matchConditions ?? []).map(({ expression = '' }) =>
    expressionOf(
      expression.trim(),
      { params, authorizer: true, variables: null },
      RESULTS.condition,
    ),
  );
  const types: Record<string, CelType> = {};
  const variables = (spec.variables ?? []).map(({ name = '', expression = '' }) => {
    const scope = { params, authorizer: true, variables: { ...types } };
    const compiled = expressionOf(expression, scope, RESULTS.variable);
    types[name] = compiled.program?.type ?? DYN;
    return { ...compiled, name };
  });
  const scope = { params, authorizer: true, variables: variables.length > 0 ? types : null };
  return { conditions, variables, scope };
}

/** How much of its budget an evaluation has left; shared by all its expressions. */
export type Budget = { left: number };

const OUT_OF_BUDGET =
  'validation failed due to running out of cost budget, no further validation rules will be run';

export class OutOfBudget extends Error {
  constructor() {
    super(OUT_OF_BUDGET);
  }
}

export type Bindings = Readonly<Record<string, unknown>>;

/** Runs one expression. Throws OutOfBudget. */
export function runExpression(
  expression: Expression,
  bindings: Bindings,
  budget: Budget,
): { value: Value } | { error: string } {
  const { program, source } = expression;
  if (!program) return { error: `compilation error: ${expression.detail}` };
  const result = evaluate(program, bindings);
  budget.left -= result.cost;
  if (budget.left < 0) throw new OutOfBudget();
  if ('error' in result) {
    return { error: `expression '${source}' resulted in error: ${result.error}` };
  }
  return result;
}

/** What expressions see of a request; made once and read lazily. */
export function requestBindings(
  request: AdmissionRequest,
  matched: Kind,
  context: AdmissionContext,
): Bindings {
  const { object, oldObject } = reviewObjects(request, matched);
  const ask = (verb: string, check: CelCheck): CelDecision => decide(request, context, verb, check);
  const itself = request.kind.group === '' && request.kind.plural === 'namespaces';
  return {
    object,
    oldObject,
    request: () => reviewFields(request, matched),
    namespaceObject: () =>
      request.namespace === '' || itself
        ? null
        : (context.reader.get('', 'namespaces', { name: request.namespace }) ?? null),
    authorizer: () => authorizerValue(ask),
    'authorizer.requestResource': () =>
      resourceCheckValue(ask, {
        group: request.kind.group,
        resource: request.kind.plural,
        subresource: request.subresource,
        namespace: request.namespace,
        name: request.name,
      }),
  };
}

function decide(
  request: AdmissionRequest,
  { authorizer }: AdmissionContext,
  verb: string,
  check: CelCheck,
): CelDecision {
  const account = check.serviceAccount;
  const user = account
    ? {
        name: `system:serviceaccount:${account.namespace}:${account.name}`,
        groups: [
          'system:serviceaccounts',
          `system:serviceaccounts:${account.namespace}`,
          'system:authenticated',
        ],
      }
    : request.user;
  const isResource = check.path === null;
  const { decision, reason } = authorizer.authorize({
    user,
    verb,
    group: check.group,
    version: isResource ? '*' : '',
    resource: check.resource,
    subresource: check.subresource,
    namespace: check.namespace,
    name: check.name,
    isResource,
    path: check.path ?? '',
    ...(check.fieldSelector ? { fieldSelector: check.fieldSelector } : {}),
  });
  return { allowed: decision === 'allow', reason, error: '' };
}

/** Adds parameters and the policy's variables, which are evaluated when first read. */
export function policyBindings(
  bindings: Bindings,
  params: KubeObject | null,
  variables: readonly NamedExpression[],
  budget: Budget,
): Bindings {
  const all: Record<string, unknown> = { ...bindings, params };
  if (variables.length === 0) return all;
  const known = new Map<string, Value>();
  const type = objectType(
    'kubernetes.variables',
    Object.fromEntries(variables.map(({ name, program }) => [name, program?.type ?? DYN])),
  );
  const read = (name: string): Value | undefined => {
    const seen = known.get(name);
    if (seen !== undefined) return seen;
    const variable = variables.find((one) => one.name === name);
    if (!variable) return undefined;
    const value = variableValue(variable, all, budget);
    known.set(name, value);
    return value;
  };
  all['variables'] = new CelObject(type, read, () => variables.map(({ name }) => name));
  return all;
}

function variableValue(variable: NamedExpression, bindings: Bindings, budget: Budget): Value {
  const { name, program } = variable;
  const fails = (how: string, why: string): CelError =>
    new CelError(`composited variable "${name}" fails to ${how}: ${why}`);
  if (!program) return fails('compile', variable.detail);
  const result = evaluate(program, bindings);
  budget.left -= result.cost;
  if (budget.left < 0) throw new OutOfBudget();
  return 'error' in result ? fails('evaluate', result.error) : result.value;
}

/** Whether all conditions hold; an error counts only when none of them says no. */
export function conditionsHold(
  conditions: readonly Expression[],
  bindings: Bindings,
): { holds: boolean } | { error: string } {
  const budget = { left: CONDITIONS_BUDGET };
  const errors: string[] = [];
  try {
    for (const condition of conditions) {
      const result = runExpression(condition, bindings, budget);
      if ('error' in result) errors.push(result.error);
      else if (result.value !== true) return { holds: false };
    }
  } catch (error) {
    if (!(error instanceof OutOfBudget)) throw error;
    errors.push(error.message);
  }
  if (errors.length === 0) return { holds: true };
  return { error: errors.length === 1 ? (errors[0] ?? '') : `[${errors.join(', ')}]` };
}
