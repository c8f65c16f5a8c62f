import { equalJson } from '#api/json.ts';
import { forbiddenError } from '#api/status.ts';
import type { KubeObject, Node, Pod } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isMirrorPod } from '#apiserver/admission-pods.ts';
import { nodeNameOf } from '#apiserver/authz/node-authorizer.ts';

/**
 * A node's agent changes its own node, its own lease and the pods on its node, and nothing that
 * would draw work or trust to the node. Source: "Admission Control", NodeRestriction.
 */
export const nodeRestriction: AdmissionRule = {
  name: 'NodeRestriction',
  handles: ({ user }) => nodeNameOf(user) !== undefined,
  validate(request, context) {
    const node = nodeNameOf(request.user) ?? '';
    const check = CHECKS[resourceText(request)];
    check?.(request, node, context);
  },
};

type Check = (request: AdmissionRequest, node: string, context: AdmissionContext) => void;

function resourceText({ kind, subresource }: AdmissionRequest): string {
  const name = kind.group ? `${kind.plural}.${kind.group}` : kind.plural;
  return subresource ? `${name}/${subresource}` : name;
}

function refuse(request: AdmissionRequest, why: string): never {
  const { kind, name } = request;
  throw forbiddenError({ group: kind.group, resource: kind.plural }, name, why);
}

const checkPod: Check = (request, node) => {
  switch (request.operation) {
    case 'CREATE':
      return checkNewPod(request, node);
    case 'DELETE': {
      const pod = request.oldObject as Pod | null;
      if (pod && pod.spec.nodeName !== node) {
        refuse(request, `node "${node}" can only delete pods with spec.nodeName set to itself`);
      }
      return undefined;
    }
    case 'UPDATE':
      return refuse(
        request,
        `unexpected operation "UPDATE", node "${node}" can only create and delete mirror pods`,
      );
    case 'CONNECT':
      return undefined;
  }
};

function checkNewPod(request: AdmissionRequest, node: string): void {
  const pod = request.object as Pod;
  if (!isMirrorPod(pod)) {
    const why = `pod does not have "kubernetes.io/config.mirror" annotation, node "${node}" can only create mirror pods`;
    refuse(request, why);
  }
  if (pod.spec.nodeName !== node) {
    refuse(request, `node "${node}" can only create pods with spec.nodeName set to itself`);
  }
  const owners = pod.metadata.ownerReferences ?? [];
  const foreign = owners.some((owner) => owner.kind !== 'Node' || owner.name !== node);
  if (owners.length > 1 || foreign) {
    refuse(request, `node "${node}" can only create pods with an owner reference set to itself`);
  }
  if (pod.spec.serviceAccountName) {
    refuse(request, `node "${node}" can not create pods that reference a service account`);
  }
  if (JSON.stringify(pod.spec).includes('"secretName":')) {
    refuse(request, `node "${node}" can not create pods that reference secrets`);
  }
}

const checkPodStatus: Check = (request, node) => {
  if (request.operation !== 'UPDATE') return;
  const [pod, old] = [request.object as Pod, request.oldObject as Pod | null];
  if (old && old.spec.nodeName !== node) {
    refuse(
      request,
      `node "${node}" can only update pod status for pods with spec.nodeName set to itself`,
    );
  }
  if (old && !equalJson(pod.metadata.labels ?? {}, old.metadata.labels ?? {})) {
    refuse(request, `node "${node}" cannot update labels through pod status`);
  }
};

const checkEviction: Check = (request, node, { reader }) => {
  const { namespace, name } = request;
  const pod = reader.get<Pod>('', 'pods', { namespace, name });
  if (pod?.spec.nodeName !== node) {
    refuse(request, `node ${node} can only evict pods with spec.nodeName set to itself`);
  }
};

const checkNode: Check = (request, node) => {
  const object = request.object as Node | null;
  const name = request.name || (object?.metadata.name ?? '');
  if (name !== node) {
    const verb = request.operation === 'CREATE' ? 'create' : 'modify';
    refuse(request, `node "${node}" is not allowed to ${verb} node "${name}"`);
  }
  const old = request.oldObject as Node | null;
  if (!object) return;
  if (request.operation === 'CREATE') {
    refuseLabels(request, changedLabels(object, undefined), 'set');
    return;
  }
  refuseLabels(request, changedLabels(object, old ?? undefined), 'modify');
  if (old && !equalJson(object.spec?.taints ?? [], old.spec?.taints ?? [])) {
    refuse(request, `node "${node}" is not allowed to modify taints`);
  }
  if (
    old &&
    !equalJson(object.metadata.ownerReferences ?? [], old.metadata.ownerReferences ?? [])
  ) {
    refuse(request, `node "${node}" is not allowed to modify ownerReferences`);
  }
};

function refuseLabels(request: AdmissionRequest, labels: readonly string[], verb: string): void {
  const forbidden = labels.filter((label) => !mayLabel(label)).sort();
  if (forbidden.length === 0) return;
  refuse(request, `is not allowed to ${verb} the following labels: ${forbidden.join(', ')}`);
}

function changedLabels(object: KubeObject, old: KubeObject | undefined): string[] {
  const now = object.metadata.labels ?? {};
  const before = old?.metadata.labels ?? {};
  const keys = new Set([...Object.keys(now), ...Object.keys(before)]);
  return [...keys].filter((key) => now[key] !== before[key]);
}

/** What an agent reports about its machine; all other labels of these domains are the admins'. */
const AGENT_LABELS = new Set([
  'kubernetes.io/hostname',
  'kubernetes.io/os',
  'kubernetes.io/arch',
  'beta.kubernetes.io/os',
  'beta.kubernetes.io/arch',
  'beta.kubernetes.io/instance-type',
  'node.kubernetes.io/instance-type',
  'node.kubernetes.io/windows-build',
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'failure-domain.beta.kubernetes.io/zone',
  'failure-domain.beta.kubernetes.io/region',
]);
const AGENT_DOMAINS = ['kubelet.kubernetes.io', 'node.kubernetes.io'];

function mayLabel(key: string): boolean {
  const domain = key.includes('/') ? (key.split('/')[0] ?? '') : '';
  const within = (parent: string): boolean => domain === parent || domain.endsWith(`.${parent}`);
  if (within('node-restriction.kubernetes.io')) return false;
  if (!within('kubernetes.io') && !within('k8s.io')) return true;
  return AGENT_LABELS.has(key) || AGENT_DOMAINS.some(within);
}

const checkLease: Check = (request, node) => {
  if (request.namespace !== 'kube-node-lease') {
    refuse(request, `can only access leases in the "kube-node-lease" system namespace`);
  }
  const name = request.name || (request.object?.metadata.name ?? '');
  if (name !== node) {
    refuse(request, 'can only access node lease with the same name as the requesting node');
  }
};

const checkCsiNode: Check = (request, node) => {
  const name = request.name || (request.object?.metadata.name ?? '');
  if (name !== node) {
    refuse(request, 'can only access CSINode with the same name as the requesting node');
  }
};

type TokenRequest = KubeObject & {
  spec?: { boundObjectRef?: { kind?: string; name?: string; uid?: string } | null };
};

const checkToken: Check = (request, node, { reader }) => {
  const ref = (request.object as TokenRequest | null)?.spec?.boundObjectRef;
  if (ref?.kind !== 'Pod' || !ref.name) {
    return refuse(request, 'node requested token not bound to a pod');
  }
  if (!ref.uid) refuse(request, 'node requested token with a pod binding without a uid');
  const key = { namespace: request.namespace, name: ref.name };
  const pod = reader.get<Pod>('', 'pods', key);
  if (!pod || pod.metadata.uid !== ref.uid) {
    refuse(request, 'node requested token bound to a pod that does not exist');
  }
  if (pod?.spec.nodeName !== node) {
    refuse(request, 'node requested token bound to a pod scheduled on a different node');
  }
};

const CHECKS: Readonly<Record<string, Check>> = {
  pods: checkPod,
  'pods/status': checkPodStatus,
  'pods/eviction': checkEviction,
  nodes: checkNode,
  'nodes/status': checkNode,
  'leases.coordination.k8s.io': checkLease,
  'csinodes.storage.k8s.io': checkCsiNode,
  'serviceaccounts/token': checkToken,
};
