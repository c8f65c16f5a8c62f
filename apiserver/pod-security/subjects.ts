import type { ObjectMeta, Pod, PodSpec } from '#api/types.ts';

/** A pod, or the template that a workload makes pods of. */
export type Subject = { metadata?: ObjectMeta; spec: PodSpec };

export type Container = Pod['spec']['containers'][number];

/** All containers of a pod, in the order in which violations name them. */
export function containersOf(spec: PodSpec): Container[] {
  const ephemeral = (spec.ephemeralContainers ?? []) as unknown as Container[];
  return [...(spec.initContainers ?? []), ...spec.containers, ...ephemeral];
}

/** `container "a"` or `containers "a", "b"`. */
export const containerText = (names: readonly string[]): string =>
  `container${names.length > 1 ? 's' : ''} ${quoted(names)}`;

export const quoted = (names: readonly string[]): string =>
  names.map((name) => JSON.stringify(name)).join(', ');

/** `pod`, `container "a"`, or `pod and containers "a", "b"`. */
export function settersText(pod: boolean, names: readonly string[], word = 'and'): string {
  const parts = [...(pod ? ['pod'] : []), ...(names.length > 0 ? [containerText(names)] : [])];
  return parts.join(` ${word} `);
}

/** Names of the containers for which `wrong` holds. */
export const namesWhere = (spec: PodSpec, wrong: (container: Container) => boolean): string[] =>
  containersOf(spec)
    .filter(wrong)
    .map(({ name }) => name);
