import {
  compileExpression,
  type PolicyScope,
  RESULTS,
} from '#api/admissionregistration/policy-scope.ts';
import {
  checkPolicyHead,
  type PolicySpec,
  reportExpression,
} from '#api/admissionregistration/policy-validate.ts';
import { invalid, notSupported, required } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';

export type Mutation = {
  patchType?: string;
  applyConfiguration?: { expression?: string };
  jsonPatch?: { expression?: string };
};

export type MutatingPolicySpec = PolicySpec & {
  mutations?: Mutation[];
  reinvocationPolicy?: string;
};

const PATCH_TYPES = ['ApplyConfiguration', 'JSONPatch'];
const REINVOCATIONS = ['Never', 'IfNeeded'];
/** There is nothing left to change when an object is deleted. */
const OPERATIONS = ['*', 'CONNECT', 'CREATE', 'UPDATE'];

/** `conditions`: whether match conditions are checked. */
export function checkMutatingPolicy(
  errors: Errors,
  spec: MutatingPolicySpec,
  conditions: boolean,
): void {
  const scope = { ...checkPolicyHead(errors, spec, conditions), patches: true };
  for (const { operations = [] } of spec.matchConstraints?.resourceRules ?? []) {
    const path = 'spec.matchConstraints.resourceRules.operations';
    for (const operation of operations) {
      if (!OPERATIONS.includes(operation)) errors.push(notSupported(path, operation, OPERATIONS));
    }
  }
  const { mutations = [], reinvocationPolicy } = spec;
  if (mutations.length === 0) {
    errors.push(required('spec.mutations', 'mutations must contain at least one item'));
  }
  for (const [i, mutation] of mutations.entries()) {
    checkMutation(errors, `spec.mutations[${i}]`, mutation, scope);
  }
  if (!reinvocationPolicy) errors.push(required('spec.reinvocationPolicy'));
  else if (!REINVOCATIONS.includes(reinvocationPolicy)) {
    errors.push(notSupported('spec.reinvocationPolicy', reinvocationPolicy, REINVOCATIONS));
  }
}

function checkMutation(errors: Errors, path: string, mutation: Mutation, scope: PolicyScope): void {
  const { patchType } = mutation;
  if (!patchType) {
    errors.push(required(`${path}.patchType`));
    return;
  }
  if (!PATCH_TYPES.includes(patchType)) {
    errors.push(notSupported(`${path}.patchType`, patchType, PATCH_TYPES));
    return;
  }
  const apply = patchType === 'ApplyConfiguration';
  const field = apply ? 'applyConfiguration' : 'jsonPatch';
  const other = apply ? 'jsonPatch' : 'applyConfiguration';
  const part = mutation[field];
  if (!part) {
    errors.push(required(`${path}.${field}`, `must be specified when patchType is ${patchType}`));
  } else {
    checkPatch(errors, `${path}.${field}.expression`, part.expression ?? '', scope, apply);
  }
  if (mutation[other]) {
    const text = `must not be specified when patchType is ${patchType}`;
    errors.push(invalid(`${path}.${other}`, `{${other}}`, text));
  }
}

function checkPatch(
  errors: Errors,
  path: string,
  expression: string,
  scope: PolicyScope,
  apply: boolean,
): void {
  if (expression.trim() === '') {
    errors.push(required(path, 'expression is not specified'));
    return;
  }
  const wanted = apply ? RESULTS.apply : RESULTS.jsonPatch;
  reportExpression(errors, path, expression, compileExpression(expression, scope, wanted));
}
