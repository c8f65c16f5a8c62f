import { validateNode, validateNodeStatus, validateNodeUpdate } from '#api/core/node-validate.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { podSpecRules } from '#api/core/pod-spec-rules.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, NONE, text, wide } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { Node } from '#api/types.ts';

const ROLE_LABEL_PREFIX = 'node-role.kubernetes.io/';
const ROLE_LABEL = 'kubernetes.io/role';

const EMPTY_INFO = {
  machineID: '',
  systemUUID: '',
  bootID: '',
  kernelVersion: '',
  osImage: '',
  containerRuntimeVersion: '',
  kubeletVersion: '',
  kubeProxyVersion: '',
  operatingSystem: '',
  architecture: '',
};

/** Source: core/v1 Node. */
export const node = defineKind<Node>({
  group: '',
  version: 'v1',
  kind: 'Node',
  plural: 'nodes',
  singular: 'node',
  shortNames: ['no'],
  scope: 'Cluster',
  schema: 'V1Node',
  fieldRules: [coreRules, podSpecRules, metaRules],
  generation: 'none',
  subresources: {
    status: { type: 'status', prepareForUpdate: keepSpec, validateUpdate: validateNodeStatus },
    proxy: {
      type: 'handler',
      verbs: ['create', 'delete', 'get', 'patch', 'update'],
      body: { group: '', version: 'v1', kind: 'NodeProxyOptions' },
    },
  },
  selectableFields: {
    'spec.unschedulable': (object) => String(object.spec?.unschedulable ?? false),
  },
  ageColumn: false,
  columns: [
    text('Status', readiness, 'The status of the node'),
    text('Roles', roles, 'The roles of the node'),
    AGE,
    text(
      'Version',
      (object) => object.status?.nodeInfo?.kubeletVersion ?? '',
      'V1NodeSystemInfo.kubeletVersion',
    ),
    wide(text('Internal-IP', (object) => address(object, 'InternalIP'), 'V1NodeStatus.addresses')),
    wide(text('External-IP', (object) => address(object, 'ExternalIP'), 'V1NodeStatus.addresses')),
    wide(
      text(
        'OS-Image',
        (object) => object.status?.nodeInfo?.osImage || '<unknown>',
        'V1NodeSystemInfo.osImage',
      ),
    ),
    wide(text('Kernel-Version', kernel, 'V1NodeSystemInfo.kernelVersion')),
    wide(
      text(
        'Container-Runtime',
        (object) => object.status?.nodeInfo?.containerRuntimeVersion || '<unknown>',
        'V1NodeSystemInfo.containerRuntimeVersion',
      ),
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    const { status } = object;
    status.daemonEndpoints ??= {};
    status.daemonEndpoints.kubeletEndpoint ??= { Port: 0 };
    status.nodeInfo = { ...EMPTY_INFO, ...status.nodeInfo };
    canonicalResources(status.capacity);
    canonicalResources(status.allocatable);
    for (const condition of status.conditions ?? []) {
      // Times are always shown, and as null while unknown.
      condition.lastHeartbeatTime ??= null as never;
      condition.lastTransitionTime ??= null as never;
    }
    if (!status.allocatable && status.capacity) status.allocatable = { ...status.capacity };
    if (object.spec.podCIDR && !object.spec.podCIDRs) object.spec.podCIDRs = [object.spec.podCIDR];
  },
  prepareForUpdate: keepStatus,
  validate: validateNode,
  validateUpdate: validateNodeUpdate,
});

function keepSpec(object: Record<string, unknown>, old: Record<string, unknown>): void {
  if (old['spec'] !== undefined) object['spec'] = old['spec'];
}

function readiness(object: Node): string {
  const ready = object.status?.conditions?.find((condition) => condition.type === 'Ready');
  const words = [ready === undefined ? 'Unknown' : ready.status === 'True' ? 'Ready' : 'NotReady'];
  if (object.spec?.unschedulable) words.push('SchedulingDisabled');
  return words.join(',');
}

function roles(object: Node): string {
  const found = new Set<string>();
  for (const [label, value] of Object.entries(object.metadata.labels ?? {})) {
    if (label.startsWith(ROLE_LABEL_PREFIX)) {
      const role = label.slice(ROLE_LABEL_PREFIX.length);
      if (role) found.add(role);
    } else if (label === ROLE_LABEL && value) {
      found.add(value);
    }
  }
  return [...found].sort().join(',') || NONE;
}

function address(object: Node, type: string): string {
  return object.status?.addresses?.find((entry) => entry.type === type)?.address || NONE;
}

function kernel({ status }: Node): string {
  const { kernelVersion, architecture } = status?.nodeInfo ?? {};
  if (!kernelVersion) return '<unknown>';
  return architecture ? `${kernelVersion} (${architecture})` : kernelVersion;
}
