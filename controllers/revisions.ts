import { isDeepStrictEqual } from 'node:util';
import type {
  ControllerRevision,
  KubeObject,
  LabelSelector,
  Pod,
  PodTemplateSpec,
} from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { controllerRevisions } from '#client/resources.ts';
import { templateHash } from '#controllers/deployment-revisions.ts';
import { controllerReference } from '#controllers/ownership.ts';

/** The history of a StatefulSet's or DaemonSet's template, kept as ControllerRevisions. Pure. */

/** On pods: which revision they were made of. */
export const REVISION_LABEL = 'controller-revision-hash';

type Owner = KubeObject & {
  spec?: { template: PodTemplateSpec; selector: LabelSelector; revisionHistoryLimit?: number };
};

export type HistoryOptions = {
  owner: Owner;
  /** Those it manages. */
  revisions: readonly ControllerRevision[];
  /** Whoever holds a name, to tell a hash collision. */
  named: (name: string) => ControllerRevision | undefined;
  /** Label of a revision that carries its hash. */
  hashLabel: string;
  collisionCount: number;
};

export type History = {
  /** The revision of the template as it stands; yet to be made or renumbered if `actions` say so. */
  update: ControllerRevision;
  /** All that are managed, oldest number first; without one that is yet to be made. */
  sorted: readonly ControllerRevision[];
  collisionCount: number;
  actions: Action[];
};

/**
 * What a revision keeps: a patch that puts the template back. Members stand in the order of their
 * names, as upstream writes them: clients tell the current revision by its bytes.
 */
const dataOf = (template: PodTemplateSpec): { spec: { template: unknown } } => ({
  spec: { template: byName({ ...template, $patch: 'replace' }) },
});

function byName(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(byName);
  if (typeof value !== 'object' || value === null) return value;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(members.map(([name, member]) => [name, byName(member)]));
}

/** The template that a revision keeps; undefined when it holds something else. */
export function templateOf(revision: ControllerRevision): PodTemplateSpec | undefined {
  const data = revision.data as { spec?: { template?: Record<string, unknown> } } | undefined;
  if (!data?.spec?.template) return undefined;
  const { $patch: _, ...template } = data.spec.template;
  return template as PodTemplateSpec;
}

/**
 * Finds the revision of the current template; one that was current before is brought to the top of
 * the history again. Source: upstream's history of StatefulSets.
 */
export function historyOf(options: HistoryOptions): History {
  const { owner, revisions } = options;
  const data = dataOf(owner.spec?.template ?? {});
  const sorted = revisions.toSorted(olderRevisionFirst);
  const top = sorted.at(-1)?.revision ?? 0;
  const same = sorted.filter((one) => isDeepStrictEqual(plain(one.data), plain(data))).at(-1);
  const { collisionCount } = options;
  if (!same) {
    const made = newRevision(options, data, top + 1);
    return { ...made, sorted };
  }
  if (same.revision >= top) return { update: same, sorted, collisionCount, actions: [] };
  const update = { ...same, revision: top + 1 };
  const action: Action = { type: 'update', resource: controllerRevisions, object: update };
  return { update, sorted, collisionCount, actions: [action] };
}

/** As it would come back from the wire: without undefined fields. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null)) as unknown;

function olderRevisionFirst(a: ControllerRevision, b: ControllerRevision): number {
  const born = (one: ControllerRevision): number =>
    Date.parse(one.metadata.creationTimestamp ?? '') || 0;
  const name = (one: ControllerRevision): string => one.metadata.name ?? '';
  return a.revision - b.revision || born(a) - born(b) || (name(a) < name(b) ? -1 : 1);
}

function newRevision(
  options: HistoryOptions,
  data: { spec: { template: unknown } },
  revision: number,
): Omit<History, 'sorted'> {
  const { owner, named, hashLabel } = options;
  const template = owner.spec?.template ?? {};
  let { collisionCount } = options;
  for (;;) {
    const hash = templateHash(template, collisionCount);
    const name = `${owner.metadata.name}-${hash}`;
    const holder = named(name);
    if (holder && !isDeepStrictEqual(plain(holder.data), plain(data))) {
      collisionCount += 1;
      continue;
    }
    const labels = { ...template.metadata?.labels, [hashLabel]: hash };
    const update: ControllerRevision = {
      apiVersion: 'apps/v1',
      kind: 'ControllerRevision',
      metadata: {
        name,
        namespace: owner.metadata.namespace ?? '',
        labels,
        annotations: { ...owner.metadata.annotations },
        ownerReferences: [controllerReference(owner)],
      },
      data,
      revision,
    };
    if (holder) return { update: holder, collisionCount, actions: [] };
    const action: Action = { type: 'create', resource: controllerRevisions, object: update };
    return { update, collisionCount, actions: [action] };
  }
}

/** Deletes the oldest revisions above the limit that no pod and no status needs. */
export function trimHistory(
  owner: Owner,
  sorted: readonly ControllerRevision[],
  inUse: (revision: ControllerRevision) => boolean,
): Action[] {
  const unused = sorted.filter((revision) => !inUse(revision));
  const surplus = Math.max(0, unused.length - (owner.spec?.revisionHistoryLimit ?? 10));
  return unused.slice(0, surplus).map((revision) => deleteRevision(revision));
}

export function deleteRevision(revision: ControllerRevision): Action {
  const { namespace, name = '', uid = '' } = revision.metadata;
  return { type: 'delete', resource: controllerRevisions, key: { namespace, name }, uid };
}

export const revisionLabelOf = (pod: Pod): string => pod.metadata.labels?.[REVISION_LABEL] ?? '';
