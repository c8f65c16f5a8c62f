import { matchesLabels } from '#api/labels.ts';
import type {
  ClusterRole,
  ClusterRoleBinding,
  PolicyRule,
  RbacSubject,
  Role,
  RoleBinding,
} from '#api/types.ts';
import type { Attributes, Authorizer, Decision } from '#apiserver/authz/authorizer.ts';
import { ruleAllows } from '#apiserver/authz/rules.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { UserInfo } from '#apiserver/user.ts';

/**
 * Role-based access control over the four RBAC kinds. Bindings are indexed by subject and the
 * index made anew when the reader says that bindings changed; roles are read when asked for.
 * Source: Kubernetes "Using RBAC Authorization".
 */
export type Rbac = {
  authorizer: Authorizer;
  /** All rules that apply to a user in a namespace ('' = cluster scope only). */
  rulesFor(user: UserInfo, namespace: string): RulesFound;
  /** Rules of the role that a binding in `namespace` refers to. */
  rulesOf(roleRef: RoleRef, namespace: string): RulesFound;
};

export type RoleRef = { kind: string; name: string };
/** `errors` name roles that bindings refer to and that do not exist. */
export type RulesFound = { rules: readonly PolicyRule[]; errors: string[] };

const GROUP = 'rbac.authorization.k8s.io';

/** A binding seen from one of its subjects. */
type Bound = {
  binding: ClusterRoleBinding | RoleBinding;
  subject: RbacSubject;
  /** Place in the list of bindings, so that answers keep its order. */
  position: number;
};
type Index = Map<string, Bound[]>;

export function createRbac(reader: ObjectReader): Rbac {
  const bindings = createBindingIndex(reader);
  const rulesOf = createRoleReader(reader);
  return {
    authorizer: {
      name: 'RBAC',
      authorize: (request) => decide(request, bindings, rulesOf),
    },
    rulesOf,
    rulesFor(user, namespace) {
      const rules: PolicyRule[] = [];
      const errors = new Set<string>();
      for (const { binding } of bindingsOf(user, namespace, bindings)) {
        const found = rulesOf(binding.roleRef, binding.metadata.namespace ?? '');
        rules.push(...found.rules);
        for (const error of found.errors) errors.add(error);
      }
      return { rules, errors: [...errors] };
    },
  };
}

function decide(request: Attributes, bindings: BindingIndex, rulesOf: Rbac['rulesOf']): Decision {
  const errors = new Set<string>();
  for (const bound of bindingsOf(request.user, request.namespace, bindings)) {
    const { binding } = bound;
    const found = rulesOf(binding.roleRef, binding.metadata.namespace ?? '');
    for (const error of found.errors) errors.add(error);
    for (const rule of found.rules) {
      if (ruleAllows(rule, request)) return { decision: 'allow', reason: reasonOf(bound) };
    }
  }
  const problems = [...errors];
  const text = problems.length === 1 ? problems[0] : `[${problems.join(', ')}]`;
  return { decision: 'no-opinion', reason: problems.length > 0 ? `RBAC: ${text}` : '' };
}

/** Each binding that names the user or one of its groups, once: cluster-wide ones first. */
function bindingsOf(user: UserInfo, namespace: string, bindings: BindingIndex): Bound[] {
  const found = collect(user, bindings.cluster());
  return namespace ? [...found, ...collect(user, bindings.inNamespace(namespace))] : found;
}

function collect(user: UserInfo, index: Index | undefined): Bound[] {
  if (!index) return [];
  const found = new Map<number, Bound>();
  const add = (key: string): void => {
    for (const bound of index.get(key) ?? []) {
      if (!found.has(bound.position)) found.set(bound.position, bound);
    }
  };
  add(`user:${user.name}`);
  for (const group of user.groups) add(`group:${group}`);
  return [...found.values()].sort((a, b) => a.position - b.position);
}

type BindingIndex = {
  cluster(): Index;
  inNamespace(namespace: string): Index | undefined;
};

function createBindingIndex(reader: ObjectReader): BindingIndex {
  let cluster: Index = new Map();
  let clusterSeen = -1;
  let namespaced = new Map<string, Index>();
  let namespacedSeen = -1;
  return {
    cluster() {
      const generation = reader.generation(GROUP, 'clusterrolebindings');
      if (generation !== clusterSeen) {
        clusterSeen = generation;
        cluster = new Map();
        const list = reader.list<ClusterRoleBinding>(GROUP, 'clusterrolebindings');
        for (const [position, binding] of list.entries()) addBinding(cluster, binding, position);
      }
      return cluster;
    },
    inNamespace(namespace) {
      const generation = reader.generation(GROUP, 'rolebindings');
      if (generation !== namespacedSeen) {
        namespacedSeen = generation;
        namespaced = new Map();
        const list = reader.list<RoleBinding>(GROUP, 'rolebindings');
        for (const [position, binding] of list.entries()) {
          const home = binding.metadata.namespace ?? '';
          let index = namespaced.get(home);
          if (!index) namespaced.set(home, (index = new Map()));
          addBinding(index, binding, position);
        }
      }
      return namespaced.get(namespace);
    },
  };
}

function addBinding(index: Index, binding: Bound['binding'], position: number): void {
  for (const subject of binding.subjects ?? []) {
    const key = subjectKey(subject, binding.metadata.namespace ?? '');
    if (key === undefined) continue;
    const list = index.get(key);
    const bound = { binding, subject, position };
    if (list) list.push(bound);
    else index.set(key, [bound]);
  }
}

/** A service account without a namespace is one of the binding's own. */
function subjectKey(subject: RbacSubject, bindingNamespace: string): string | undefined {
  switch (subject.kind) {
    case 'User':
      return `user:${subject.name}`;
    case 'Group':
      return `group:${subject.name}`;
    case 'ServiceAccount': {
      const namespace = subject.namespace || bindingNamespace;
      return namespace ? `user:system:serviceaccount:${namespace}:${subject.name}` : undefined;
    }
    default:
      return undefined;
  }
}

function reasonOf({ binding, subject }: Bound): string {
  const { name, namespace } = binding.metadata;
  const kind = namespace ? 'RoleBinding' : 'ClusterRoleBinding';
  const bindingName = namespace ? `${name}/${namespace}` : name;
  const who =
    subject.kind === 'ServiceAccount' ? `${subject.name}/${subject.namespace}` : subject.name;
  const role = `${binding.roleRef.kind} "${binding.roleRef.name}"`;
  return `RBAC: allowed by ${kind} "${bindingName}" of ${role} to ${subject.kind} "${who}"`;
}

const NO_RULES: readonly PolicyRule[] = [];

function createRoleReader(reader: ObjectReader): Rbac['rulesOf'] {
  let aggregated = new Map<string, readonly PolicyRule[]>();
  let seen = -1;
  const rulesOfCluster = (role: ClusterRole): readonly PolicyRule[] => {
    if (!role.aggregationRule) return role.rules ?? NO_RULES;
    const generation = reader.generation(GROUP, 'clusterroles');
    if (generation !== seen) {
      seen = generation;
      aggregated = new Map();
    }
    const name = role.metadata.name ?? '';
    let rules = aggregated.get(name);
    if (!rules) aggregated.set(name, (rules = aggregate(role, reader)));
    return rules;
  };
  return (roleRef, namespace) => {
    if (roleRef.kind === 'ClusterRole') {
      const role = reader.get<ClusterRole>(GROUP, 'clusterroles', { name: roleRef.name });
      if (role) return { rules: rulesOfCluster(role), errors: [] };
      return missing('clusterrole', roleRef.name);
    }
    const role = reader.get<Role>(GROUP, 'roles', { namespace, name: roleRef.name });
    return role ? { rules: role.rules ?? NO_RULES, errors: [] } : missing('role', roleRef.name);
  };
}

const missing = (kind: string, name: string): RulesFound => ({
  rules: NO_RULES,
  errors: [`${kind}.${GROUP} ${JSON.stringify(name)} not found`],
});

/** Bound of roles that aggregate aggregated roles (admin ← edit ← view). */
const MAX_AGGREGATION = 8;

/**
 * A role's own rules and those of the roles that its selectors choose. They count from the moment
 * the chosen role exists; the aggregation controller only writes them down for readers.
 */
function aggregate(role: ClusterRole, reader: ObjectReader): PolicyRule[] {
  const all = reader.list<ClusterRole>(GROUP, 'clusterroles');
  const found = new Map<string, PolicyRule>();
  const visited = new Set<string>();
  const visit = (current: ClusterRole, depth: number): void => {
    const name = current.metadata.name ?? '';
    if (visited.has(name) || depth > MAX_AGGREGATION) return;
    visited.add(name);
    for (const rule of current.rules ?? []) found.set(JSON.stringify(rule), rule);
    for (const selector of current.aggregationRule?.clusterRoleSelectors ?? []) {
      for (const other of all) {
        if (matchesLabels(selector, other.metadata.labels ?? {})) visit(other, depth + 1);
      }
    }
  };
  visit(role, 0);
  return [...found.values()];
}
