import type { Pod } from '#api/types.ts';

/**
 * Whether a pod's spec makes use of a namespaced object, so that its node's agent needs it.
 * `resource` is secrets, configmaps, serviceaccounts or persistentvolumeclaims.
 */
export function podReferences(pod: Pod, resource: string, name: string): boolean {
  switch (resource) {
    case 'serviceaccounts':
      return (pod.spec.serviceAccountName || 'default') === name;
    case 'persistentvolumeclaims':
      return claimsOf(pod).includes(name);
    case 'secrets':
      return mentions(pod, name, SECRET_KEYS);
    case 'configmaps':
      return mentions(pod, name, CONFIG_MAP_KEYS);
    default:
      return false;
  }
}

function claimsOf(pod: Pod): string[] {
  const names: string[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    if (volume.persistentVolumeClaim) names.push(volume.persistentVolumeClaim.claimName);
    if (volume.ephemeral) names.push(`${pod.metadata.name}-${volume.name}`);
  }
  return names;
}

/** Fields of a pod's spec whose value, or whose `name` or `secretName`, is the object's name. */
const SECRET_KEYS: ReadonlySet<string> = new Set([
  'secret',
  'secretRef',
  'secretKeyRef',
  'imagePullSecrets',
  'nodePublishSecretRef',
]);
const CONFIG_MAP_KEYS: ReadonlySet<string> = new Set([
  'configMap',
  'configMapRef',
  'configMapKeyRef',
]);

/** Volumes, projections, environment, volume drivers: wherever such a field stands in the spec. */
function mentions(pod: Pod, name: string, keys: ReadonlySet<string>): boolean {
  const visit = (value: unknown, key: string): boolean => {
    if (Array.isArray(value)) return value.some((item) => visit(item, key));
    if (value === null || typeof value !== 'object') return false;
    const fields = value as Record<string, unknown>;
    if (keys.has(key) && (fields['name'] === name || fields['secretName'] === name)) return true;
    return Object.entries(fields).some(([field, inner]) => visit(inner, field));
  };
  return visit(pod.spec.volumes, '') || visit(containersOf(pod), '') || visitPullSecrets();

  function visitPullSecrets(): boolean {
    return keys.has('imagePullSecrets') && visit(pod.spec.imagePullSecrets, 'imagePullSecrets');
  }
}

const containersOf = (pod: Pod): unknown[] => [
  ...(pod.spec.containers ?? []),
  ...(pod.spec.initContainers ?? []),
  ...(pod.spec.ephemeralContainers ?? []),
];
