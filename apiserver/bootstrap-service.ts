import { isIPv6 } from 'node:net';
import { equalJson } from '#api/json.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject, ServiceCIDR } from '#api/types.ts';
import {
  type BootstrapContext,
  createIfAbsent,
  kindOf,
  writeAsServer,
} from '#apiserver/bootstrap-context.ts';

/** Where the API server is, and which addresses of the service network are its and the DNS's. */
export type ServerPlace = {
  /** Address that pods reach the server by. */
  advertiseAddress: string;
  port: number;
  /** ClusterIP of default/kubernetes: the first of the service network. */
  serviceIp: string;
  /** The service network, per address family. */
  serviceCidrs: readonly string[];
  /** ClusterIP of kube-system/kube-dns. */
  clusterDnsIp: string;
  clientCaPem: string;
  frontProxyCaPem: string;
  frontProxyNames: readonly string[];
};

/**
 * The services that pods find the cluster by: default/kubernetes with its endpoints, which follow
 * the server's address, and kube-system/kube-dns, answered by every node itself; and what extension
 * servers need to know to trust this one. Source: Kubernetes "Access Services Running on Clusters".
 */
export async function reconcileServerPlace(
  context: BootstrapContext,
  place: ServerPlace,
): Promise<void> {
  const services = kindOf(context, '', 'v1', 'services');
  await ensureServiceCidr(context, place);
  await createIfAbsent(context, services, kubernetesService(place));
  await createIfAbsent(context, services, dnsService(place));
  // A server that only this machine can reach has no address for pods.
  if (!isLoopback(place.advertiseAddress)) {
    await createOrUpdate(context, '', 'endpoints', kubernetesEndpoints(place));
    await createOrUpdate(context, 'discovery.k8s.io', 'endpointslices', kubernetesSlice(place));
  }
  await createOrUpdate(context, '', 'configmaps', extensionAuthentication(place));
}

export const DEFAULT_CIDR = 'kubernetes';
/** Never taken off: the address of default/kubernetes is always in this range. */
const CIDR_FINALIZER = 'networking.k8s.io/service-cidr-finalizer';

/** Says which range Services take their addresses from. Source: networking.k8s.io/v1 ServiceCIDR. */
async function ensureServiceCidr(context: BootstrapContext, place: ServerPlace): Promise<void> {
  const kind = kindOf(context, 'networking.k8s.io', 'v1', 'servicecidrs');
  const metadata = { name: DEFAULT_CIDR, finalizers: [CIDR_FINALIZER] };
  await createIfAbsent(context, kind, { metadata, spec: { cidrs: [...place.serviceCidrs] } });
  const stored = context.reader.get<ServiceCIDR>(kind.group, kind.plural, { name: DEFAULT_CIDR });
  if (stored?.status?.conditions?.some(({ type }) => type === 'Ready')) return;
  await context.resources.modify<ServiceCIDR>(
    kind,
    { name: DEFAULT_CIDR },
    (current) => {
      const lastTransitionTime = current.metadata.creationTimestamp ?? '';
      const message = 'Kubernetes default Service CIDR is ready';
      const ready = { type: 'Ready', status: 'True', reason: 'Default', message };
      current.status = { ...current.status, conditions: [{ ...ready, lastTransitionTime }] };
    },
    { ...writeAsServer(context), subresource: 'status' },
  );
}

const isLoopback = (address: string): boolean => address === '::1' || address.startsWith('127.');

const KUBERNETES = { namespace: 'default', name: 'kubernetes' } as const;
const HTTPS_PORT = 443;

const kubernetesService = ({ serviceIp, port }: ServerPlace): KubeObject => ({
  metadata: { ...KUBERNETES, labels: { component: 'apiserver', provider: 'kubernetes' } },
  spec: {
    type: 'ClusterIP',
    clusterIP: serviceIp,
    clusterIPs: [serviceIp],
    ports: [{ name: 'https', protocol: 'TCP', port: HTTPS_PORT, targetPort: port }],
    sessionAffinity: 'None',
  },
});

const dnsService = ({ clusterDnsIp }: ServerPlace): KubeObject => ({
  metadata: {
    namespace: 'kube-system',
    name: 'kube-dns',
    labels: { 'k8s-app': 'kube-dns', 'kubernetes.io/cluster-service': 'true' },
  },
  spec: {
    type: 'ClusterIP',
    clusterIP: clusterDnsIp,
    clusterIPs: [clusterDnsIp],
    ports: [
      { name: 'dns', protocol: 'UDP', port: 53, targetPort: 53 },
      { name: 'dns-tcp', protocol: 'TCP', port: 53, targetPort: 53 },
    ],
  },
});

/** Controllers keep their hands off: the server itself knows where it is. */
const SKIP_MIRROR = { 'endpointslice.kubernetes.io/skip-mirror': 'true' } as const;

const kubernetesEndpoints = ({ advertiseAddress, port }: ServerPlace): KubeObject => ({
  metadata: { ...KUBERNETES, labels: { ...SKIP_MIRROR } },
  subsets: [
    {
      addresses: [{ ip: advertiseAddress }],
      ports: [{ name: 'https', port, protocol: 'TCP' }],
    },
  ],
});

const kubernetesSlice = ({ advertiseAddress, port }: ServerPlace): KubeObject => ({
  metadata: { ...KUBERNETES, labels: { 'kubernetes.io/service-name': 'kubernetes' } },
  addressType: isIPv6(advertiseAddress) ? 'IPv6' : 'IPv4',
  endpoints: [{ addresses: [advertiseAddress], conditions: { ready: true } }],
  ports: [{ name: 'https', port, protocol: 'TCP' }],
});

const extensionAuthentication = (place: ServerPlace): KubeObject => ({
  metadata: { namespace: 'kube-system', name: 'extension-apiserver-authentication' },
  data: {
    'client-ca-file': place.clientCaPem,
    'requestheader-allowed-names': JSON.stringify(place.frontProxyNames),
    'requestheader-client-ca-file': place.frontProxyCaPem,
    'requestheader-extra-headers-prefix': '["X-Remote-Extra-"]',
    'requestheader-group-headers': '["X-Remote-Group"]',
    'requestheader-uid-headers': '["X-Remote-Uid"]',
    'requestheader-username-headers': '["X-Remote-User"]',
  },
});

/** Everything but metadata becomes as wanted; metadata stays the users'. */
async function createOrUpdate(
  context: BootstrapContext,
  group: string,
  resource: string,
  wanted: KubeObject,
): Promise<void> {
  const kind = kindOf(context, group, 'v1', resource);
  const { namespace, name = '' } = wanted.metadata;
  const stored = context.reader.get(group, resource, { namespace, name });
  if (!stored) return createIfAbsent(context, kind, wanted);
  const { metadata: _, ...content } = wanted;
  const present = Object.fromEntries(Object.keys(content).map((key) => [key, stored[key]]));
  if (equalJson(present, content)) return;
  try {
    await context.resources.update(
      kind,
      { ...structuredClone(stored), ...content },
      writeAsServer(context),
    );
  } catch (error) {
    if (!isStatusError(error, 'Conflict')) throw error;
    context.log.warn('somebody else has just written it', { resource, name });
  }
}
