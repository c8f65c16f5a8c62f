import type { ValidatingAdmissionPolicy } from '#api/admissionregistration/validating-admission-policy.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import type { Resource } from '#client/api.ts';
import type {
  CSIDriver,
  CSINode,
  CSIStorageCapacity,
  CertificateSigningRequest,
  ClusterRole,
  ClusterRoleBinding,
  ConfigMap,
  ControllerRevision,
  CronJob,
  DaemonSet,
  Deployment,
  EndpointSlice,
  Endpoints,
  Event,
  HorizontalPodAutoscaler,
  IPAddress,
  Job,
  KubeObject,
  Lease,
  Namespace,
  NetworkPolicy,
  Node,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodDisruptionBudget,
  PriorityClass,
  ReplicaSet,
  ReplicationController,
  ResourceQuota,
  Role,
  RoleBinding,
  RuntimeClass,
  Secret,
  Service,
  ServiceAccount,
  ServiceCIDR,
  StatefulSet,
  StorageClass,
  VolumeAttachment,
  VolumeAttributesClass,
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

export const replicationControllers = namespaced<ReplicationController>(
  '',
  'v1',
  'replicationcontrollers',
  'ReplicationController',
);
export const resourceQuotas = namespaced<ResourceQuota>(
  '',
  'v1',
  'resourcequotas',
  'ResourceQuota',
);
export const persistentVolumeClaims = namespaced<PersistentVolumeClaim>(
  '',
  'v1',
  'persistentvolumeclaims',
  'PersistentVolumeClaim',
);
export const persistentVolumes = clusterWide<PersistentVolume>(
  '',
  'v1',
  'persistentvolumes',
  'PersistentVolume',
);
export const volumeAttributesClasses = clusterWide<VolumeAttributesClass>(
  'storage.k8s.io',
  'v1',
  'volumeattributesclasses',
  'VolumeAttributesClass',
);
export const storageClasses = clusterWide<StorageClass>(
  'storage.k8s.io',
  'v1',
  'storageclasses',
  'StorageClass',
);

export const csiDrivers = clusterWide<CSIDriver>('storage.k8s.io', 'v1', 'csidrivers', 'CSIDriver');
export const csiNodes = clusterWide<CSINode>('storage.k8s.io', 'v1', 'csinodes', 'CSINode');
export const csiStorageCapacities = namespaced<CSIStorageCapacity>(
  'storage.k8s.io',
  'v1',
  'csistoragecapacities',
  'CSIStorageCapacity',
);
export const volumeAttachments = clusterWide<VolumeAttachment>(
  'storage.k8s.io',
  'v1',
  'volumeattachments',
  'VolumeAttachment',
);

export const deployments = namespaced<Deployment>('apps', 'v1', 'deployments', 'Deployment');
export const replicaSets = namespaced<ReplicaSet>('apps', 'v1', 'replicasets', 'ReplicaSet');
export const statefulSets = namespaced<StatefulSet>('apps', 'v1', 'statefulsets', 'StatefulSet');
export const daemonSets = namespaced<DaemonSet>('apps', 'v1', 'daemonsets', 'DaemonSet');
export const controllerRevisions = namespaced<ControllerRevision>(
  'apps',
  'v1',
  'controllerrevisions',
  'ControllerRevision',
);
export const jobs = namespaced<Job>('batch', 'v1', 'jobs', 'Job');
export const cronJobs = namespaced<CronJob>('batch', 'v1', 'cronjobs', 'CronJob');
export const podDisruptionBudgets = namespaced<PodDisruptionBudget>(
  'policy',
  'v1',
  'poddisruptionbudgets',
  'PodDisruptionBudget',
);

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
export const networkPolicies = namespaced<NetworkPolicy>(
  'networking.k8s.io',
  'v1',
  'networkpolicies',
  'NetworkPolicy',
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

export const certificateSigningRequests = clusterWide<CertificateSigningRequest>(
  'certificates.k8s.io',
  'v1',
  'certificatesigningrequests',
  'CertificateSigningRequest',
);

const RBAC = 'rbac.authorization.k8s.io';
export const roles = namespaced<Role>(RBAC, 'v1', 'roles', 'Role');
export const roleBindings = namespaced<RoleBinding>(RBAC, 'v1', 'rolebindings', 'RoleBinding');
export const clusterRoles = clusterWide<ClusterRole>(RBAC, 'v1', 'clusterroles', 'ClusterRole');
export const serviceCidrs = clusterWide<ServiceCIDR>(
  'networking.k8s.io',
  'v1',
  'servicecidrs',
  'ServiceCIDR',
);
export const ipAddresses = clusterWide<IPAddress>(
  'networking.k8s.io',
  'v1',
  'ipaddresses',
  'IPAddress',
);
export const clusterRoleBindings = clusterWide<ClusterRoleBinding>(
  RBAC,
  'v1',
  'clusterrolebindings',
  'ClusterRoleBinding',
);

export const customResourceDefinitions = clusterWide<CustomResourceDefinition>(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
  'CustomResourceDefinition',
);
export const validatingAdmissionPolicies = clusterWide<ValidatingAdmissionPolicy>(
  'admissionregistration.k8s.io',
  'v1',
  'validatingadmissionpolicies',
  'ValidatingAdmissionPolicy',
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
