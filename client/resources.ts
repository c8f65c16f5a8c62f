import type { Resource } from '#client/api.ts';
import type {
  ClusterRole,
  ClusterRoleBinding,
  ConfigMap,
  Deployment,
  Endpoints,
  EndpointSlice,
  Event,
  HorizontalPodAutoscaler,
  KubeObject,
  Lease,
  Namespace,
  Node,
  Pod,
  PriorityClass,
  ReplicaSet,
  Role,
  RoleBinding,
  RuntimeClass,
  Secret,
  Service,
  ServiceAccount,
} from '#api/types.ts';

function namespaced<T extends KubeObject>(
  group: string,
  version: string,
  resource: string,
  kind: string,
): Resource<T> {
  return { group, version, resource, kind, namespaced: true };
}

function clusterWide<T extends KubeObject>(
  group: string,
  version: string,
  resource: string,
  kind: string,
): Resource<T> {
  return { group, version, resource, kind, namespaced: false };
}

export const pods = namespaced<Pod>('', 'v1', 'pods', 'Pod');
export const services = namespaced<Service>('', 'v1', 'services', 'Service');
export const endpoints = namespaced<Endpoints>('', 'v1', 'endpoints', 'Endpoints');
export const configMaps = namespaced<ConfigMap>('', 'v1', 'configmaps', 'ConfigMap');
export const secrets = namespaced<Secret>('', 'v1', 'secrets', 'Secret');
export const serviceAccounts = namespaced<ServiceAccount>(
  '',
  'v1',
  'serviceaccounts',
  'ServiceAccount',
);
export const events = namespaced<Event>('', 'v1', 'events', 'Event');
export const nodes = clusterWide<Node>('', 'v1', 'nodes', 'Node');
export const namespaces = clusterWide<Namespace>('', 'v1', 'namespaces', 'Namespace');

export const deployments = namespaced<Deployment>('apps', 'v1', 'deployments', 'Deployment');
export const replicaSets = namespaced<ReplicaSet>('apps', 'v1', 'replicasets', 'ReplicaSet');

export const horizontalPodAutoscalers = namespaced<HorizontalPodAutoscaler>(
  'autoscaling',
  'v2',
  'horizontalpodautoscalers',
  'HorizontalPodAutoscaler',
);

export const leases = namespaced<Lease>('coordination.k8s.io', 'v1', 'leases', 'Lease');
export const endpointSlices = namespaced<EndpointSlice>(
  'discovery.k8s.io',
  'v1',
  'endpointslices',
  'EndpointSlice',
);
export const runtimeClasses = clusterWide<RuntimeClass>(
  'node.k8s.io',
  'v1',
  'runtimeclasses',
  'RuntimeClass',
);
export const priorityClasses = clusterWide<PriorityClass>(
  'scheduling.k8s.io',
  'v1',
  'priorityclasses',
  'PriorityClass',
);

const RBAC = 'rbac.authorization.k8s.io';
export const roles = namespaced<Role>(RBAC, 'v1', 'roles', 'Role');
export const roleBindings = namespaced<RoleBinding>(RBAC, 'v1', 'rolebindings', 'RoleBinding');
export const clusterRoles = clusterWide<ClusterRole>(RBAC, 'v1', 'clusterroles', 'ClusterRole');
export const clusterRoleBindings = clusterWide<ClusterRoleBinding>(
  RBAC,
  'v1',
  'clusterrolebindings',
  'ClusterRoleBinding',
);

/** Declares a resource found by discovery, whose type nobody knows. */
export function dynamicResource(of: {
  group: string;
  version: string;
  resource: string;
  kind: string;
  namespaced: boolean;
}): Resource {
  return of;
}
