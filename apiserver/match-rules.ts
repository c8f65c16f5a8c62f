import { compileLabelSelector, type LabelSelectorMatcher } from '#api/labels.ts';
import type {
  Condition,
  Matching,
  OperationRule,
} from '#api/admissionregistration/rules-validate.ts';
import type { Kind } from '#api/kind.ts';
import { notFoundError } from '#api/status.ts';
import type { KubeObject, LabelSelector } from '#api/types.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';
import { fromStored, toStored } from '#apiserver/resource/views.ts';
import { storedKind } from '#apiserver/watch-cache.ts';

/**
 * Which requests policies and webhooks see: rules, selectors and equivalent versions.
 * Source: Kubernetes "Dynamic Admission Control", "Matching requests".
 */

export type Matcher = Matching & { matchConditions?: Condition[] };

/** Objects that decide about admission are never kept from being repaired. */
const EXEMPT = new Set([
  'validatingadmissionpolicies',
  'validatingadmissionpolicybindings',
  'mutatingadmissionpolicies',
  'mutatingadmissionpolicybindings',
  'validatingwebhookconfigurations',
  'mutatingwebhookconfigurations',
]);

export const isExempt = ({ group, plural }: Kind): boolean =>
  group === 'admissionregistration.k8s.io' && EXEMPT.has(plural);

/** Reviews are questions, not objects: policies have no say in them. */
const REVIEWS = new Set(['authentication.k8s.io', 'authorization.k8s.io']);

export const isReview = ({ group }: Kind): boolean => REVIEWS.has(group);

/** The kind that a rule asks for, the request's own or an equivalent one; null: no match. */
export function matchRequest(
  matching: Matching,
  request: AdmissionRequest,
  context: AdmissionContext,
): Kind | null {
  if (!matchesNamespace(matching.namespaceSelector, request, context)) return null;
  if (!matchesObject(matching.objectSelector, request)) return null;
  const excluded = matching.excludeResourceRules ?? [];
  if (findKind(excluded, matching.matchPolicy, request, context)) return null;
  const rules = matching.resourceRules ?? [];
  return findKind(rules, matching.matchPolicy, request, context);
}

/** Bindings without rules apply to all that their policy applies to. */
export function matchBinding(
  matching: Matching | undefined,
  request: AdmissionRequest,
  context: AdmissionContext,
): boolean {
  if (!matching) return true;
  if (!matchesNamespace(matching.namespaceSelector, request, context)) return false;
  if (!matchesObject(matching.objectSelector, request)) return false;
  const excluded = matching.excludeResourceRules ?? [];
  if (findKind(excluded, matching.matchPolicy, request, context)) return false;
  const rules = matching.resourceRules ?? [];
  return rules.length === 0 || findKind(rules, matching.matchPolicy, request, context) !== null;
}

function findKind(
  rules: readonly OperationRule[],
  policy: string | undefined,
  request: AdmissionRequest,
  { scheme }: AdmissionContext,
): Kind | null {
  if (rules.some((rule) => ruleApplies(rule, request, request.kind))) return request.kind;
  if (policy === 'Exact') return null;
  const home = storedKind(request.kind);
  const others = scheme.kinds.filter(
    (kind) => kind !== request.kind && (kind === home || storedKind(kind) === home),
  );
  for (const rule of rules) {
    const found = others.find((kind) => ruleApplies(rule, request, kind));
    if (found) return found;
  }
  return null;
}

const has = (values: readonly string[] | undefined, value: string): boolean =>
  values !== undefined && (values.includes('*') || values.includes(value));

function ruleApplies(rule: OperationRule, request: AdmissionRequest, kind: Kind): boolean {
  const names = rule.resourceNames ?? [];
  return (
    has(rule.operations, request.operation) &&
    has(rule.apiGroups, kind.group) &&
    has(rule.apiVersions, kind.version) &&
    inScope(rule.scope, request) &&
    (names.length === 0 || names.includes(request.name)) &&
    (rule.resources ?? []).some((pattern) =>
      fitsResource(pattern, kind.plural, request.subresource),
    )
  );
}

function inScope(scope: string | undefined, { kind, namespace }: AdmissionRequest): boolean {
  const namespaced = namespace !== '' && kind.scope === 'Namespaced';
  if (scope === 'Namespaced') return namespaced;
  return scope === 'Cluster' ? !namespaced : true;
}

function fitsResource(pattern: string, resource: string, subresource: string): boolean {
  const slash = pattern.indexOf('/');
  const wanted = slash < 0 ? pattern : pattern.slice(0, slash);
  const part = slash < 0 ? '' : pattern.slice(slash + 1);
  return (wanted === '*' || wanted === resource) && (part === '*' || part === subresource);
}

const compiled = new WeakMap<LabelSelector, LabelSelectorMatcher>();

function matcherOf(selector: LabelSelector): LabelSelectorMatcher {
  const known = compiled.get(selector);
  if (known) return known;
  const matcher = compileLabelSelector(selector);
  compiled.set(selector, matcher);
  return matcher;
}

const isEmpty = (selector: LabelSelector | undefined): boolean =>
  !selector ||
  (Object.keys(selector.matchLabels ?? {}).length === 0 && !selector.matchExpressions?.length);

function matchesNamespace(
  selector: LabelSelector | undefined,
  request: AdmissionRequest,
  { reader }: AdmissionContext,
): boolean {
  if (!selector || isEmpty(selector)) return true;
  const { kind, namespace, name, object, operation } = request;
  const itself = kind.group === '' && kind.plural === 'namespaces';
  if (itself) {
    if (operation !== 'DELETE' && request.subresource === '' && object) {
      return matcherOf(selector).matches(object.metadata.labels ?? {});
    }
  } else if (namespace === '') return true;
  const home = itself ? name : namespace;
  const found = reader.get('', 'namespaces', { name: home });
  if (!found) throw notFoundError({ group: '', resource: 'namespaces' }, home);
  return matcherOf(selector).matches(found.metadata.labels ?? {});
}

function matchesObject(selector: LabelSelector | undefined, request: AdmissionRequest): boolean {
  if (!selector || isEmpty(selector)) return true;
  const matcher = matcherOf(selector);
  return [request.object, request.oldObject].some(
    (object) => object !== null && matcher.matches(object.metadata?.labels ?? {}),
  );
}

/** A shared or own object of one kind as an equivalent other one; never changes its argument. */
export function asKind(object: KubeObject | null, from: Kind, to: Kind): KubeObject | null {
  if (!object || from === to || object.kind !== from.kind) return object;
  return fromStored(to, toStored(from, structuredClone(object)));
}
