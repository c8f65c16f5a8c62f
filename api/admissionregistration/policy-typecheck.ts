import { compileExpression, type PolicyScope } from '#api/admissionregistration/policy-scope.ts';
import type { ValidatingPolicySpec } from '#api/admissionregistration/validating-policy-validate.ts';
import { type CelType, DYN } from '#api/cel/types.ts';

/** `field`: `spec.validations[0].expression`. Source: admissionregistration.k8s.io/v1. */
export type ExpressionWarning = { fieldRef: string; warning: string };

/** A kind that a policy is about, with the type that expressions see of its objects. */
export type TypedKind = { apiVersion: string; kind: string; type: CelType };

/** Upstream looks at no more kinds of one policy. */
const MAX_KINDS = 10;

/** One resource that a policy names in full. */
export type NamedResource = { group: string; version: string; resource: string };

/** What a policy names without wildcards, each once. Others cannot be checked. */
export function namedResources(spec: ValidatingPolicySpec): NamedResource[] {
  const found = new Map<string, NamedResource>();
  for (const rule of spec.matchConstraints?.resourceRules ?? []) {
    const { apiGroups = [], apiVersions = [], resources = [] } = rule;
    if ([...apiGroups, ...apiVersions, ...resources].some((name) => name.includes('*'))) continue;
    for (const group of apiGroups) {
      for (const version of apiVersions) {
        for (const resource of resources) {
          if (resource.includes('/')) continue;
          found.set(`${group}/${version}/${resource}`, { group, version, resource });
        }
      }
    }
  }
  return [...found.values()];
}

/**
 * What is wrong with a policy's expressions about objects of these kinds: admission finds out only
 * at run time. Source: ValidatingAdmissionPolicy, "Type checking".
 */
export function typeWarnings(
  spec: ValidatingPolicySpec,
  kinds: readonly TypedKind[],
): ExpressionWarning[] {
  const checked = [...kinds]
    .sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))
    .slice(0, MAX_KINDS)
    .map((kind) => ({ name: nameOf(kind), scope: scopeFor(spec, kind.type) }));
  const warnings: ExpressionWarning[] = [];
  const check = (fieldRef: string, expression: string): void => {
    const found = checked.flatMap(({ name, scope }) => {
      const compiled = compileExpression(expression, scope, []);
      return 'detail' in compiled ? [`${name}: ${textOf(compiled.detail)}\n`] : [];
    });
    if (found.length > 0) warnings.push({ fieldRef, warning: found.join('\n') });
  };
  for (const [i, { expression, messageExpression }] of (spec.validations ?? []).entries()) {
    check(`spec.validations[${i}].expression`, expression ?? '');
    if (messageExpression) check(`spec.validations[${i}].messageExpression`, messageExpression);
  }
  return warnings;
}

/** As upstream prints a kind: `apps/v1, Kind=Deployment`. */
const nameOf = ({ apiVersion, kind }: TypedKind): string => `${apiVersion}, Kind=${kind}`;

const textOf = (detail: string): string => detail.replace(/^compilation failed: /, '');

/** Variables have the types that they have for objects of this kind. */
function scopeFor(spec: ValidatingPolicySpec, object: CelType): PolicyScope {
  const scope = { params: spec.paramKind !== undefined, authorizer: true, object };
  const variables: Record<string, CelType> = {};
  for (const { name = '', expression = '' } of spec.variables ?? []) {
    const compiled = compileExpression(expression, { ...scope, variables: { ...variables } }, []);
    variables[name] = 'detail' in compiled ? DYN : compiled.program.type;
  }
  return { ...scope, variables: spec.variables?.length ? variables : null };
}
