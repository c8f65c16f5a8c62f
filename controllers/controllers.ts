import type { ControllerDefinition } from '#controllers/definition.ts';
import { attachDetachController } from '#controllers/attach-detach-controller.ts';
import { bootstrapSignerController } from '#controllers/bootstrap-signer-controller.ts';
import { clusterRoleAggregationController } from '#controllers/clusterrole-aggregation-controller.ts';
import { cronJobController } from '#controllers/cronjob-controller.ts';
import { daemonSetController } from '#controllers/daemonset-controller.ts';
import { defaultStorageClassController } from '#controllers/default-storage-class-controller.ts';
import { deploymentController } from '#controllers/deployment-controller.ts';
import { disruptionController } from '#controllers/disruption-controller.ts';
import { endpointsController } from '#controllers/endpoints-controller.ts';
import { endpointSliceController } from '#controllers/endpointslice-controller.ts';
import { endpointSliceMirroringController } from '#controllers/endpointslice-mirroring-controller.ts';
import { ephemeralVolumeController } from '#controllers/ephemeral-volume-controller.ts';
import { garbageCollectorController } from '#controllers/garbage-collector-controller.ts';
import { horizontalPodAutoscalerController } from '#controllers/horizontal-pod-autoscaler-controller.ts';
import { jobController } from '#controllers/job-controller.ts';
import { localProvisionerController } from '#controllers/local-provisioner-controller.ts';
import { namespaceController } from '#controllers/namespace-controller.ts';
import { nodeIpamController } from '#controllers/node-ipam-controller.ts';
import { nodeLifecycleController } from '#controllers/node-lifecycle-controller.ts';
import { persistentVolumeBinderController } from '#controllers/persistentvolume-binder-controller.ts';
import { podGcController } from '#controllers/pod-gc-controller.ts';
import { replicaSetController } from '#controllers/replicaset-controller.ts';
import { replicationController } from '#controllers/replication-controller.ts';
import { resourceQuotaController } from '#controllers/resourcequota-controller.ts';
import { rootCaController } from '#controllers/root-ca-controller.ts';
import { serviceAccountController } from '#controllers/serviceaccount-controller.ts';
import { serviceCidrController } from '#controllers/service-cidr-controller.ts';
import { serviceLbController } from '#controllers/service-lb-controller.ts';
import { statefulSetController } from '#controllers/statefulset-controller.ts';
import { taintEvictionController } from '#controllers/taint-eviction-controller.ts';
import { tokenCleanerController } from '#controllers/token-cleaner-controller.ts';
import { ttlAfterFinishedController } from '#controllers/ttl-after-finished-controller.ts';
import { volumeExpandController } from '#controllers/volume-expand-controller.ts';
import { validatingAdmissionPolicyStatusController } from '#controllers/validatingadmissionpolicy-status-controller.ts';
import {
  attributesClassProtectionController,
  claimProtectionController,
  volumeProtectionController,
} from '#controllers/volume-protection-controller.ts';

/** Every controller of the cluster, in the order in which they start. */
export const controllers: readonly ControllerDefinition[] = [
  namespaceController,
  serviceAccountController,
  rootCaController,
  replicaSetController,
  replicationController,
  deploymentController,
  statefulSetController,
  daemonSetController,
  jobController,
  cronJobController,
  ttlAfterFinishedController,
  endpointSliceController,
  endpointsController,
  endpointSliceMirroringController,
  serviceLbController,
  serviceCidrController,
  bootstrapSignerController,
  tokenCleanerController,
  nodeIpamController,
  nodeLifecycleController,
  taintEvictionController,
  podGcController,
  horizontalPodAutoscalerController,
  disruptionController,
  resourceQuotaController,
  clusterRoleAggregationController,
  validatingAdmissionPolicyStatusController,
  persistentVolumeBinderController,
  attachDetachController,
  volumeExpandController,
  defaultStorageClassController,
  localProvisionerController,
  claimProtectionController,
  volumeProtectionController,
  attributesClassProtectionController,
  ephemeralVolumeController,
  garbageCollectorController,
];
