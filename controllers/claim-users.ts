import type { Pod, Volume } from '#api/types.ts';

/** Which pods use a claim. */

export const CLAIM_INDEX = 'claim';

/** The claim behind a pod's volume; '' when there is none. */
export function claimNameOf(pod: Pod, volume: Volume): string {
  if (volume.persistentVolumeClaim) return volume.persistentVolumeClaim.claimName;
  return volume.ephemeral ? `${pod.metadata.name}-${volume.name}` : '';
}

/** Index values: `namespace/name` of each claim that the pod uses. */
export function claimIndex(pod: Pod): string[] {
  const names = (pod.spec.volumes ?? []).map((volume) => claimNameOf(pod, volume));
  return [...new Set(names)]
    .filter((name) => name !== '')
    .map((name) => `${pod.metadata.namespace}/${name}`);
}
