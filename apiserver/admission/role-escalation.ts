import { equalJson } from '#api/json.ts';
import { failure, forbiddenError } from '#api/status.ts';
import type { ClusterRole, ClusterRoleBinding, PolicyRule } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import type { Attributes } from '#apiserver/authz/authorizer.ts';
import { createRbac, type Rbac } from '#apiserver/authz/rbac.ts';
import { describeRule, missingRights } from '#apiserver/authz/rules.ts';
import type { ObjectReader } from '#apiserver/reader.ts';

const GROUP = 'rbac.authorization.k8s.io';
const ROLES = new Set(['roles', 'clusterroles']);
const BINDINGS = new Set(['rolebindings', 'clusterrolebindings']);
/** Aggregation gathers whatever comes, so it needs all there is. */
const EVERYTHING: readonly PolicyRule[] = [
  { verbs: ['*'], apiGroups: ['*'], resources: ['*'] },
  { verbs: ['*'], nonResourceURLs: ['*'] },
];

/**
 * Nobody grants rights that they do not hold, unless they may `escalate` the role or `bind` it.
 * Source: "Using RBAC Authorization", privilege escalation prevention and bootstrapping.
 */
export const roleEscalation: AdmissionRule = {
  name: 'RoleEscalation',
  handles: ({ operation, kind }) =>
    kind.group === GROUP &&
    (operation === 'CREATE' || operation === 'UPDATE') &&
    (ROLES.has(kind.plural) || BINDINGS.has(kind.plural)),
  mutate(request, context) {
    if (request.user.groups.includes('system:masters')) return;
    if (ROLES.has(request.kind.plural)) checkRole(request, context);
    else checkBinding(request, context);
  },
};

function checkRole(request: AdmissionRequest, context: AdmissionContext): void {
  const role = request.object as ClusterRole;
  const old = request.oldObject as ClusterRole | null;
  if (may(request, context, 'escalate', request.kind.plural, request.name)) return;
  const aggregates = role.aggregationRule !== undefined;
  if (old && equalJson(role.rules ?? [], old.rules ?? [])) {
    if (!aggregates || equalJson(role.aggregationRule, old.aggregationRule)) return;
  }
  const wanted = aggregates ? [...(role.rules ?? []), ...EVERYTHING] : (role.rules ?? []);
  confirm(request, context, wanted);
}

function checkBinding(request: AdmissionRequest, context: AdmissionContext): void {
  const binding = request.object as ClusterRoleBinding;
  const old = request.oldObject as ClusterRoleBinding | null;
  const { roleRef } = binding;
  if (old && equalJson(old.roleRef, roleRef) && equalJson(old.subjects, binding.subjects)) return;
  const plural = roleRef.kind === 'ClusterRole' ? 'clusterroles' : 'roles';
  if (may(request, context, 'bind', plural, roleRef.name)) return;
  const { rules, errors } = rbacOf(context.reader).rulesOf(roleRef, request.namespace);
  const [error] = errors;
  if (error !== undefined) {
    // Who may not bind just any role cannot bind one whose rights are unknown.
    const details = { name: roleRef.name, group: GROUP, kind: roleRef.kind.toLowerCase() };
    throw failure(404, 'NotFound', error, details);
  }
  confirm(request, context, rules);
}

function may(
  request: AdmissionRequest,
  context: AdmissionContext,
  verb: string,
  resource: string,
  name: string,
): boolean {
  const attributes: Attributes = {
    user: request.user,
    verb,
    group: GROUP,
    version: 'v1',
    resource,
    subresource: '',
    namespace: request.namespace,
    name,
    isResource: true,
    path: '',
  };
  return context.authorizer.authorize(attributes).decision === 'allow';
}

function confirm(
  request: AdmissionRequest,
  context: AdmissionContext,
  wanted: readonly PolicyRule[],
): void {
  const { user } = request;
  const { rules, errors } = rbacOf(context.reader).rulesFor(user, request.namespace);
  const missing = missingRights(rules, wanted);
  if (missing.length === 0) return;
  const groups = user.groups.map((group) => JSON.stringify(group)).join(' ');
  const lines = [...new Set(missing.map(describeRule))].sort();
  const unresolved = errors.length > 0 ? `; resolution errors: [${errors.join(', ')}]` : '';
  const why =
    `user ${JSON.stringify(user.name)} (groups=[${groups}]) is attempting to grant RBAC permissions ` +
    `not currently held:\n${lines.join('\n')}${unresolved}`;
  throw forbiddenError(resourceOf(request), request.name, why);
}

const resourceOf = ({ kind }: AdmissionRequest) => ({ group: kind.group, resource: kind.plural });

/** One index per reader, made when the first role is written. */
const indexes = new WeakMap<ObjectReader, Rbac>();

function rbacOf(reader: ObjectReader): Rbac {
  let rbac = indexes.get(reader);
  if (!rbac) indexes.set(reader, (rbac = createRbac(reader)));
  return rbac;
}
