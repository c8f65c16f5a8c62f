import type { Pod } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';
import { isPod } from '#apiserver/admission-pods.ts';

/** How long a pod stays on a node that is not ready or cannot be reached. */
const TOLERATION_SECONDS = 300;
const TAINTS = ['node.kubernetes.io/not-ready', 'node.kubernetes.io/unreachable'] as const;

/** Source: Kubernetes "Admission Control", DefaultTolerationSeconds. */
export const defaultTolerationSeconds: AdmissionRule = {
  name: 'DefaultTolerationSeconds',
  handles: (request) =>
    isPod(request) && (request.operation === 'CREATE' || request.operation === 'UPDATE'),
  mutate({ object }) {
    const { spec } = object as Pod;
    for (const key of TAINTS) {
      const tolerated = spec.tolerations?.some(
        (one) => (!one.key || one.key === key) && (!one.effect || one.effect === 'NoExecute'),
      );
      if (tolerated) continue;
      const toleration = {
        key,
        operator: 'Exists',
        effect: 'NoExecute',
        tolerationSeconds: TOLERATION_SECONDS,
      };
      spec.tolerations = [...(spec.tolerations ?? []), toleration];
    }
  },
};
