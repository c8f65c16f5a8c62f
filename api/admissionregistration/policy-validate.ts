import {
  type CompiledExpression,
  compileExpression,
  type PolicyScope,
  RESULTS,
} from '#api/admissionregistration/policy-scope.ts';
import {
  checkConditions,
  checkMatching,
  type Condition,
  FAILURE_POLICIES,
  type Matching,
} from '#api/admissionregistration/rules-validate.ts';
import { type CelType, DYN } from '#api/cel/types.ts';
import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { LabelSelector } from '#api/types.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { isDns1035Label, isDns1123Subdomain, isPathSegment } from '#api/validate-names.ts';
import { addInvalid, type Errors } from '#api/validate.ts';

/** Parts that validating and mutating policies share. Source: admissionregistration.k8s.io/v1. */

export type ParamKind = { apiVersion?: string; kind?: string };
export type ParamRef = {
  name?: string;
  namespace?: string;
  selector?: LabelSelector;
  parameterNotFoundAction?: string;
};
export type Variable = { name?: string; expression?: string };

export type PolicySpec = {
  paramKind?: ParamKind;
  matchConstraints?: Matching;
  failurePolicy?: string;
  matchConditions?: Condition[];
  variables?: Variable[];
};

const NOT_FOUND_ACTIONS = ['Deny', 'Allow'];
const RESERVED = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return var void while'.split(
    ' ',
  ),
);

/** Checks what comes before a policy's own expressions; returns what those may refer to. */
export function checkPolicyHead(
  errors: Errors,
  spec: PolicySpec,
  conditions: boolean,
): PolicyScope {
  const { failurePolicy, paramKind, matchConstraints } = spec;
  if (!failurePolicy) errors.push(required('spec.failurePolicy'));
  else if (!FAILURE_POLICIES.includes(failurePolicy)) {
    errors.push(notSupported('spec.failurePolicy', failurePolicy, FAILURE_POLICIES));
  }
  if (paramKind) checkParamKind(errors, 'spec.paramKind', paramKind);
  if (!matchConstraints) errors.push(required('spec.matchConstraints'));
  else {
    checkMatching(errors, 'spec.matchConstraints', matchConstraints);
    if (!matchConstraints.resourceRules?.length) {
      errors.push(required('spec.matchConstraints.resourceRules'));
    }
  }
  const params = paramKind !== undefined;
  if (conditions)
    checkConditions(errors, 'spec.matchConditions', spec.matchConditions ?? [], params);
  return { params, authorizer: true, variables: checkVariables(errors, spec) };
}

function checkVariables(errors: Errors, spec: PolicySpec): Record<string, CelType> | null {
  const { variables = [] } = spec;
  if (variables.length === 0) return null;
  const types: Record<string, CelType> = {};
  for (const [i, { name = '', expression = '' }] of variables.entries()) {
    const at = `spec.variables[${i}]`;
    if (name.trim() === '') errors.push(required(`${at}.name`, 'name is not specified'));
    else if (!/^[_a-zA-Z][_a-zA-Z0-9]*$/.test(name) || RESERVED.has(name)) {
      errors.push(invalid(`${at}.name`, name, 'must be a valid CEL identifier'));
    }
    const scope = {
      params: spec.paramKind !== undefined,
      authorizer: true,
      variables: { ...types },
    };
    types[name] = DYN;
    if (expression.trim() === '') {
      errors.push(required(`${at}.expression`, 'expression is not specified'));
      continue;
    }
    const compiled = compileExpression(expression, scope, RESULTS.variable);
    if ('detail' in compiled) errors.push(invalid(`${at}.expression`, expression, compiled.detail));
    else types[name] = compiled.program.type;
  }
  return types;
}

function checkParamKind(
  errors: Errors,
  path: string,
  { apiVersion = '', kind = '' }: ParamKind,
): void {
  const parts = apiVersion.split('/');
  if (apiVersion === '') errors.push(required(`${path}.apiVersion`));
  else if (parts.length > 2) {
    const text = `unexpected GroupVersion string: ${apiVersion}`;
    errors.push(invalid(`${path}.apiVersion`, apiVersion, text));
  } else {
    const [group, version] = parts.length === 2 ? parts : ['', apiVersion];
    const groupProblems = group ? isDns1123Subdomain(group) : [];
    if (groupProblems.length > 0) {
      errors.push(invalid(`${path}.apiVersion`, group, groupProblems.join(',')));
    }
    const versionProblems = version ? isDns1035Label(version) : [];
    if (!version)
      errors.push(invalid(`${path}.apiVersion`, apiVersion, 'version must be specified'));
    else if (versionProblems.length > 0) {
      errors.push(invalid(`${path}.apiVersion`, version, versionProblems.join(',')));
    }
  }
  const problems = kind ? isDns1035Label(kind.toLowerCase()) : [];
  if (kind === '') errors.push(required(`${path}.kind`));
  else if (problems.length > 0) {
    const text = `may have mixed case, but should otherwise match: ${problems.join(',')}`;
    errors.push(invalid(`${path}.kind`, kind, text));
  }
}

/** Reports an expression that does not compile. */
export function reportExpression(
  errors: Errors,
  path: string,
  expression: string,
  compiled: CompiledExpression,
): void {
  if ('detail' in compiled) errors.push(invalid(path, expression, compiled.detail));
}

export type BindingSpec = { policyName?: string; paramRef?: ParamRef; matchResources?: Matching };

/** What bindings of both kinds of policy have. */
export function checkBinding(errors: Errors, spec: BindingSpec): void {
  const { policyName = '', paramRef, matchResources } = spec;
  if (policyName === '') errors.push(required('spec.policyName'));
  else addInvalid(errors, 'spec.policyName', policyName, isDns1123Subdomain(policyName));
  if (paramRef) checkParamRef(errors, 'spec.paramRef', paramRef);
  if (matchResources) checkMatching(errors, 'spec.matchResources', matchResources);
}

function checkParamRef(errors: Errors, path: string, ref: ParamRef): void {
  const { name = '', selector, parameterNotFoundAction: action } = ref;
  const both = 'name and selector are mutually exclusive';
  if (name) {
    addInvalid(errors, `${path}.name`, name, isPathSegment(name));
    if (selector) errors.push(forbidden(`${path}.name`, both));
  }
  if (selector) {
    checkLabelSelector(errors, `${path}.selector`, selector);
    if (name) errors.push(forbidden(`${path}.selector`, both));
  }
  if (!name && !selector) errors.push(required(path, 'one of name or selector must be specified'));
  if (!action) errors.push(required(`${path}.parameterNotFoundAction`));
  else if (!NOT_FOUND_ACTIONS.includes(action)) {
    errors.push(notSupported(`${path}.parameterNotFoundAction`, action, NOT_FOUND_ACTIONS));
  }
}
