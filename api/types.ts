import type * as models from '@kubernetes/client-node';

/**
 * The JSON form of a client-node model: times are strings, and names that the generator had to
 * escape (`_continue`, `_default`, `_from`) are their real selves. Objects in Gantry are plain JSON.
 */
export type Plain<T> = T extends Date
  ? string
  : T extends readonly (infer Item)[]
    ? Plain<Item>[]
    : T extends object
      ? { [Name in keyof T as PlainName<Name>]: Plain<T[Name]> }
      : T;

type PlainName<Name> = Name extends `_${infer Rest}` ? Rest : Name;

export type ObjectMeta = Plain<models.V1ObjectMeta>;
export type OwnerReference = Plain<models.V1OwnerReference>;
export type LabelSelector = Plain<models.V1LabelSelector>;

/** Any API object, as it stands in JSON. */
export type KubeObject = {
  apiVersion?: string;
  kind?: string;
  metadata: ObjectMeta;
  [field: string]: unknown;
};

/** An object whose name and namespace are known to be set. */
export type ObjectKey = { namespace?: string | undefined; name: string };

export type KubeList<T = KubeObject> = {
  apiVersion: string;
  kind: string;
  metadata: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  items: T[];
};

type Typed<T> = Plain<T> & { metadata: ObjectMeta };

export type Pod = Typed<models.V1Pod> & { spec: PodSpec };
export type PodSpec = Plain<models.V1PodSpec>;
export type PodStatus = Plain<models.V1PodStatus>;
export type PodCondition = Plain<models.V1PodCondition>;
export type PodTemplateSpec = Plain<models.V1PodTemplateSpec>;
export type Container = Plain<models.V1Container>;
export type ContainerStatus = Plain<models.V1ContainerStatus>;
export type Volume = Plain<models.V1Volume>;
export type Probe = Plain<models.V1Probe>;
export type Toleration = Plain<models.V1Toleration>;
export type Taint = Plain<models.V1Taint>;
export type Node = Typed<models.V1Node>;
export type Namespace = Typed<models.V1Namespace>;
export type ConfigMap = Typed<models.V1ConfigMap>;
export type Secret = Typed<models.V1Secret>;
export type ServiceAccount = Typed<models.V1ServiceAccount>;
export type Service = Typed<models.V1Service>;
export type ServiceSpec = Plain<models.V1ServiceSpec>;
export type ServicePort = Plain<models.V1ServicePort>;
export type Endpoints = Typed<models.V1Endpoints>;
export type EndpointSlice = Typed<models.V1EndpointSlice>;
export type Endpoint = Plain<models.V1Endpoint>;
export type Event = Typed<models.CoreV1Event>;
export type CertificateSigningRequest = Typed<models.V1CertificateSigningRequest>;
export type Lease = Typed<models.V1Lease>;
export type Deployment = Typed<models.V1Deployment>;
export type ReplicaSet = Typed<models.V1ReplicaSet>;
export type Role = Typed<models.V1Role>;
export type RoleBinding = Typed<models.V1RoleBinding>;
export type ClusterRole = Typed<models.V1ClusterRole>;
export type ClusterRoleBinding = Typed<models.V1ClusterRoleBinding>;
export type PolicyRule = Plain<models.V1PolicyRule>;
export type RbacSubject = Plain<models.RbacV1Subject>;
export type RuntimeClass = Typed<models.V1RuntimeClass>;
export type PriorityClass = Typed<models.V1PriorityClass>;
export type HorizontalPodAutoscaler = Typed<models.V2HorizontalPodAutoscaler>;
export type Scale = Typed<models.V1Scale>;
export type IPAddress = Typed<models.V1IPAddress>;
export type ServiceCIDR = Typed<models.V1ServiceCIDR>;
export type Ingress = Typed<models.V1Ingress>;
export type IngressClass = Typed<models.V1IngressClass>;
export type NetworkPolicy = Typed<models.V1NetworkPolicy>;
export type StatefulSet = Typed<models.V1StatefulSet>;
export type DaemonSet = Typed<models.V1DaemonSet>;
export type ControllerRevision = Typed<models.V1ControllerRevision>;
export type Job = Typed<models.V1Job>;
export type JobSpec = Plain<models.V1JobSpec>;
export type CronJob = Typed<models.V1CronJob>;
export type ReplicationController = Typed<models.V1ReplicationController>;
export type PodTemplate = Typed<models.V1PodTemplate>;
export type LimitRange = Typed<models.V1LimitRange>;
export type ResourceQuota = Typed<models.V1ResourceQuota>;
export type PersistentVolume = Typed<models.V1PersistentVolume>;
export type PersistentVolumeClaim = Typed<models.V1PersistentVolumeClaim>;
export type StorageClass = Typed<models.V1StorageClass>;
export type PodDisruptionBudget = Typed<models.V1PodDisruptionBudget>;
export type CSIDriver = Typed<models.V1CSIDriver>;
export type CSINode = Typed<models.V1CSINode>;
export type CSIStorageCapacity = Typed<models.V1CSIStorageCapacity>;
export type VolumeAttachment = Typed<models.V1VolumeAttachment>;
export type VolumeAttributesClass = Typed<models.V1VolumeAttributesClass>;
export type APIService = Typed<models.V1APIService>;
export type FlowSchema = Typed<models.V1FlowSchema>;
export type FlowSubject = Plain<models.FlowcontrolV1Subject>;
export type ResourcePolicyRule = Plain<models.V1ResourcePolicyRule>;
export type NonResourcePolicyRule = Plain<models.V1NonResourcePolicyRule>;
export type PriorityLevelConfiguration = Typed<models.V1PriorityLevelConfiguration>;
