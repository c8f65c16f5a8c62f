import type { KubeObject } from '#api/types.ts';

/**
 * Name of the newest class that says it is the default one; equal ages go by name. Admission and
 * controllers agree on it. Source: Kubernetes "Storage Classes", "Ingress", default classes.
 */
export function newestDefault(
  classes: readonly KubeObject[],
  annotation: string,
): string | undefined {
  const age = (one: KubeObject): number => Date.parse(one.metadata.creationTimestamp ?? '');
  const name = (one: KubeObject): string => one.metadata.name ?? '';
  const defaults = classes.filter((one) => one.metadata.annotations?.[annotation] === 'true');
  defaults.sort((a, b) => age(b) - age(a) || (name(a) < name(b) ? -1 : 1));
  return defaults[0]?.metadata.name;
}
