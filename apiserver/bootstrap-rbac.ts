import type { Kind } from '#api/kind.ts';
import { isStatusError } from '#api/status.ts';
import type {
  ClusterRole,
  ClusterRoleBinding,
  KubeObject,
  PolicyRule,
  RbacSubject,
} from '#api/types.ts';
import { missingRights, parseRule } from '#apiserver/authz/rules.ts';
import {
  type BootstrapContext,
  kindOf,
  runBounded,
  writeAsServer,
} from '#apiserver/bootstrap-context.ts';
import { CONTROLLER_ROLES } from '#apiserver/bootstrap-controller-roles.ts';
import { CLUSTER_ROLES, type RoleTable } from '#apiserver/bootstrap-roles.ts';
import {
  CLUSTER_ROLE_BINDINGS,
  GANTRY_CLUSTER_ROLES,
  NAMESPACED_ROLES,
  ROLE_BINDINGS,
} from '#apiserver/bootstrap-role-bindings.ts';

/** A role, as far as its place matters: rules and subjects are all that reconciling changes. */
export type RbacObject = KubeObject & {
  rules?: PolicyRule[] | null;
  aggregationRule?: ClusterRole['aggregationRule'];
  subjects?: RbacSubject[];
  roleRef?: ClusterRoleBinding['roleRef'];
};

export type BootstrapRbac = Readonly<
  Record<'clusterroles' | 'clusterrolebindings' | 'roles' | 'rolebindings', RbacObject[]>
>;

const GROUP = 'rbac.authorization.k8s.io';
const AUTOUPDATE = 'rbac.authorization.kubernetes.io/autoupdate';
const AGGREGATE = 'rbac.authorization.k8s.io/aggregate-to-';

/** All roles and bindings that a cluster is born with. */
export function bootstrapRbac(): BootstrapRbac {
  const controllers = Object.keys(CONTROLLER_ROLES);
  return {
    clusterroles: [
      ...clusterRoles(CLUSTER_ROLES),
      ...controllers.map((name) =>
        clusterRole(controllerRole(name), { rules: CONTROLLER_ROLES[name] ?? [] }),
      ),
      ...clusterRoles(GANTRY_CLUSTER_ROLES),
    ],
    clusterrolebindings: [
      ...Object.entries(CLUSTER_ROLE_BINDINGS).map(([name, { role = name, subjects }]) =>
        binding({ name }, 'ClusterRole', role, subjects),
      ),
      ...controllers.map((name) =>
        binding({ name: controllerRole(name) }, 'ClusterRole', controllerRole(name), [
          `ServiceAccount kube-system/${name}`,
        ]),
      ),
    ],
    roles: NAMESPACED_ROLES.map(({ namespace, name, rules }) => ({
      metadata: { name, namespace, ...marks() },
      rules: rules.map(parseRule),
    })),
    rolebindings: ROLE_BINDINGS.map(({ namespace, name, role = name, subjects }) =>
      binding({ name, namespace }, 'Role', role, subjects),
    ),
  };
}

const controllerRole = (name: string): string => `system:controller:${name}`;

const marks = (labels: Record<string, string> = {}) => ({
  labels: { 'kubernetes.io/bootstrapping': 'rbac-defaults', ...labels },
  annotations: { [AUTOUPDATE]: 'true' },
});

function clusterRoles(table: RoleTable): RbacObject[] {
  return Object.entries(table).map(([name, entry]) =>
    clusterRole(name, 'rules' in entry ? entry : { rules: entry }),
  );
}

function clusterRole(
  name: string,
  entry: { partOf?: string; aggregates?: string; rules: readonly string[] },
): RbacObject {
  const labels = entry.partOf ? { [AGGREGATE + entry.partOf]: 'true' } : {};
  const role: RbacObject = { metadata: { name, ...marks(labels) } };
  if (entry.aggregates) {
    const matchLabels = { [AGGREGATE + entry.aggregates]: 'true' };
    role.aggregationRule = { clusterRoleSelectors: [{ matchLabels }] };
  }
  role.rules = entry.aggregates ? null : entry.rules.map(parseRule);
  return role;
}

function binding(
  place: { name: string; namespace?: string },
  kind: string,
  role: string,
  subjects: readonly string[],
): RbacObject {
  return {
    metadata: { ...place, ...marks() },
    ...(subjects.length > 0 ? { subjects: subjects.map(parseSubject) } : {}),
    roleRef: { apiGroup: GROUP, kind, name: role },
  };
}

/** `User NAME`, `Group NAME` or `ServiceAccount NAMESPACE/NAME`. */
function parseSubject(text: string): RbacSubject {
  const [kind = '', rest = ''] = text.split(' ');
  if (kind !== 'ServiceAccount') return { kind, apiGroup: GROUP, name: rest };
  const [namespace = '', name = ''] = rest.split('/');
  return { kind, name, namespace };
}

/**
 * Creates what is missing and gives back what was taken away: rules and subjects are only added,
 * objects with autoupdate "false" are left alone, and users' additions stay.
 * Source: "Using RBAC Authorization", auto-reconciliation.
 */
export async function reconcileRbac(context: BootstrapContext): Promise<void> {
  const wanted = bootstrapRbac();
  for (const resource of [
    'clusterroles',
    'clusterrolebindings',
    'roles',
    'rolebindings',
  ] as const) {
    const kind = kindOf(context, GROUP, 'v1', resource);
    await runBounded(wanted[resource].map((object) => () => reconcile(context, kind, object)));
  }
}

async function reconcile(context: BootstrapContext, kind: Kind, wanted: RbacObject): Promise<void> {
  const { namespace, name = '' } = wanted.metadata;
  const key = { namespace, name };
  const stored = context.reader.get<RbacObject>(kind.group, kind.plural, key);
  const as = writeAsServer(context);
  try {
    if (!stored) {
      await context.resources.create(kind, wanted, as);
      return;
    }
    if (stored.metadata.annotations?.[AUTOUPDATE] === 'false') return;
    if (wanted.roleRef && !sameRole(wanted, stored)) {
      // A binding's role cannot be changed, so a wrong one is made anew.
      await context.resources.delete(kind, key, {}, as);
      await context.resources.create(kind, wanted, as);
      return;
    }
    const healed = heal(stored, wanted);
    if (healed) await context.resources.update(kind, healed, as);
  } catch (error) {
    // Another API server on the same store is doing the same.
    if (!isStatusError(error, 'AlreadyExists') && !isStatusError(error, 'Conflict')) throw error;
  }
}

const sameRole = (a: RbacObject, b: RbacObject): boolean =>
  a.roleRef?.kind === b.roleRef?.kind && a.roleRef?.name === b.roleRef?.name;

/** The stored object with all that is wanted in it; undefined when nothing is missing. */
export function heal(stored: RbacObject, wanted: RbacObject): RbacObject | undefined {
  const healed = structuredClone(stored);
  let changed = false;
  for (const field of ['labels', 'annotations'] as const) {
    for (const [key, value] of Object.entries(wanted.metadata[field] ?? {})) {
      if (healed.metadata[field]?.[key] === value) continue;
      healed.metadata[field] = { ...healed.metadata[field], [key]: value };
      changed = true;
    }
  }
  const missingRules = missingRights(stored.rules ?? [], wanted.rules ?? []);
  if (missingRules.length > 0) {
    healed.rules = [...(stored.rules ?? []), ...missingRules];
    changed = true;
  }
  if (wanted.aggregationRule && !stored.aggregationRule) {
    healed.aggregationRule = wanted.aggregationRule;
    changed = true;
  }
  const has = new Set((stored.subjects ?? []).map(subjectText));
  const missingSubjects = (wanted.subjects ?? []).filter((s) => !has.has(subjectText(s)));
  if (missingSubjects.length > 0) {
    healed.subjects = [...(stored.subjects ?? []), ...missingSubjects];
    changed = true;
  }
  return changed ? healed : undefined;
}

const subjectText = (subject: RbacSubject): string =>
  [subject.kind, subject.namespace ?? '', subject.name].join('/');
