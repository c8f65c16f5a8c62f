import { urlHost } from '#base/default-address.ts';
import { parse, stringify } from 'yaml';
import { CLUSTER_INFO, CLUSTER_INFO_KEY, JOINING_NODES_GROUP } from '#api/bootstrap-token.ts';
import { isStatusError } from '#api/status.ts';
import type { ConfigMap, KubeObject, PolicyRule, RbacSubject } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import {
  clusterRoleBindings,
  clusterRoles,
  configMaps,
  endpointSlices,
  roleBindings,
  roles,
} from '#client/resources.ts';

/**
 * What lets machines join, under kubeadm's names: rights for those who hold a token, the public
 * ConfigMap that says where the cluster is, and the settings that a node must share.
 * Source: kubeadm "Implementation details", TLS bootstrapping and cluster-info.
 */
export type NetworkSettings = {
  clusterCidr: string;
  serviceCidr: string;
  clusterDnsIp: string;
  clusterDomain: string;
};

const RBAC_API = 'rbac.authorization.k8s.io';
const SYSTEM = 'kube-system';
const SETTINGS = { namespace: SYSTEM, name: 'kubeadm-config' } as const;
const NODE_SETTINGS = { namespace: SYSTEM, name: 'kubelet-config' } as const;
const CSR_ROLES = 'system:certificates.k8s.io:certificatesigningrequests';

const group = (name: string): RbacSubject => ({ apiGroup: RBAC_API, kind: 'Group', name });
const JOINING = group(JOINING_NODES_GROUP);
const NODES = group('system:nodes');
const ANYBODY: RbacSubject = { apiGroup: RBAC_API, kind: 'User', name: 'system:anonymous' };

type Grant = { name: string; role: string; subjects: RbacSubject[] };

const CLUSTER_GRANTS: readonly Grant[] = [
  { name: 'kubeadm:kubelet-bootstrap', role: 'system:node-bootstrapper', subjects: [JOINING] },
  {
    name: 'kubeadm:node-autoapprove-bootstrap',
    role: `${CSR_ROLES}:nodeclient`,
    subjects: [JOINING],
  },
  {
    name: 'kubeadm:node-autoapprove-certificate-rotation',
    role: `${CSR_ROLES}:selfnodeclient`,
    subjects: [NODES],
  },
  { name: 'kubeadm:get-nodes', role: 'kubeadm:get-nodes', subjects: [JOINING] },
];

type NamespacedGrant = {
  at: { namespace: string; name: string };
  /** The one ConfigMap that may be read. */
  configMap: string;
  subjects: RbacSubject[];
};

const NAMESPACED_GRANTS: readonly NamespacedGrant[] = [
  {
    at: { namespace: CLUSTER_INFO.namespace, name: 'kubeadm:bootstrap-signer-clusterinfo' },
    configMap: CLUSTER_INFO.name,
    subjects: [ANYBODY],
  },
  {
    at: { namespace: SYSTEM, name: 'kubeadm:nodes-kubeadm-config' },
    configMap: SETTINGS.name,
    subjects: [JOINING, NODES],
  },
  {
    at: { namespace: SYSTEM, name: 'kubeadm:kubelet-config' },
    configMap: NODE_SETTINGS.name,
    subjects: [JOINING, NODES],
  },
];

/** Makes what is missing, as `gantry token create` needs it; what is there is left as it is. */
export async function allowJoining(api: Api, { ca }: { ca: string }): Promise<void> {
  const nodesRule = { apiGroups: [''], resources: ['nodes'], verbs: ['get'] };
  await createIfAbsent(api, clusterRoles, {
    metadata: { name: 'kubeadm:get-nodes' },
    rules: [nodesRule],
  });
  for (const { name, role, subjects } of CLUSTER_GRANTS) {
    await createIfAbsent(api, clusterRoleBindings, {
      metadata: { name },
      roleRef: { apiGroup: RBAC_API, kind: 'ClusterRole', name: role },
      subjects,
    });
  }
  for (const { at, configMap, subjects } of NAMESPACED_GRANTS) {
    const rule: PolicyRule = {
      apiGroups: [''],
      resources: ['configmaps'],
      resourceNames: [configMap],
      verbs: ['get'],
    };
    await createIfAbsent(api, roles, { metadata: at, rules: [rule] });
    await createIfAbsent(api, roleBindings, {
      metadata: at,
      roleRef: { apiGroup: RBAC_API, kind: 'Role', name: at.name },
      subjects,
    });
  }
  await publishClusterInfo(api, ca);
}

async function createIfAbsent<T extends KubeObject>(
  api: Api,
  resource: Resource<T>,
  object: T,
): Promise<void> {
  await api.create(resource, object).catch((error: unknown) => {
    if (!isStatusError(error, 'AlreadyExists')) throw error;
  });
}

/** Where the cluster is and who vouches for it; the signatures come from a controller. */
async function publishClusterInfo(api: Api, ca: string): Promise<void> {
  const server = await serverUrl(api);
  const cluster = { 'certificate-authority-data': Buffer.from(ca).toString('base64'), server };
  const kubeconfig = stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: '', cluster }],
    contexts: null,
    'current-context': '',
    preferences: {},
    users: null,
  });
  await publish(api, { metadata: CLUSTER_INFO, data: { [CLUSTER_INFO_KEY]: kubeconfig } });
}

/** `https://host:port` as other machines reach the API server: its own Service knows. */
export async function serverUrl(api: Api): Promise<string> {
  const { endpoints, ports } = await api.get(endpointSlices, {
    namespace: 'default',
    name: 'kubernetes',
  });
  const host = endpoints?.[0]?.addresses[0] ?? '';
  return `https://${urlHost(host)}:${ports?.[0]?.port}`;
}

/** Writes the settings that joining nodes read. */
export async function publishSettings(api: Api, settings: NetworkSettings): Promise<void> {
  const { clusterCidr, serviceCidr, clusterDnsIp, clusterDomain } = settings;
  const cluster = {
    apiVersion: 'kubeadm.k8s.io/v1beta4',
    kind: 'ClusterConfiguration',
    networking: { dnsDomain: clusterDomain, podSubnet: clusterCidr, serviceSubnet: serviceCidr },
  };
  const kubelet = {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    clusterDNS: clusterDnsIp.split(','),
    clusterDomain,
    rotateCertificates: true,
    serverTLSBootstrap: true,
  };
  await publish(api, { metadata: SETTINGS, data: { ClusterConfiguration: stringify(cluster) } });
  await publish(api, { metadata: NODE_SETTINGS, data: { kubelet: stringify(kubelet) } });
}

/** Creates a ConfigMap, or changes the keys it names; others (signatures) stay. */
async function publish(api: Api, object: ConfigMap): Promise<void> {
  const { namespace, name = '' } = object.metadata;
  try {
    await api.create(configMaps, object);
  } catch (error) {
    if (!isStatusError(error, 'AlreadyExists')) throw error;
    const patch = { type: 'merge', body: { data: object.data } } as const;
    await api.patch(configMaps, { namespace, name }, patch);
  }
}

type Parsed = {
  networking?: { dnsDomain?: string; podSubnet?: string; serviceSubnet?: string };
  clusterDNS?: string[];
};

/** The settings of a cluster; undefined when it has published none. */
export async function fetchSettings(api: Api): Promise<NetworkSettings | undefined> {
  const read = async (key: typeof SETTINGS | typeof NODE_SETTINGS, field: string) => {
    const { data } = await api.get(configMaps, key);
    return (parse(data?.[field] ?? '') ?? {}) as Parsed;
  };
  try {
    const { networking = {} } = await read(SETTINGS, 'ClusterConfiguration');
    const { clusterDNS = [] } = await read(NODE_SETTINGS, 'kubelet');
    return {
      clusterCidr: networking.podSubnet ?? '',
      serviceCidr: networking.serviceSubnet ?? '',
      clusterDomain: networking.dnsDomain ?? '',
      clusterDnsIp: clusterDNS.join(','),
    };
  } catch (error) {
    if (isStatusError(error, 'NotFound') || isStatusError(error, 'Forbidden')) return undefined;
    throw error;
  }
}
