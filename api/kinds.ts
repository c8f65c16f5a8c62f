import { mutatingAdmissionPolicyBinding } from '#api/admissionregistration/mutating-admission-policy-binding.ts';
import { mutatingAdmissionPolicy } from '#api/admissionregistration/mutating-admission-policy.ts';
import { mutatingWebhookConfiguration } from '#api/admissionregistration/mutating-webhook-configuration.ts';
import { validatingAdmissionPolicyBinding } from '#api/admissionregistration/validating-admission-policy-binding.ts';
import { validatingAdmissionPolicy } from '#api/admissionregistration/validating-admission-policy.ts';
import { validatingWebhookConfiguration } from '#api/admissionregistration/validating-webhook-configuration.ts';
import { customResourceDefinition } from '#api/apiextensions/custom-resource-definition.ts';
import { apiService } from '#api/apiregistration/api-service.ts';
import { controllerRevision } from '#api/apps/controller-revision.ts';
import { daemonSet } from '#api/apps/daemon-set.ts';
import { deployment } from '#api/apps/deployment.ts';
import { replicaSet } from '#api/apps/replica-set.ts';
import { statefulSet } from '#api/apps/stateful-set.ts';
import { selfSubjectReview } from '#api/authentication/self-subject-review.ts';
import { tokenReview } from '#api/authentication/token-review.ts';
import { localSubjectAccessReview } from '#api/authorization/local-subject-access-review.ts';
import { selfSubjectAccessReview } from '#api/authorization/self-subject-access-review.ts';
import { selfSubjectRulesReview } from '#api/authorization/self-subject-rules-review.ts';
import { subjectAccessReview } from '#api/authorization/subject-access-review.ts';
import { horizontalPodAutoscaler } from '#api/autoscaling/horizontal-pod-autoscaler.ts';
import { horizontalPodAutoscalerV1 } from '#api/autoscaling/hpa-v1.ts';
import { cronJob } from '#api/batch/cron-job.ts';
import { job } from '#api/batch/job.ts';
import { certificateSigningRequest } from '#api/certificates/certificate-signing-request.ts';
import { lease } from '#api/coordination/lease.ts';
import { binding } from '#api/core/binding.ts';
import { componentStatus } from '#api/core/component-status.ts';
import { configMap } from '#api/core/config-map.ts';
import { endpoints } from '#api/core/endpoints.ts';
import { event } from '#api/core/event.ts';
import { limitRange } from '#api/core/limit-range.ts';
import { namespace } from '#api/core/namespace.ts';
import { node } from '#api/core/node.ts';
import { persistentVolumeClaim } from '#api/core/persistent-volume-claim.ts';
import { persistentVolume } from '#api/core/persistent-volume.ts';
import { podTemplate } from '#api/core/pod-template.ts';
import { pod } from '#api/core/pod.ts';
import { replicationController } from '#api/core/replication-controller.ts';
import { resourceQuota } from '#api/core/resource-quota.ts';
import { secret } from '#api/core/secret.ts';
import { serviceAccount } from '#api/core/service-account.ts';
import { service } from '#api/core/service.ts';
import { endpointSlice } from '#api/discovery/endpoint-slice.ts';
import { eventsEvent } from '#api/events/event.ts';
import { flowSchema } from '#api/flowcontrol/flow-schema.ts';
import { priorityLevelConfiguration } from '#api/flowcontrol/priority-level-configuration.ts';
import type { Kind } from '#api/kind.ts';
import { nodeMetrics } from '#api/metrics/node-metrics.ts';
import { podMetrics } from '#api/metrics/pod-metrics.ts';
import { ingressClass } from '#api/networking/ingress-class.ts';
import { ingress } from '#api/networking/ingress.ts';
import { ipAddress } from '#api/networking/ip-address.ts';
import { networkPolicy } from '#api/networking/network-policy.ts';
import { serviceCidr } from '#api/networking/service-cidr.ts';
import { runtimeClass } from '#api/node/runtime-class.ts';
import { podDisruptionBudget } from '#api/policy/pod-disruption-budget.ts';
import { clusterRoleBinding } from '#api/rbac/cluster-role-binding.ts';
import { clusterRole } from '#api/rbac/cluster-role.ts';
import { roleBinding } from '#api/rbac/role-binding.ts';
import { role } from '#api/rbac/role.ts';
import { deviceClass } from '#api/resource/device-class.ts';
import { resourceClaimTemplate } from '#api/resource/resource-claim-template.ts';
import { resourceClaim } from '#api/resource/resource-claim.ts';
import { resourceSlice } from '#api/resource/resource-slice.ts';
import { priorityClass } from '#api/scheduling/priority-class.ts';
import { csiDriver } from '#api/storage/csi-driver.ts';
import { csiNode } from '#api/storage/csi-node.ts';
import { csiStorageCapacity } from '#api/storage/csi-storage-capacity.ts';
import { storageClass } from '#api/storage/storage-class.ts';
import { volumeAttachment } from '#api/storage/volume-attachment.ts';
import { volumeAttributesClass } from '#api/storage/volume-attributes-class.ts';

/**
 * THE LIST of built-in kinds, in the order of discovery: groups by rank, the preferred version of a
 * group first, then by name. Adding a kind is one file and one line here.
 */
export const builtinKinds: readonly Kind[] = [
  binding,
  componentStatus,
  configMap,
  endpoints,
  event,
  limitRange,
  namespace,
  node,
  persistentVolumeClaim,
  persistentVolume,
  pod,
  podTemplate,
  replicationController,
  resourceQuota,
  secret,
  serviceAccount,
  service,
  apiService,
  controllerRevision,
  daemonSet,
  deployment,
  replicaSet,
  statefulSet,
  eventsEvent,
  selfSubjectReview,
  tokenReview,
  localSubjectAccessReview,
  selfSubjectAccessReview,
  selfSubjectRulesReview,
  subjectAccessReview,
  horizontalPodAutoscaler,
  horizontalPodAutoscalerV1,
  cronJob,
  job,
  certificateSigningRequest,
  customResourceDefinition,
  ingressClass,
  ingress,
  ipAddress,
  networkPolicy,
  serviceCidr,
  podDisruptionBudget,
  clusterRoleBinding,
  clusterRole,
  roleBinding,
  role,
  csiDriver,
  csiNode,
  csiStorageCapacity,
  storageClass,
  volumeAttachment,
  volumeAttributesClass,
  mutatingAdmissionPolicy,
  mutatingAdmissionPolicyBinding,
  mutatingWebhookConfiguration,
  validatingAdmissionPolicy,
  validatingAdmissionPolicyBinding,
  validatingWebhookConfiguration,
  priorityClass,
  lease,
  runtimeClass,
  endpointSlice,
  deviceClass,
  resourceClaim,
  resourceClaimTemplate,
  resourceSlice,
  flowSchema,
  priorityLevelConfiguration,
  nodeMetrics,
  podMetrics,
];
