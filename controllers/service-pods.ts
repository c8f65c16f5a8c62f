import { matchesLabels } from '#api/labels.ts';
import type { Pod, Service, ServicePort } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import { isReady, isTerminal } from '#controllers/pods.ts';

/** What both EndpointSlices and Endpoints need to know about a Service's pods. Pure. */

export type PortOfPod = {
  /** The service port's name; '' for the only one. */
  name: string;
  port: number;
  protocol: string;
  appProtocol?: string;
};

/** Services whose endpoints we keep: those that select pods. */
export function selectsPods(service: Service): boolean {
  const { selector, type } = service.spec ?? {};
  return selector !== undefined && type !== 'ExternalName';
}

export function selectedPods(service: Service, pods: Informer<Pod>): Pod[] {
  const matchLabels = service.spec?.selector ?? {};
  return pods
    .list(service.metadata.namespace ?? '')
    .filter((pod) => matchesLabels({ matchLabels }, pod.metadata.labels ?? {}));
}

export const isHeadless = (service: Service): boolean =>
  (service.spec?.clusterIP ?? '') === '' || service.spec?.clusterIP === 'None';

export type IpFamily = 'IPv4' | 'IPv6';

export const familyOf = (ip: string): IpFamily => (ip.includes(':') ? 'IPv6' : 'IPv4');

export function familiesOf(service: Service): IpFamily[] {
  const families = service.spec?.ipFamilies ?? [];
  return families.length > 0 ? (families as IpFamily[]) : ['IPv4'];
}

/** The pod's address of a family, if it has one. */
export function addressOf(pod: Pod, family: IpFamily): string | undefined {
  const addresses = [...(pod.status?.podIPs ?? []), { ip: pod.status?.podIP ?? '' }];
  return addresses.find(({ ip }) => ip !== '' && familyOf(ip) === family)?.ip;
}

/** Pods that have ended serve nobody. */
export const mayServe = (pod: Pod): boolean => !isTerminal(pod) && Boolean(pod.status?.podIP);

/** The service's ports as this pod serves them; a named port that it lacks is left out. */
export function portsOf(service: Service, pod: Pod): PortOfPod[] {
  return (service.spec?.ports ?? []).flatMap((wanted) => {
    const port = resolvePort(wanted, pod);
    if (port === undefined) return [];
    const { name = '', protocol = 'TCP', appProtocol } = wanted;
    return [{ name, port, protocol, ...(appProtocol ? { appProtocol } : {}) }];
  });
}

function resolvePort(wanted: ServicePort, pod: Pod): number | undefined {
  const target = wanted.targetPort as string | number | undefined;
  if (target === undefined || target === 0 || target === '') return wanted.port;
  if (typeof target === 'number') return target;
  const protocol = wanted.protocol ?? 'TCP';
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  for (const container of [...pod.spec.containers, ...sidecars]) {
    for (const port of container.ports ?? []) {
      if (port.name === target && (port.protocol ?? 'TCP') === protocol) return port.containerPort;
    }
  }
  return undefined;
}

/** A pod's DNS name within a headless service. */
export function hostnameIn(service: Service, pod: Pod): string | undefined {
  const { hostname, subdomain } = pod.spec;
  return hostname && subdomain === service.metadata.name ? hostname : undefined;
}

/** Everything about a pod that its services' endpoints show; other changes do not matter. */
function fingerprint(pod: Pod): string {
  const { labels, deletionTimestamp } = pod.metadata;
  const { nodeName, hostname, subdomain } = pod.spec;
  const { podIP, podIPs } = pod.status ?? {};
  return JSON.stringify([
    labels,
    deletionTimestamp !== undefined,
    nodeName,
    hostname,
    subdomain,
    podIP,
    podIPs,
    isReady(pod),
    isTerminal(pod),
  ]);
}

/** Adds the keys of the services that a changed pod belongs or belonged to. */
export function onServicePods(
  pods: Informer<Pod>,
  services: Informer<Service>,
  add: (key: string) => void,
): void {
  pods.onChange((change) => {
    if (change.type === 'updated' && fingerprint(change.old) === fingerprint(change.object)) return;
    const now = change.object.metadata.labels ?? {};
    const before = change.type === 'updated' ? (change.old.metadata.labels ?? {}) : now;
    const { namespace = '' } = change.object.metadata;
    for (const service of services.list(namespace)) {
      if (!selectsPods(service)) continue;
      const matchLabels = service.spec?.selector ?? {};
      if (matchesLabels({ matchLabels }, now) || matchesLabels({ matchLabels }, before)) {
        add(`${namespace}/${service.metadata.name}`);
      }
    }
  });
}
