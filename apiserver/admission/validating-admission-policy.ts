import { RESULTS } from '#api/admissionregistration/policy-scope.ts';
import type {
  Validation,
  ValidatingPolicySpec,
} from '#api/admissionregistration/validating-policy-validate.ts';
import { failure, forbiddenError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isExempt, isReview, matchBinding, matchRequest } from '#apiserver/match-rules.ts';
import {
  type Bindings,
  compileHead,
  conditionsHold,
  type Expression,
  expressionOf,
  OutOfBudget,
  POLICY_BUDGET,
  policyBindings,
  type PolicyHead,
  requestBindings,
  runExpression,
} from '#apiserver/policy-expressions.ts';
import { boundPolicies, collectParams, paramKindOf, type Policy } from '#apiserver/policy-set.ts';

/** Longer texts made by messageExpression are not used. */
const MAX_MESSAGE_BYTES = 5 * 1024;
const MAX_ANNOTATION_LENGTH = 10 * 1024;
/** Of one request's failures the audit record keeps this many. */
const MAX_AUDITED_FAILURES = 50;

type Program = PolicyHead & {
  validations: readonly { expression: Expression; message: Expression | null; rule: Validation }[];
  annotations: readonly (Expression & { key: string })[];
};

type Decision = { message: string; reason: string; index: number };

type Outcome = {
  denied: { policy: string; binding: string | null; decision: Decision }[];
  failures: Record<string, unknown>[];
};

const policies = boundPolicies<ValidatingPolicySpec, Program>('validating', (spec) => {
  const head = compileHead(spec);
  const message = { ...head.scope, authorizer: false };
  return {
    ...head,
    validations: (spec.validations ?? []).map((rule) => ({
      rule,
      expression: expressionOf(rule.expression ?? '', head.scope, RESULTS.condition),
      message: rule.messageExpression
        ? expressionOf(rule.messageExpression, message, RESULTS.message)
        : null,
    })),
    annotations: (spec.auditAnnotations ?? []).map(({ key = '', valueExpression = '' }) => ({
      ...expressionOf(valueExpression.trim(), head.scope, RESULTS.annotation),
      key,
    })),
  };
});

/** Source: Kubernetes "Validating Admission Policy". */
export const validatingAdmissionPolicy: AdmissionRule = {
  name: 'ValidatingAdmissionPolicy',
  handles: ({ kind }) => !isExempt(kind) && !isReview(kind),
  validate(request, context) {
    const all = policies(context.reader);
    if (all.length === 0) return;
    const outcome: Outcome = { denied: [], failures: [] };
    for (const policy of all) applyPolicy(policy, request, context, outcome);
    if (outcome.failures.length > 0) {
      const value = JSON.stringify(outcome.failures.slice(0, MAX_AUDITED_FAILURES));
      request.annotate?.('validation.policy.admission.k8s.io/validation_failure', value);
    }
    const [first] = outcome.denied;
    if (first) throw refusal(request, first);
  },
};

function refusal(request: AdmissionRequest, denied: Outcome['denied'][number]): Error {
  const { policy, binding, decision } = denied;
  const bound = binding === null ? '' : ` with binding '${binding}'`;
  const message = `ValidatingAdmissionPolicy '${policy}'${bound} denied request: ${decision.message}`;
  const { kind, name } = request;
  const resource = { group: kind.group, resource: kind.plural };
  const { status } = forbiddenError(resource, name || 'Unknown', message);
  const reason = decision.reason || 'Invalid';
  return failure(CODES[reason] ?? 422, reason, status.message ?? '', {
    ...status.details,
    causes: [{ message }],
  });
}

const CODES: Readonly<Record<string, number>> = {
  Forbidden: 403,
  Unauthorized: 401,
  RequestEntityTooLarge: 413,
  Invalid: 422,
};

function applyPolicy(
  policy: Policy<ValidatingPolicySpec, Program>,
  request: AdmissionRequest,
  context: AdmissionContext,
  outcome: Outcome,
): void {
  const matched = matchRequest(policy.spec.matchConstraints ?? {}, request, context);
  if (!matched) return;
  const refuse = (binding: string | null, message: string): void => {
    if (policy.spec.failurePolicy === 'Ignore') return;
    const decision = { message, reason: '', index: 0 };
    outcome.denied.push({ policy: policy.name, binding, decision });
  };
  const paramKind = paramKindOf(policy.spec, context);
  if (typeof paramKind === 'string') {
    refuse(null, `failed to configure policy: ${paramKind}`);
    return;
  }
  const bindings = requestBindings(request, matched, context);
  const annotations = new Map<string, Set<string>>();
  for (const binding of policy.bindings) {
    if (!matchBinding(binding.spec.matchResources, request, context)) continue;
    const params = collectParams(paramKind, binding.spec.paramRef, request, context);
    if (typeof params === 'string') {
      refuse(binding.name, `failed to configure binding: ${params}`);
      continue;
    }
    const actions = binding.spec.validationActions ?? [];
    for (const param of params) {
      const decisions = evaluatePolicy(policy, bindings, param, annotations);
      for (const decision of decisions) {
        enforce(
          { policy: policy.name, binding: binding.name, decision },
          actions,
          request,
          outcome,
        );
      }
    }
  }
  for (const [key, values] of annotations) {
    request.annotate?.(`${policy.name}/${key}`, [...values].join(', '));
  }
}

function enforce(
  denied: { policy: string; binding: string; decision: Decision },
  actions: readonly string[],
  request: AdmissionRequest,
  outcome: Outcome,
): void {
  const { policy, binding, decision } = denied;
  for (const action of actions) {
    if (action === 'Deny') outcome.denied.push(denied);
    else if (action === 'Warn') {
      const where = `ValidatingAdmissionPolicy '${policy}' with binding '${binding}'`;
      request.warnings.push(`Validation failed for ${where}: ${decision.message}`);
    } else if (action === 'Audit') {
      const { message, index: expressionIndex } = decision;
      const validationActions = actions;
      outcome.failures.push({ message, policy, binding, expressionIndex, validationActions });
    }
  }
}

/** One policy against one parameter: what it denies. */
function evaluatePolicy(
  policy: Policy<ValidatingPolicySpec, Program>,
  request: Bindings,
  param: KubeObject | null,
  annotations: Map<string, Set<string>>,
): Decision[] {
  const { program, spec } = policy;
  const fails = (message: string, index = 0): Decision[] =>
    spec.failurePolicy === 'Ignore' ? [] : [{ message, reason: '', index }];
  const matching = conditionsHold(program.conditions, { ...request, params: param });
  if ('error' in matching) return fails(matching.error);
  if (!matching.holds) return [];
  const budget = { left: POLICY_BUDGET };
  const bindings = policyBindings(request, param, program.variables, budget);
  try {
    const decisions = program.validations.flatMap(({ expression, message, rule }, index) => {
      const result = runExpression(expression, bindings, budget);
      if ('error' in result) return fails(result.error, index);
      if (result.value === true) return [];
      const made = message ? runExpression(message, bindings, budget) : null;
      const text = made && 'value' in made ? usableMessage(made.value) : '';
      const fallback = rule.message?.trim() || `failed expression: ${expression.source.trim()}`;
      return [{ message: text || fallback, reason: rule.reason ?? 'Invalid', index }];
    });
    for (const annotation of program.annotations) {
      const result = runExpression(annotation, bindings, budget);
      if ('error' in result) decisions.push(...fails(result.error));
      else if (typeof result.value === 'string' && result.value.trim() !== '') {
        const values = annotations.get(annotation.key) ?? new Set();
        values.add(result.value.trim().slice(0, MAX_ANNOTATION_LENGTH));
        annotations.set(annotation.key, values);
      }
    }
    return decisions;
  } catch (error) {
    if (!(error instanceof OutOfBudget)) throw error;
    return fails(error.message);
  }
}

function usableMessage(value: unknown): string {
  if (typeof value !== 'string') return '';
  const text = value.trim();
  return Buffer.byteLength(text) > MAX_MESSAGE_BYTES || text.includes('\n') ? '' : text;
}
