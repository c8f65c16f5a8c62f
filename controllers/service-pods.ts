import { matchesLabels } from '#api/labels.ts';
import type { Pod, Service, ServicePort } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { pods, services } from '#client/resources.ts';
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
  return Object.keys(selector ?? {}).length > 0 && type !== 'ExternalName';
}

const LABEL_INDEX = 'label';
const SELECTOR_INDEX = 'selector';

const labelPairs = (namespace = '', labels: Readonly<Record<string, string>> = {}): string[] =>
  Object.entries(labels).map(([key, value]) => `${namespace}/${key}=${value}`);

/** Index values: every label of a pod, in its namespace. */
const labelIndex = ({ metadata }: Pod): string[] => labelPairs(metadata.namespace, metadata.labels);

/** Index values: one of the labels that a service selects by; a pod it selects has that, too. */
const selectorIndex = (service: Service): string[] =>
  selectsPods(service)
    ? labelPairs(service.metadata.namespace, service.spec?.selector).slice(0, 1)
    : [];

export type ServicePodCaches = { podCache: Informer<Pod>; serviceCache: Informer<Service> };

/**
 * Pods and services that are found by one another's labels: to look through a namespace for each
 * would cost pods times services.
 */
export const servicePodCaches = (informers: Informers): ServicePodCaches => ({
  podCache: informers.of(pods, { indexes: { [LABEL_INDEX]: labelIndex } }),
  serviceCache: informers.of(services, { indexes: { [SELECTOR_INDEX]: selectorIndex } }),
});

export function selectedPods(service: Service, { podCache }: ServicePodCaches): Pod[] {
  const matchLabels = service.spec?.selector ?? {};
  const pairs = labelPairs(service.metadata.namespace, matchLabels);
  const byPair = pairs.map((pair) => podCache.byIndex(LABEL_INDEX, pair));
  const fewest = byPair.reduce((least, some) => (some.length < least.length ? some : least));
  return fewest.filter((pod) => matchesLabels({ matchLabels }, pod.metadata.labels ?? {}));
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
  { podCache, serviceCache }: ServicePodCaches,
  add: (key: string) => void,
): void {
  podCache.onChange((change) => {
    if (change.type === 'updated' && fingerprint(change.old) === fingerprint(change.object)) return;
    addServicesOf(change.object);
    if (change.type === 'updated') addServicesOf(change.old);
  });
  function addServicesOf(pod: Pod): void {
    for (const pair of labelIndex(pod)) {
      for (const service of serviceCache.byIndex(SELECTOR_INDEX, pair)) {
        const matchLabels = service.spec?.selector ?? {};
        if (!matchesLabels({ matchLabels }, pod.metadata.labels)) continue;
        add(`${service.metadata.namespace}/${service.metadata.name}`);
      }
    }
  }
}
