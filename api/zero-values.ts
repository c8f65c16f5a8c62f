/**
 * Whether a zero value (`false`, 0, '') written by a user is stored or counts as left out. Upstream
 * decodes into Go structs: a pointer keeps what was written, a plain optional member loses its zero.
 * The OpenAPI description does not tell the two apart, so here they stand.
 * Source: json tags of k8s.io/api. Keys are `<group>.<version>.<Type>`, members are space-separated.
 */

/** Optional strings whose empty value is kept. */
const KEPT_STRINGS: Readonly<Record<string, string>> = {
  'admissionregistration.v1.MatchResources': 'matchPolicy',
  'admissionregistration.v1.MutatingAdmissionPolicySpec': 'failurePolicy',
  'admissionregistration.v1.MutatingWebhook': 'failurePolicy matchPolicy reinvocationPolicy',
  'admissionregistration.v1.NamedRuleWithOperations': 'scope',
  'admissionregistration.v1.ParamRef': 'parameterNotFoundAction',
  'admissionregistration.v1.RuleWithOperations': 'scope',
  'admissionregistration.v1.ServiceReference': 'path',
  'admissionregistration.v1.ValidatingAdmissionPolicySpec': 'failurePolicy',
  'admissionregistration.v1.ValidatingWebhook': 'failurePolicy matchPolicy',
  'admissionregistration.v1.Validation': 'reason',
  'admissionregistration.v1.WebhookClientConfig': 'url',
  'apiextensions.v1.CustomResourceDefinitionVersion': 'deprecationWarning',
  'apiextensions.v1.CustomResourceSubresourceScale': 'labelSelectorPath',
  'apiextensions.v1.JSONSchemaProps': '$ref x-kubernetes-list-type x-kubernetes-map-type',
  'apiextensions.v1.ServiceReference': 'path',
  'apiextensions.v1.ValidationRule': 'reason',
  'apiextensions.v1.WebhookClientConfig': 'url',
  'autoscaling.v2.HPAScalingRules': 'selectPolicy',
  'apps.v1.StatefulSetSpec': 'serviceName',
  'batch.v1.CronJobSpec': 'timeZone',
  'batch.v1.JobSpec': 'completionMode managedBy podReplacementPolicy',
  'batch.v1.JobStatus': 'failedIndexes',
  'batch.v1.PodFailurePolicyOnExitCodesRequirement': 'containerName',
  'batch.v1.SuccessPolicyRule': 'succeededIndexes',
  'coordination.v1.LeaseSpec': 'holderIdentity preferredHolder strategy',
  'core.v1.AppArmorProfile': 'localhostProfile',
  'core.v1.AzureDiskVolumeSource': 'cachingMode fsType kind',
  'core.v1.AzureFilePersistentVolumeSource': 'secretNamespace',
  'core.v1.CSIVolumeSource': 'fsType',
  'core.v1.ClusterTrustBundleProjection': 'name signerName',
  'core.v1.Container': 'restartPolicy',
  'core.v1.ContainerStatus': 'stopSignal',
  'core.v1.EndpointAddress': 'nodeName',
  'core.v1.EndpointPort': 'appProtocol',
  'core.v1.EphemeralContainer': 'restartPolicy',
  'core.v1.GRPCAction': 'service',
  'core.v1.GlusterfsPersistentVolumeSource': 'endpointsNamespace',
  'core.v1.HostPathVolumeSource': 'type',
  'core.v1.ISCSIPersistentVolumeSource': 'initiatorName',
  'core.v1.ISCSIVolumeSource': 'initiatorName',
  'core.v1.Lifecycle': 'stopSignal',
  'core.v1.LoadBalancerIngress': 'ipMode',
  'core.v1.LocalVolumeSource': 'fsType',
  'core.v1.NodeRuntimeHandler': 'name',
  'core.v1.PersistentVolumeClaimSpec': 'storageClassName volumeAttributesClassName volumeMode',
  'core.v1.PersistentVolumeClaimStatus': 'currentVolumeAttributesClassName',
  'core.v1.PersistentVolumeSpec': 'volumeAttributesClassName volumeMode',
  'core.v1.PodDNSConfigOption': 'value',
  'core.v1.PodResourceClaim': 'resourceClaimName resourceClaimTemplateName',
  'core.v1.PodResourceClaimStatus': 'resourceClaimName',
  'core.v1.PodSchedulingGroup': 'podGroupName',
  'core.v1.PodSecurityContext': 'fsGroupChangePolicy seLinuxChangePolicy supplementalGroupsPolicy',
  'core.v1.PodSpec': 'hostnameOverride preemptionPolicy runtimeClassName',
  'core.v1.PortStatus': 'error',
  'core.v1.SeccompProfile': 'localhostProfile',
  'core.v1.SecurityContext': 'procMount',
  'core.v1.ServicePort': 'appProtocol',
  'core.v1.ServiceSpec':
    'internalTrafficPolicy ipFamilyPolicy loadBalancerClass trafficDistribution',
  'core.v1.TopologySpreadConstraint': 'nodeAffinityPolicy nodeTaintsPolicy',
  'core.v1.TypedLocalObjectReference': 'apiGroup',
  'core.v1.TypedObjectReference': 'apiGroup namespace',
  'core.v1.VolumeMount': 'mountPropagation recursiveReadOnly',
  'core.v1.VolumeMountStatus': 'recursiveReadOnly',
  'core.v1.WindowsSecurityContextOptions':
    'gmsaCredentialSpec gmsaCredentialSpecName runAsUserName',
  'discovery.v1.Endpoint': 'hostname nodeName zone',
  'discovery.v1.EndpointPort': 'appProtocol name protocol',
  'meta.v1.DeleteOptions': 'propagationPolicy',
  'meta.v1.Preconditions': 'resourceVersion uid',
  'networking.v1.HTTPIngressPath': 'pathType',
  'networking.v1.IngressClassParametersReference': 'apiGroup namespace scope',
  'networking.v1.IngressPortStatus': 'error',
  'networking.v1.IngressSpec': 'ingressClassName',
  'networking.v1.NetworkPolicyPort': 'protocol',
  'policy.v1.PodDisruptionBudgetSpec': 'unhealthyPodEvictionPolicy',
  'resource.v1.AllocatedDeviceStatus': 'shareID',
  'resource.v1.Device': 'nodeName',
  'resource.v1.DeviceAttribute': 'string version',
  'resource.v1.DeviceClassSpec': 'extendedResourceName',
  'resource.v1.DeviceConstraint': 'distinctAttribute matchAttribute',
  'resource.v1.DeviceRequestAllocationResult': 'shareID',
  'resource.v1.NodeAllocatableResourceMapping': 'capacityKey',
  'resource.v1.ResourceSliceSpec': 'nodeName',
  'scheduling.v1.PriorityClass': 'preemptionPolicy',
  'storage.v1.CSIDriverSpec': 'fsGroupPolicy',
  'storage.v1.StorageClass': 'reclaimPolicy volumeBindingMode',
  'storage.v1.VolumeAttachmentSource': 'persistentVolumeName',
};

/** Optional booleans and numbers whose zero is dropped; `readOnly` of every volume is one, too. */
const DROPPED: Readonly<Record<string, string>> = {
  'apiextensions.v1.CustomResourceColumnDefinition': 'priority',
  'apiextensions.v1.CustomResourceDefinitionCondition': 'observedGeneration',
  'apiextensions.v1.CustomResourceDefinitionSpec': 'preserveUnknownFields',
  'apiextensions.v1.CustomResourceDefinitionStatus': 'observedGeneration',
  'apiextensions.v1.CustomResourceDefinitionVersion': 'deprecated',
  'apiextensions.v1.JSONSchemaProps':
    'exclusiveMaximum exclusiveMinimum nullable uniqueItems x-kubernetes-embedded-resource x-kubernetes-int-or-string',
  'apiregistration.v1.APIServiceSpec': 'insecureSkipTLSVerify',
  'apps.v1.DaemonSetSpec': 'minReadySeconds',
  'apps.v1.DaemonSetStatus':
    'numberAvailable numberUnavailable observedGeneration updatedNumberScheduled',
  'apps.v1.DeploymentSpec': 'minReadySeconds paused',
  'apps.v1.DeploymentStatus':
    'availableReplicas observedGeneration readyReplicas replicas unavailableReplicas updatedReplicas',
  'apps.v1.ReplicaSetSpec': 'minReadySeconds',
  'apps.v1.ReplicaSetStatus':
    'availableReplicas fullyLabeledReplicas observedGeneration readyReplicas',
  'apps.v1.StatefulSetSpec': 'minReadySeconds',
  'apps.v1.StatefulSetStatus': 'currentReplicas observedGeneration readyReplicas updatedReplicas',
  'authentication.v1.TokenReviewStatus': 'authenticated',
  'authorization.v1.SubjectAccessReviewStatus': 'denied',
  'autoscaling.v1.ScaleSpec': 'replicas',
  'autoscaling.v2.HorizontalPodAutoscalerStatus': 'currentReplicas',
  'batch.v1.JobStatus': 'active failed succeeded',
  'core.v1.AWSElasticBlockStoreVolumeSource': 'partition',
  'core.v1.Container': 'stdin stdinOnce tty',
  'core.v1.ContainerImage': 'sizeBytes',
  'core.v1.ContainerPort': 'hostPort',
  'core.v1.ContainerStateTerminated': 'signal',
  'core.v1.EphemeralContainer': 'stdin stdinOnce tty',
  'core.v1.Event': 'count',
  'core.v1.EventSeries': 'count',
  'core.v1.GCEPersistentDiskVolumeSource': 'partition',
  'core.v1.ISCSIPersistentVolumeSource': 'chapAuthDiscovery chapAuthSession',
  'core.v1.ISCSIVolumeSource': 'chapAuthDiscovery chapAuthSession',
  'core.v1.NodeSpec': 'unschedulable',
  'core.v1.PodCondition': 'observedGeneration',
  'core.v1.PodSpec': 'hostIPC hostNetwork hostPID',
  'core.v1.PodStatus': 'observedGeneration',
  'core.v1.Probe':
    'failureThreshold initialDelaySeconds periodSeconds successThreshold timeoutSeconds',
  'core.v1.ReplicationControllerSpec': 'minReadySeconds',
  'core.v1.ReplicationControllerStatus':
    'availableReplicas fullyLabeledReplicas observedGeneration readyReplicas',
  'core.v1.ScaleIOPersistentVolumeSource': 'sslEnabled',
  'core.v1.ScaleIOVolumeSource': 'sslEnabled',
  'core.v1.ServicePort': 'nodePort',
  'core.v1.ServiceSpec': 'healthCheckNodePort publishNotReadyAddresses',
  'events.v1.Event': 'deprecatedCount',
  'flowcontrol.v1.ResourcePolicyRule': 'clusterScope',
  'meta.v1.Condition': 'observedGeneration',
  'meta.v1.ObjectMeta': 'generation',
  'meta.v1.Status': 'code',
  'meta.v1.StatusDetails': 'retryAfterSeconds',
  'networking.v1.ServiceBackendPort': 'number',
  'policy.v1.PodDisruptionBudgetStatus': 'observedGeneration',
  'scheduling.v1.PriorityClass': 'globalDefault',
};

/** Times that are written as null while they are not set. */
const NULL_TIMES: Readonly<Record<string, string>> = {
  'apiextensions.v1.CustomResourceDefinitionCondition': 'lastTransitionTime',
  'apiregistration.v1.APIServiceCondition': 'lastTransitionTime',
  'apps.v1.DaemonSetCondition': 'lastTransitionTime',
  'apps.v1.DeploymentCondition': 'lastTransitionTime lastUpdateTime',
  'apps.v1.ReplicaSetCondition': 'lastTransitionTime',
  'apps.v1.StatefulSetCondition': 'lastTransitionTime',
  'authentication.v1.TokenRequestStatus': 'expirationTimestamp',
  'autoscaling.v2.HorizontalPodAutoscalerCondition': 'lastTransitionTime',
  'batch.v1.JobCondition': 'lastProbeTime lastTransitionTime',
  'certificates.v1.CertificateSigningRequestCondition': 'lastTransitionTime lastUpdateTime',
  'core.v1.ContainerStateRunning': 'startedAt',
  'core.v1.ContainerStateTerminated': 'finishedAt startedAt',
  'core.v1.Event': 'eventTime firstTimestamp lastTimestamp',
  'core.v1.EventSeries': 'lastObservedTime',
  'core.v1.NamespaceCondition': 'lastTransitionTime',
  'core.v1.NodeCondition': 'lastHeartbeatTime lastTransitionTime',
  'core.v1.PersistentVolumeClaimCondition': 'lastProbeTime lastTransitionTime',
  'core.v1.PodCondition': 'lastProbeTime lastTransitionTime',
  'core.v1.ReplicationControllerCondition': 'lastTransitionTime',
  'events.v1.Event': 'deprecatedFirstTimestamp deprecatedLastTimestamp eventTime',
  'events.v1.EventSeries': 'lastObservedTime',
  'flowcontrol.v1.FlowSchemaCondition': 'lastTransitionTime',
  'flowcontrol.v1.PriorityLevelConfigurationCondition': 'lastTransitionTime',
  'meta.v1.Condition': 'lastTransitionTime',
};

const lists = (table: Readonly<Record<string, string>>): Map<string, Set<string>> =>
  new Map(Object.entries(table).map(([type, members]) => [type, new Set(members.split(' '))]));

const keptStrings = lists(KEPT_STRINGS);
const dropped = lists(DROPPED);
const nullTimes = lists(NULL_TIMES);

/** A reference without a name has no `name`, although its default is said to be empty. */
const NAMELESS = /\.(ConfigMap\w*|Secret\w*|LocalObjectReference)$/;

/** True when the described default is a zero that is never written. */
export const isSilentDefault = (definition: string, field: string): boolean =>
  (field === 'name' && NAMELESS.test(definition)) ||
  (dropped.get(shortName(definition))?.has(field) ?? false);

/** True when this time is null, and not absent, while it is not set. */
export const isNullTime = (definition: string, field: string): boolean =>
  nullTimes.get(shortName(definition))?.has(field) ?? false;

/** `io.k8s.api.core.v1.PodSpec` → `core.v1.PodSpec`. */
const shortName = (definition: string): string => definition.split('.').slice(-3).join('.');

/**
 * True when a zero value of this optional scalar counts as left out. `definition` is the published
 * name of the type that has the field.
 */
export function dropsZero(definition: string, field: string, type: string): boolean {
  const name = shortName(definition);
  if (type === 'string') return !keptStrings.get(name)?.has(field);
  if (field === 'readOnly') return name !== 'core.v1.AzureDiskVolumeSource';
  return dropped.get(name)?.has(field) ?? false;
}
