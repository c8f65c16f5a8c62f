import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Node } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import type { Informer } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { PROXY_HEALTH_PORT } from '#node-agent/network/proxy-health.ts';
import { startNetwork } from '#node-agent/network/start.ts';
import type { NodeAgentConfig } from '#node-agent/start.ts';

/**
 * Who makes the pod network and the rules of Services: this agent, or a CNI plugin and kube-proxy as
 * on nodes of other clusters.
 */
export type PodNetwork = 'own' | 'cni';

const accessReviews: Resource = {
  group: 'authorization.k8s.io',
  version: 'v1',
  resource: 'selfsubjectaccessreviews',
  kind: 'SelfSubjectAccessReview',
  namespaced: false,
};

/** What the rules of Services and network policies are made of. */
const NEEDED = [
  { group: 'discovery.k8s.io', resource: 'endpointslices' },
  { group: 'networking.k8s.io', resource: 'networkpolicies' },
  { group: '', resource: 'namespaces' },
];

/**
 * What the flag says, else 'own' where this node may read what it takes. A cluster of ours gives its
 * nodes that right; others give a kubelet no more than the Node authorizer does.
 */
export async function choosePodNetwork(
  { api, podNetwork }: Pick<NodeAgentConfig, 'api' | 'podNetwork'>,
  { log }: { log: Log },
): Promise<PodNetwork> {
  if (podNetwork) return podNetwork;
  try {
    for (const what of NEEDED) {
      if (await mayList(api, what)) continue;
      log.info(
        'the pod network and the rules of Services are left to a CNI plugin and kube-proxy',
        {
          because: `this node may not list ${what.resource}`,
        },
      );
      return 'cni';
    }
  } catch (error) {
    // Our own cluster right after its start, or one that is away: informers go on trying.
    log.warn('could not ask what this node may read', { error: errorText(error) });
  }
  return 'own';
}

async function mayList(api: Api, what: { group: string; resource: string }): Promise<boolean> {
  const review = await api.create(accessReviews, {
    apiVersion: 'authorization.k8s.io/v1',
    kind: 'SelfSubjectAccessReview',
    metadata: {},
    spec: { resourceAttributes: { verb: 'list', version: 'v1', ...what } },
  });
  return (review.status as { allowed?: boolean } | undefined)?.allowed === true;
}

/** Whether this node may know the others: the Node authorizer shows a kubelet its own object only. */
export async function mayListNodes(api: Api, by: PodNetwork): Promise<boolean> {
  // The network of pods is made with the other nodes' addresses.
  if (by === 'own') return true;
  return mayList(api, { group: '', resource: 'nodes' }).catch(() => false);
}

/** Where CNI plugins of other clusters put their configuration. */
const CNI_DIR = '/etc/cni/net.d';

export const cniConfDir = (
  { cniConfDir: given, rootDir }: Pick<NodeAgentConfig, 'cniConfDir' | 'rootDir'>,
  by: PodNetwork,
): string => given ?? (by === 'own' ? join(rootDir, 'cni') : CNI_DIR);

type Surroundings = { signal: AbortSignal; log: Log; clock: Clock };

/** Waits for the node's address range, then runs the network until the signal. */
export async function runNetwork(
  config: NodeAgentConfig,
  around: { informers: Informers; nodeInformer: Informer<Node> } & Surroundings,
  report: (problem: string | undefined) => void,
): Promise<void> {
  const { informers, nodeInformer, signal, log, clock } = around;
  const podCidr = config.podCidr ?? (await podCidrOf(nodeInformer, config.nodeName, signal));
  const running = await startNetwork(
    {
      informers,
      nodeName: config.nodeName,
      nodeIp: config.nodeIp.split(',')[0] ?? '',
      podCidr,
      clusterCidr: config.clusterCidr ?? '10.244.0.0/16',
      serviceCidr: config.serviceCidr ?? '10.96.0.0/16',
      clusterDnsIp: config.clusterDnsIp ?? DEFAULT_DNS_IP,
      clusterDomain: config.clusterDomain ?? DEFAULT_DOMAIN,
      cniConfDir: cniConfDir(config, 'own'),
      rootDir: config.rootDir,
      upstreamResolvConf: config.resolvConf ?? RESOLV_CONF,
      ...(config.networkName ? { name: config.networkName } : {}),
      proxyHealthPort: config.proxyHealthPort ?? PROXY_HEALTH_PORT,
    },
    { signal, log: log.child('network'), clock },
  );
  await running.ready;
  report(undefined);
  await running.done;
}

export const DEFAULT_DNS_IP = '10.96.0.10';
export const DEFAULT_DOMAIN = 'cluster.local';
export const RESOLV_CONF = '/etc/resolv.conf';

function podCidrOf(informer: Informer<Node>, name: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const stop = informer.onChange((change) => {
      const { podCIDR, podCIDRs } = change.object.spec ?? {};
      const cidr = podCIDRs?.join(',') || podCIDR;
      if (change.type === 'deleted' || change.object.metadata.name !== name || !cidr) return;
      queueMicrotask(() => stop());
      resolve(cidr);
    });
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}
