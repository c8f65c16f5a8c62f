import type { Pod } from '#api/types.ts';
import type { AdmissionRequest } from '#apiserver/admission-rule.ts';

/** What several admission rules ask about pods. */
export const PODS = { group: '', resource: 'pods' } as const;

/** A write of a pod itself, not of one of its subresources. */
export const isPod = ({ kind, subresource, object }: AdmissionRequest): boolean =>
  kind.plural === 'pods' && kind.group === '' && subresource === '' && object !== null;

/** The API's picture of a pod that a node runs from a file. */
export const isMirrorPod = (pod: Pod): boolean =>
  pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined;
