import { isPlainObject } from '#api/json.ts';

/**
 * Objects as upstream's error messages show them: with the member names, order and zero values of
 * its internal types. Clients match whole messages, so they are part of the API.
 *
 * A type is a list of members: `Name`, with `=json` where the JSON name is not the name with a small
 * first letter, with `:Type` where the value is an object (or a list of them), and last what stands
 * for an absent value: nothing for '', `#` 0, `?` false, `*` null.
 */
const TYPES = {
  AllocationResult:
    'Devices:DeviceAllocationResult NodeSelector:NodeSelector* AllocationTimestamp*',
  AuditAnnotation: 'Key ValueExpression',
  Capabilities: 'Add* Drop*',
  ClusterTrustBundle: 'Name* SignerName* LabelSelector* Optional* Path',
  CSINodeDriver: 'Name NodeID=nodeID TopologyKeys* Allocatable:VolumeNodeResources*',
  DeviceAllocationResult: 'Results* Config*',
  DeviceAttribute:
    'IntValue=int* BoolValue=bool* StringValue=string* VersionValue=version* IntValues=ints* BoolValues=bools* StringValues=strings* VersionValues=versions*',
  DistinguisherMethod: 'Type',
  EventSeries: 'Count# LastObservedTime*',
  EventSource: 'Component Host',
  Exempt: 'NominalConcurrencyShares* LendablePercent*',
  FlowSchemaSpec:
    'PriorityLevelConfiguration:Name MatchingPrecedence# DistinguisherMethod:DistinguisherMethod* Rules:PolicyRules*',
  IP: 'IP=ip',
  Limited:
    'NominalConcurrencyShares# LimitResponse:LimitResponse LendablePercent* BorrowingLimitPercent*',
  LimitResponse: 'Type Queuing:Queuing*',
  Name: 'Name',
  NodeAddress: 'Type Address',
  NodeSelector: 'NodeSelectorTerms:NodeSelectorTerm*',
  NodeSelectorTerm: 'MatchExpressions:Requirement* MatchFields:Requirement*',
  NonResourceRule: 'Verbs* NonResourceURLs=nonResourceURLs*',
  ObjectReference: 'Kind Namespace Name UID=uid APIVersion=apiVersion ResourceVersion FieldPath',
  ParentReference: 'Group Resource Namespace Name',
  PodDisruptionBudgetSpec: 'MinAvailable* Selector* MaxUnavailable* UnhealthyPodEvictionPolicy*',
  PodResourceClaim: 'Name ResourceClaimName* ResourceClaimTemplateName*',
  PolicyRules: 'Subjects:Subject* ResourceRules:ResourceRule* NonResourceRules:NonResourceRule*',
  PriorityLevelSpec: 'Type Limited:Limited* Exempt:Exempt*',
  Profile: 'Type LocalhostProfile*',
  Queuing: 'Queues# HandSize# QueueLengthLimit#',
  Requirement: 'Key Operator Values*',
  ResourceRule: 'Verbs* APIGroups=apiGroups* Resources* ClusterScope? Namespaces*',
  RoleRef: 'APIGroup=apiGroup Kind Name',
  RollingDaemonSet: 'MaxUnavailable# MaxSurge#',
  RollingStatefulSet: 'Partition# MaxUnavailable*',
  DaemonSetStrategy: 'Type RollingUpdate:RollingDaemonSet*',
  DeploymentStrategy: 'Type RollingUpdate:RollingDaemonSet*',
  StatefulSetStrategy: 'Type RollingUpdate:RollingStatefulSet*',
  ScopeRequirement: 'ScopeName Operator Values*',
  ScopeSelector: 'MatchExpressions:ScopeRequirement*',
  SecurityContext:
    'Capabilities:Capabilities* Privileged* SELinuxOptions=seLinuxOptions:SELinuxOptions* WindowsOptions:WindowsOptions* RunAsUser* RunAsGroup* RunAsNonRoot* ReadOnlyRootFilesystem* AllowPrivilegeEscalation* ProcMount* SeccompProfile:Profile* AppArmorProfile:Profile*',
  SELinuxOptions: 'User Role Type Level',
  ServiceAccount: 'Namespace Name',
  ServiceCIDRSpec: 'CIDRs=cidrs*',
  ServicePort: 'Name Protocol AppProtocol* Port# TargetPort# NodePort#',
  Subject: 'Kind User:Name* Group:Name* ServiceAccount:ServiceAccount*',
  SuccessPolicy: 'Rules:SuccessPolicyRule*',
  SuccessPolicyRule: 'SucceededIndexes* SucceededCount*',
  Taint: 'Key Value Effect TimeAdded*',
  UncountedPods: 'Succeeded* Failed*',
  VolumeAttachmentSource: 'PersistentVolumeName* InlineVolumeSpec*',
  VolumeAttachmentSpec: 'Attacher Source:VolumeAttachmentSource NodeName',
  VolumeNodeAffinity: 'Required:NodeSelector*',
  VolumeNodeResources: 'Count*',
  WindowsOptions: 'GMSACredentialSpecName* GMSACredentialSpec* RunAsUserName* HostProcess*',
} as const satisfies Record<string, string>;

export type InternalType = keyof typeof TYPES;

type Member = { name: string; json: string; type: InternalType | undefined; zero: unknown };

const ZEROS: Readonly<Record<string, unknown>> = { '': '', '#': 0, '?': false, '*': null };
const known = new Map<InternalType, readonly Member[]>();

function membersOf(type: InternalType): readonly Member[] {
  let members = known.get(type);
  if (!members) {
    members = TYPES[type].split(' ').map(readMember);
    known.set(type, members);
  }
  return members;
}

function readMember(text: string): Member {
  const [, name = '', json, type, mark = ''] =
    /^(\w+)(?:=(\w+))?(?::(\w+))?([#?*]?)$/.exec(text) ?? [];
  return {
    name,
    json: json ?? `${name[0]?.toLowerCase() ?? ''}${name.slice(1)}`,
    type: type as InternalType | undefined,
    zero: type && mark === '' ? {} : ZEROS[mark],
  };
}

/** `value`, an object of the API or a list of them, as a message shows it; null stays null. */
export function internalForm(type: InternalType, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((item) => internalForm(type, item));
  if (!isPlainObject(value)) return value ?? null;
  return Object.fromEntries(
    membersOf(type).map(({ name, json, type: inner, zero }) => {
      const member = value[json] ?? zero;
      return [name, inner ? internalForm(inner, member) : member];
    }),
  );
}
