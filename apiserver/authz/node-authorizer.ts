import type { PersistentVolume, Pod } from '#api/types.ts';
import type { Attributes, Authorizer, Decision } from '#apiserver/authz/authorizer.ts';
import { parseRule, ruleAllows } from '#apiserver/authz/rules.ts';
import { podReferences } from '#apiserver/authz/pod-references.ts';
import { NODE_RULES } from '#apiserver/bootstrap-roles.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { UserInfo } from '#apiserver/user.ts';

const NODE_PREFIX = 'system:node:';
const NODES_GROUP = 'system:nodes';
const rules = NODE_RULES.map(parseRule);

/** The node's name when a user is a node's agent. */
export function nodeNameOf(user: UserInfo): string | undefined {
  if (!user.name.startsWith(NODE_PREFIX) || !user.groups.includes(NODES_GROUP)) return undefined;
  return user.name.slice(NODE_PREFIX.length);
}

/**
 * Lets a node's agent read what the pods on its node use, and write its own node and lease.
 * Never denies by itself: roles may allow more. Source: Kubernetes "Using Node Authorization".
 */
export function createNodeAuthorizer(reader: ObjectReader): Authorizer {
  return {
    name: 'Node',
    authorize(request) {
      const node = nodeNameOf(request.user);
      if (node === undefined) return no('');
      if (node === '') return no('unknown node for user');
      if (!request.isResource) return byRules(request);
      const special = specialFor(request);
      return special ? special(request, node, reader) : byRules(request);
    },
  };
}

type Check = (request: Attributes, node: string, reader: ObjectReader) => Decision;

const no = (reason: string): Decision => ({ decision: 'no-opinion', reason });
const ALLOW: Decision = { decision: 'allow', reason: '' };

const byRules = (request: Attributes): Decision =>
  rules.some((rule) => ruleAllows(rule, request)) ? ALLOW : no('');

function specialFor(request: Attributes): Check | undefined {
  switch (request.group ? `${request.resource}.${request.group}` : request.resource) {
    case 'secrets':
      return readSecret;
    case 'configmaps':
      return readOfPod(['get', 'list', 'watch']);
    case 'persistentvolumeclaims':
      return request.subresource === 'status'
        ? readOfPod(['get', 'update', 'patch'], 'status')
        : readOfPod(['get']);
    case 'serviceaccounts':
      return request.subresource === 'token' ? createToken : readOfPod(['get']);
    case 'pods':
      return readPods;
    case 'nodes':
      return ownNode;
    case 'leases.coordination.k8s.io':
      return ownLease;
    case 'csinodes.storage.k8s.io':
      return ownByName;
    default:
      return undefined;
  }
}

/** Objects that a pod on the node refers to. */
function readOfPod(verbs: readonly string[], subresource = ''): Check {
  return (request, node, reader) => {
    if (!verbs.includes(request.verb)) {
      return no(`can only ${verbs.join('/')} ${resourceText(request)}`);
    }
    if (request.subresource !== subresource) return no('cannot read this subresource');
    if (request.name === '') return no('No Object name found');
    if (request.namespace === '') return no('can only read namespaced object of this type');
    return related(request, node, reader) ? ALLOW : unrelated(node);
  };
}

/** Of a pod, or of a storage driver whose volume a pod uses through a claim. */
const readSecret: Check = (request, node, reader) => {
  const decision = readOfPod(['get', 'list', 'watch'])(request, node, reader);
  if (decision.decision === 'allow' || request.verb !== 'get' || request.subresource)
    return decision;
  return isVolumeSecret(request, node, reader) ? ALLOW : decision;
};

function isVolumeSecret(
  { namespace, name }: Attributes,
  node: string,
  reader: ObjectReader,
): boolean {
  const isIt = (ref: { namespace?: string; name?: string } | undefined): boolean =>
    ref?.name === name && ref.namespace === namespace;
  const volumes = reader.list<PersistentVolume>('', 'persistentvolumes').filter(({ spec }) => {
    const { nodeStageSecretRef, nodePublishSecretRef, nodeExpandSecretRef } = spec?.csi ?? {};
    return [nodeStageSecretRef, nodePublishSecretRef, nodeExpandSecretRef].some(isIt);
  });
  return volumes.some(({ spec }) => {
    const claim = spec?.claimRef;
    if (!claim?.namespace || !claim.name) return false;
    const { name: claimName } = claim;
    return reader
      .list<Pod>('', 'pods', claim.namespace)
      .some(
        (pod) =>
          pod.spec.nodeName === node && podReferences(pod, 'persistentvolumeclaims', claimName),
      );
  });
}

const unrelated = (node: string): Decision =>
  no(`no relationship found between node '${node}' and this object`);

const resourceText = (request: Attributes): string => `resources of type ${request.resource}`;

/**
 * A scan of the namespace's pods: an agent asks once for each object that it mounts, so an index
 * that every change of a pod would have to keep up costs more than it saves.
 */
function related(request: Attributes, node: string, reader: ObjectReader): boolean {
  for (const pod of reader.list<Pod>('', 'pods', request.namespace)) {
    if (pod.spec.nodeName !== node) continue;
    if (podReferences(pod, request.resource, request.name)) return true;
  }
  return false;
}

const createToken: Check = (request, node, reader) => {
  if (request.verb !== 'create')
    return no('can only create tokens for individual service accounts');
  if (request.name === '') return no('can only create tokens for individual service accounts');
  return related(request, node, reader) ? ALLOW : unrelated(node);
};

const readPods: Check = (request, node, reader) => {
  if (request.subresource !== '') return byRules(request);
  switch (request.verb) {
    case 'list':
    case 'watch': {
      const wanted = [`spec.nodeName=${node}`, `spec.nodeName==${node}`];
      const parts = (request.fieldSelector ?? '').split(',');
      if (parts.some((part) => wanted.includes(part))) return ALLOW;
      return no('can only list/watch pods with spec.nodeName field selector');
    }
    case 'get': {
      const { namespace, name } = request;
      const pod = reader.get<Pod>('', 'pods', { namespace, name });
      return pod?.spec.nodeName === node ? ALLOW : unrelated(node);
    }
    default:
      return byRules(request);
  }
};

/** Everything about nodes is about the own one; creation is checked by NodeRestriction. */
const ownNode: Check = (request, node) => {
  if (request.verb === 'create' && request.name === '') return byRules(request);
  if (request.name !== node) {
    return no(`node '${node}' cannot read '${request.name}', only its own Node object`);
  }
  return byRules(request);
};

const ownLease: Check = (request, node) => {
  if (!['get', 'create', 'update', 'patch', 'delete'].includes(request.verb)) {
    return no('can only get, create, update, patch, or delete a node lease');
  }
  if (request.namespace !== 'kube-node-lease') {
    return no(`can only access leases in the "kube-node-lease" system namespace`);
  }
  // A creation has no name in its URL; NodeRestriction looks into the body.
  if (request.verb !== 'create' && request.name !== node) {
    return no('can only access node lease with the same name as the requesting node');
  }
  return ALLOW;
};

const ownByName: Check = (request, node) => {
  if (request.verb !== 'create' && request.name !== node) {
    return no(`can only access ${request.resource} with the same name as the requesting node`);
  }
  return byRules(request);
};
