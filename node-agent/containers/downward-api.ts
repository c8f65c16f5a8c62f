import { amountsOf, type Amounts } from '#api/pod-resources.ts';
import { parseQuantity } from '#api/quantity.ts';
import type { Container, Pod } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';

/** What of a pod and its node the downward API can show. `allocatable` as in `amountsOf`. */
export type DownwardSource = {
  pod: Pod;
  podIps: readonly string[];
  hostIps: readonly string[];
  nodeName: string;
  allocatable: Amounts;
};

/**
 * The text of a fieldRef path. Throws ConfigError for a path that does not exist.
 * Source: Kubernetes documentation, "Downward API".
 */
export function fieldText(source: DownwardSource, path: string): string {
  const { pod } = source;
  const subscript = /^metadata\.(labels|annotations)\['(.+)'\]$/.exec(path);
  if (subscript) {
    const map = subscript[1] === 'labels' ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[subscript[2] ?? ''] ?? '';
  }
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name ?? '';
    case 'metadata.namespace':
      return pod.metadata.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata.uid ?? '';
    case 'metadata.labels':
      return mapText(pod.metadata.labels);
    case 'metadata.annotations':
      return mapText(pod.metadata.annotations);
    case 'spec.nodeName':
      return source.nodeName;
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? '';
    case 'status.podIP':
      return source.podIps[0] ?? '';
    case 'status.podIPs':
      return source.podIps.join(',');
    case 'status.hostIP':
      return source.hostIps[0] ?? '';
    case 'status.hostIPs':
      return source.hostIps.join(',');
    default:
      throw new ConfigError(`unsupported fieldPath: ${path}`);
  }
}

/** `key="value"` lines, sorted, values quoted as Go quotes them. */
function mapText(map: Readonly<Record<string, string>> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

export type ResourceFieldRef = { resource: string; divisor?: string; containerName?: string };

/**
 * The text of a resourceFieldRef: limits fall back to what the node can give. Rounded up to whole
 * multiples of the divisor (1 by default).
 */
export function resourceText(
  source: DownwardSource,
  container: Container,
  ref: ResourceFieldRef,
): string {
  const [what = '', ...rest] = ref.resource.split('.');
  const name = rest.join('.');
  if ((what !== 'limits' && what !== 'requests') || name === '')
    throw new ConfigError(`unsupported container resource: ${ref.resource}`);
  const limits = amountsOf(container.resources?.limits);
  const own =
    what === 'limits'
      ? limits.get(name)
      : (amountsOf(container.resources?.requests).get(name) ?? limits.get(name));
  const amount = own ?? (what === 'limits' ? source.allocatable.get(name) : undefined) ?? 0;
  // Amounts of cpu are thousandths, hence the divisor too.
  const divisor =
    Number(parseQuantity(divisorText(ref.divisor)).nano) / (name === 'cpu' ? 1e6 : 1e9);
  return String(Math.ceil(amount / divisor));
}

const divisorText = (divisor: string | undefined): string =>
  divisor === undefined || divisor === '' || divisor === '0' ? '1' : divisor;
