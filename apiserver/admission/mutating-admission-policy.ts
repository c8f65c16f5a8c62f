import type {
  MutatingPolicySpec,
  Mutation,
} from '#api/admissionregistration/mutating-policy-validate.ts';
import { RESULTS } from '#api/admissionregistration/policy-scope.ts';
import { mergeValues } from '#api/apply-merge.ts';
import { type Shape, shapeOf } from '#api/field-shape.ts';
import type { Kind } from '#api/kind.ts';
import { jsonPatch } from '#api/patch.ts';
import { failure, forbiddenError, isStatusError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { atomicPaths, patchOperations, plainPatch } from '#apiserver/policy-patch.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { asKind, isExempt, isReview, matchBinding, matchRequest } from '#apiserver/match-rules.ts';
import { changeObject } from '#apiserver/mutation.ts';
import {
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
import { Reinvocation } from '#apiserver/reinvocation.ts';

type Program = PolicyHead & {
  mutations: readonly { type: Mutation['patchType']; expression: Expression }[];
};

const policies = boundPolicies<MutatingPolicySpec, Program>('mutating', (spec) => {
  const head = compileHead(spec);
  const scope = { ...head.scope, patches: true };
  return {
    ...head,
    mutations: (spec.mutations ?? []).map(
      ({ patchType, applyConfiguration, jsonPatch: patch }) => ({
        type: patchType,
        expression:
          patchType === 'ApplyConfiguration'
            ? expressionOf(applyConfiguration?.expression ?? '', scope, RESULTS.apply)
            : expressionOf(patch?.expression ?? '', scope, RESULTS.jsonPatch),
      }),
    ),
  };
});

type Bound = Policy<MutatingPolicySpec, Program>;

/** Source: Kubernetes "Mutating Admission Policy". */
export const mutatingAdmissionPolicy: AdmissionRule = {
  name: 'MutatingAdmissionPolicy',
  handles: ({ kind, operation }) => operation !== 'DELETE' && !isExempt(kind) && !isReview(kind),
  mutate(request, context) {
    const all = policies(context.reader);
    if (all.length === 0) return;
    request.reinvocation ??= new Reinvocation();
    request.reinvocation.enter(request.object);
    const problems: string[] = [];
    for (const policy of all) applyPolicy(policy, request, context, problems);
    request.reinvocation.leave(request.object);
    if (problems.length > 0) throw refusal(request, problems);
  },
};

function refusal({ kind, name }: AdmissionRequest, problems: readonly string[]): Error {
  const resource = { group: kind.group, resource: kind.plural };
  const { status } = forbiddenError(resource, name, 'admission request denied by policy');
  return failure(403, 'Invalid', problems[0] ?? '', {
    ...status.details,
    causes: problems.map((message) => ({ message })),
  });
}

function applyPolicy(
  policy: Bound,
  request: AdmissionRequest,
  context: AdmissionContext,
  problems: string[],
): void {
  const { name, spec } = policy;
  const matched = matchRequest(spec.matchConstraints ?? {}, request, context);
  if (!matched) return;
  const refuse = (binding: string | null, why: string): void => {
    if (spec.failurePolicy === 'Ignore') return;
    const who =
      binding === null ? `policy "${name}"` : `policy '${name}' with binding '${binding}'`;
    problems.push(`${who} denied request: ${why}`);
  };
  const paramKind = paramKindOf(spec, context);
  if (typeof paramKind === 'string') {
    refuse(null, `failed to configure policy: ${paramKind}`);
    return;
  }
  for (const binding of policy.bindings) {
    if (!matchBinding(binding.spec.matchResources, request, context)) continue;
    const params = collectParams(paramKind, binding.spec.paramRef, request, context);
    if (typeof params === 'string') {
      refuse(binding.name, `failed to configure binding: ${params}`);
      continue;
    }
    for (const [i, param] of params.entries()) {
      const id = `policy ${name}/${binding.name}/${i}`;
      if (!request.reinvocation?.mayCall(id)) continue;
      const before = JSON.stringify(request.object);
      const why = mutate({ policy, request, context, matched, param });
      const changed = JSON.stringify(request.object) !== before;
      request.reinvocation.called(id, spec.reinvocationPolicy === 'IfNeeded', changed);
      if (why !== null) refuse(binding.name, why);
    }
  }
}

type Invocation = {
  policy: Bound;
  request: AdmissionRequest;
  context: AdmissionContext;
  matched: Kind;
  param: KubeObject | null;
};

/** Runs a policy's mutations one after the other; text: why one of them failed. */
function mutate({ policy, request, context, matched, param }: Invocation): string | null {
  const { program } = policy;
  const first = requestBindings(request, matched, context);
  const matching = conditionsHold(program.conditions, { ...first, params: param });
  if ('error' in matching) return matching.error;
  if (!matching.holds) return null;
  for (const { type, expression } of program.mutations) {
    const budget = { left: POLICY_BUDGET };
    // Every mutation sees what the one before it made.
    const seen = requestBindings(request, matched, context);
    const bindings = policyBindings(seen, param, program.variables, budget);
    try {
      const result = runExpression(expression, bindings, budget);
      if ('error' in result) return result.error;
      const current = asKind(request.object, request.kind, matched);
      if (!current) return null;
      const patched =
        type === 'ApplyConfiguration'
          ? applyTo(current, plainPatch(result.value), matched, context)
          : patchTo(current, patchOperations(result.value));
      if (typeof patched === 'string') return patched;
      changeObject(request, context, asKind(patched, matched, request.kind) ?? patched);
    } catch (error) {
      if (error instanceof OutOfBudget || isStatusError(error)) return error.message;
      throw error;
    }
  }
  return null;
}

/** Merged as server-side apply merges, without owners; text: why not. */
function applyTo(
  current: KubeObject,
  patch: unknown,
  kind: Kind,
  { scheme }: AdmissionContext,
): KubeObject | string {
  if (typeof patch === 'string') return patch;
  const shape: Shape = shapeOf(scheme.schemaOf(kind), scheme.definitions);
  const atomic = atomicPaths(patch, shape);
  if (atomic.length > 0) {
    const paths = atomic.join(', ');
    return `error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: ${paths}`;
  }
  return mergeValues(current, patch, shape) as KubeObject;
}

function patchTo(current: KubeObject, operations: unknown): KubeObject | string {
  if (typeof operations === 'string') return operations;
  try {
    return jsonPatch(current, operations) as KubeObject;
  } catch (error) {
    if (!isStatusError(error)) throw error;
    const why = error.cause instanceof Error ? error.cause.message : error.message;
    // A test that does not hold skips the mutation.
    return /^testing value .* failed$/.test(why) ? current : `JSON Patch: ${why}`;
  }
}
