import type { Kind, Subresource } from '#api/kind.ts';
import { formatLabelSelector } from '#api/meta/selector-text.ts';
import type { KubeObject, LabelSelector } from '#api/types.ts';

/** The plain status subresource: a write to it changes status and metadata only. */
export const STATUS: Subresource = { type: 'status' };

type Prepared = Required<Pick<Kind, 'prepareForCreate' | 'prepareForUpdate'>>;

/**
 * Status belongs to controllers: users' creates start with `empty`, and their updates keep what is
 * stored. Spread into a kind.
 */
export function ownedStatus(empty: Readonly<Record<string, unknown>> = {}): Prepared {
  return {
    prepareForCreate(object) {
      object['status'] = structuredClone(empty);
    },
    prepareForUpdate: keepStatus,
  };
}

/** Puts the stored status back into an object whose write may not change it. */
export function keepStatus(object: KubeObject, old: KubeObject): void {
  if (old['status'] === undefined) delete object['status'];
  else object['status'] = old['status'];
}

/** Replica counts and the label selector as every built-in workload keeps them. */
export const SCALE: Subresource = {
  type: 'scale',
  specReplicasPath: '.spec.replicas',
  statusReplicasPath: '.status.replicas',
  selector: (object) => {
    const { selector } = (object['spec'] ?? {}) as { selector?: LabelSelector };
    return selector ? formatLabelSelector(selector).replace('<none>', '') : '';
  },
};
