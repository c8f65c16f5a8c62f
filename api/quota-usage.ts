import { podTotal } from '#api/pod-resources.ts';
import { qosClassOf } from '#api/core/pod-qos.ts';
import type { Kind } from '#api/kind.ts';
import { addQuantity, parseQuantity, type Quantity } from '#api/quantity.ts';
import type {
  Container,
  KubeObject,
  PersistentVolumeClaim,
  Pod,
  ResourceQuota,
  Service,
} from '#api/types.ts';

/** What objects cost of a resource quota, as pure functions. Source: "Resource Quotas". */
export type Usage = Map<string, Quantity>;

const ONE = parseQuantity('1');
/** Core resources that a quota may name without `count/`. */
export const COUNTED_BY_NAME: ReadonlySet<string> = new Set([
  'configmaps',
  'persistentvolumeclaims',
  'replicationcontrollers',
  'resourcequotas',
  'secrets',
  'services',
]);

/** Costs of one object under all the names that a quota may give them. */
export function usageOf(kind: Kind, object: KubeObject): Usage {
  const usage: Usage = new Map();
  const name = kind.group ? `${kind.plural}.${kind.group}` : kind.plural;
  usage.set(`count/${name}`, ONE);
  if (kind.group !== '') return usage;
  if (COUNTED_BY_NAME.has(kind.plural)) usage.set(kind.plural, ONE);
  switch (kind.plural) {
    case 'pods':
      addPod(usage, object as Pod);
      break;
    case 'services':
      addService(usage, object as Service);
      break;
    case 'persistentvolumeclaims':
      addClaim(usage, object as PersistentVolumeClaim & KubeObject);
      break;
    default:
  }
  return usage;
}

function addPod(usage: Usage, pod: Pod): void {
  // What has ended takes nothing any more, but the object is still there to be counted.
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return;
  usage.set('pods', ONE);
  const { spec } = pod;
  const containers = [...spec.containers, ...(spec.initContainers ?? [])];
  const names = (list: 'requests' | 'limits'): Set<string> =>
    new Set(containers.flatMap(({ resources }) => Object.keys(resources?.[list] ?? {})));
  for (const list of ['requests', 'limits'] as const) {
    for (const name of names(list)) {
      const total = podTotal(spec, name, list);
      if (!total) continue;
      const overhead = spec.overhead?.[name];
      const amount = overhead ? addQuantity(total, parseQuantity(overhead)) : total;
      usage.set(`${list}.${name}`, amount);
      if (list === 'requests' && isCompute(name)) usage.set(name, amount);
    }
  }
}

/** Compute resources may be named without `requests.`; extended ones may not. */
const isCompute = (name: string): boolean =>
  name === 'cpu' ||
  name === 'memory' ||
  name === 'ephemeral-storage' ||
  name.startsWith('hugepages-');

function addService(usage: Usage, { spec }: Service): void {
  const ports = spec?.ports?.length ?? 0;
  const count = (n: number): Quantity => parseQuantity(String(n));
  switch (spec?.type) {
    case 'NodePort':
      usage.set('services.nodeports', count(ports));
      break;
    case 'LoadBalancer': {
      const allocates = spec.allocateLoadBalancerNodePorts !== false;
      const chosen = (spec.ports ?? []).filter(({ nodePort }) => nodePort).length;
      usage.set('services.nodeports', count(allocates ? ports : chosen));
      usage.set('services.loadbalancers', ONE);
      break;
    }
    default:
  }
}

function addClaim(usage: Usage, { spec, metadata }: PersistentVolumeClaim & KubeObject): void {
  const text = spec?.resources?.requests?.['storage'];
  const storage = text === undefined ? undefined : parseQuantity(text);
  if (storage) usage.set('requests.storage', storage);
  const annotated = metadata.annotations?.['volume.beta.kubernetes.io/storage-class'];
  const storageClass = annotated ?? spec?.storageClassName;
  if (!storageClass) return;
  const prefix = `${storageClass}.storageclass.storage.k8s.io/`;
  usage.set(`${prefix}persistentvolumeclaims`, ONE);
  if (storage) usage.set(`${prefix}requests.storage`, storage);
}

type Selector = { scopeName: string; operator: string; values?: readonly string[] };

/** Whether a quota counts the object: scopes choose among pods, and fit nothing else. */
export function isCounted(quota: ResourceQuota, kind: Kind, object: KubeObject): boolean {
  const selectors: Selector[] = [
    ...(quota.spec?.scopes ?? []).map((scopeName) => ({ scopeName, operator: 'Exists' })),
    ...(quota.spec?.scopeSelector?.matchExpressions ?? []),
  ];
  if (selectors.length === 0) return true;
  if (kind.group !== '' || kind.plural !== 'pods') return false;
  return selectors.every((selector) => fitsScope(object as Pod, selector));
}

function fitsScope({ spec }: Pod, { scopeName, operator, values = [] }: Selector): boolean {
  switch (scopeName) {
    case 'Terminating':
      return spec.activeDeadlineSeconds !== undefined;
    case 'NotTerminating':
      return spec.activeDeadlineSeconds === undefined;
    case 'BestEffort':
      return qosClassOf(spec) === 'BestEffort';
    case 'NotBestEffort':
      return qosClassOf(spec) !== 'BestEffort';
    case 'PriorityClass':
      return fitsClass(spec.priorityClassName ?? '', operator, values);
    case 'CrossNamespacePodAffinity':
      return reachesOtherNamespaces(spec);
    default:
      return false;
  }
}

function fitsClass(name: string, operator: string, values: readonly string[]): boolean {
  switch (operator) {
    case 'In':
      return values.includes(name);
    case 'NotIn':
      return !values.includes(name);
    case 'DoesNotExist':
      return name === '';
    default:
      return name !== '';
  }
}

type Term = { namespaces?: readonly string[]; namespaceSelector?: unknown };

function reachesOtherNamespaces({ affinity }: Pod['spec']): boolean {
  const both = [affinity?.podAffinity, affinity?.podAntiAffinity];
  const terms = both.flatMap((one): Term[] => [
    ...(one?.requiredDuringSchedulingIgnoredDuringExecution ?? []),
    ...(one?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(
      ({ podAffinityTerm }) => podAffinityTerm,
    ),
  ]);
  return terms.some((term) => (term.namespaces?.length ?? 0) > 0 || term.namespaceSelector != null);
}

/** Compute resources that a quota bounds must be said by every container, else nothing is bounded. */
export function unsaidResources(quota: ResourceQuota, pod: Pod): string[] {
  const lines: string[] = [];
  for (const name of Object.keys(quota.status?.hard ?? {}).sort()) {
    const place = COMPUTE_NAMES[name];
    if (!place) continue;
    const [list, resource] = place;
    const silent = (container: Container): boolean =>
      container.resources?.[list]?.[resource] === undefined &&
      pod.spec.resources?.[list]?.[resource] === undefined;
    const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? [])];
    const names = all.filter(silent).map((container) => container.name);
    if (names.length > 0) lines.push(`${name} for: ${names.sort().join(',')}`);
  }
  return lines;
}

const COMPUTE_NAMES: Readonly<Record<string, readonly ['requests' | 'limits', string]>> = {
  cpu: ['requests', 'cpu'],
  memory: ['requests', 'memory'],
  'requests.cpu': ['requests', 'cpu'],
  'requests.memory': ['requests', 'memory'],
  'limits.cpu': ['limits', 'cpu'],
  'limits.memory': ['limits', 'memory'],
};
