import type { Pod } from '#api/types.ts';
import { claimNameOf } from '#api/volume-match.ts';

/** Which pods use a claim. */

export const CLAIM_INDEX = 'claim';

/** Index values: `namespace/name` of each claim that the pod uses. */
export function claimIndex(pod: Pod): string[] {
  const names = (pod.spec.volumes ?? []).map((volume) => claimNameOf(pod, volume));
  return [...new Set(names)]
    .filter((name) => name !== '')
    .map((name) => `${pod.metadata.namespace}/${name}`);
}
