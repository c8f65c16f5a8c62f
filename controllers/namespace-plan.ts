import { formatTime } from '#api/time.ts';
import type { KubeObject, Namespace } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import type { Resource } from '#client/api.ts';
import type { Plan } from '#client/controller.ts';
import { namespaces } from '#client/resources.ts';

/** What is left of one resource in a namespace that goes away (metadata only). */
export type Remaining = {
  resource: Resource;
  /** Whether the server deletes the whole collection in one call. */
  deleteCollection: boolean;
  objects: readonly KubeObject[];
};

export type NamespaceSurvey = {
  namespace: Namespace;
  remaining: readonly Remaining[];
  /** Groups that could not be asked what they serve. */
  discoveryFailures: readonly string[];
  /** Resources that could not be listed. */
  listFailures: readonly string[];
};

type Condition = {
  type: string;
  status: 'True' | 'False';
  reason: string;
  message: string;
  lastTransitionTime?: string;
};

/** Nothing tells us that a foreign finalizer is done, so look again after so long. */
const LOOK_AGAIN_MS = 2_000;
/** What we have just deleted is mostly gone at once. */
const LOOK_SOON_MS = 50;
const FINALIZER = 'kubernetes';

/**
 * Empties a terminating namespace, pods before everything else, and lets it go when it is empty.
 * Source: Namespaces, "ordered namespace deletion"; conditions and reasons as upstream's.
 */
export function planNamespace(survey: NamespaceSurvey, now: number): Plan {
  const { namespace, remaining, discoveryFailures, listFailures } = survey;
  const left = remaining.filter((one) => one.objects.length > 0);
  const pods = left.filter((one) => one.resource.group === '' && one.resource.resource === 'pods');
  const actions: Action[] = (pods.length > 0 ? pods : left).flatMap((one) =>
    deletions(one, survey),
  );
  const deletes = actions.length > 0;
  const isEmpty = left.length === 0 && discoveryFailures.length === 0 && listFailures.length === 0;
  const status = statusOf(survey, now);
  if (isEmpty) {
    const finalizers = (namespace.spec?.finalizers ?? []).filter((name) => name !== FINALIZER);
    const object = { ...namespace, spec: { ...namespace.spec, finalizers } };
    actions.push({ type: 'update', resource: namespaces, object, subresource: 'finalize' });
  } else if (status) {
    actions.push({ type: 'updateStatus', resource: namespaces, object: { ...namespace, status } });
  }
  if (isEmpty) return { actions };
  return { actions, requeueAfterMs: deletes ? LOOK_SOON_MS : LOOK_AGAIN_MS };
}

/** Only what is not already on its way out is asked to go. */
function deletions(one: Remaining, survey: NamespaceSurvey): Action[] {
  const namespace = survey.namespace.metadata.name ?? '';
  const staying = one.objects.filter((object) => !object.metadata.deletionTimestamp);
  if (staying.length === 0) return [];
  if (one.deleteCollection)
    return [{ type: 'deleteCollection', resource: one.resource, namespace }];
  const actions = staying.map(
    (object): Action => ({
      type: 'delete',
      resource: one.resource,
      key: { namespace, name: object.metadata.name ?? '' },
    }),
  );
  return [{ type: 'together', actions }];
}

/** The new status, or undefined when the conditions already say all this. */
function statusOf(survey: NamespaceSurvey, now: number): Namespace['status'] | undefined {
  const old = (survey.namespace.status?.conditions ?? []) as Condition[];
  const wanted = conditionsOf(survey);
  const conditions = wanted.map((condition) => {
    const before = old.find((one) => one.type === condition.type);
    const kept = before?.status === condition.status ? before.lastTransitionTime : undefined;
    return { ...condition, lastTransitionTime: kept ?? formatTime(now) };
  });
  const others = old.filter((one) => !wanted.some((condition) => condition.type === one.type));
  const isSame = conditions.every((condition) => {
    const before = old.find((one) => one.type === condition.type);
    return before?.status === condition.status && before.message === condition.message;
  });
  if (isSame) return undefined;
  return { phase: 'Terminating', conditions: [...others, ...conditions] };
}

function conditionsOf(survey: NamespaceSurvey): Condition[] {
  const { remaining, discoveryFailures, listFailures } = survey;
  const content = remaining
    .filter((one) => one.objects.length > 0)
    .map(
      ({ resource, objects }) =>
        `${resource.resource}.${resource.group} has ${objects.length} resource instances`,
    )
    .sort();
  const finalizers = finalizerCounts(remaining);
  return [
    choose(
      'NamespaceDeletionDiscoveryFailure',
      discoveryFailures.length === 0
        ? ['ResourcesDiscovered', 'All resources successfully discovered']
        : [
            'DiscoveryFailed',
            `Discovery failed for some groups, ${discoveryFailures.length} failing: ${discoveryFailures.join('; ')}`,
          ],
      discoveryFailures.length > 0,
    ),
    choose(
      'NamespaceDeletionGroupVersionParsingFailure',
      ['ParsedGroupVersions', 'All legacy kube types successfully parsed'],
      false,
    ),
    choose(
      'NamespaceDeletionContentFailure',
      listFailures.length === 0
        ? ['ContentDeleted', 'All content successfully deleted, may be waiting on finalization']
        : [
            'ContentDeletionFailed',
            `Failed to delete all resource types, ${listFailures.length} remaining: ${listFailures.join('; ')}`,
          ],
      listFailures.length > 0,
    ),
    choose(
      'NamespaceContentRemaining',
      content.length === 0
        ? ['ContentRemoved', 'All content successfully removed']
        : ['SomeResourcesRemain', `Some resources are remaining: ${content.join(', ')}`],
      content.length > 0,
    ),
    choose(
      'NamespaceFinalizersRemaining',
      finalizers.length === 0
        ? ['ContentHasNoFinalizers', 'All content-preserving finalizers finished']
        : [
            'SomeFinalizersRemain',
            `Some content in the namespace has finalizers remaining: ${finalizers.join(', ')}`,
          ],
      finalizers.length > 0,
    ),
  ];
}

function choose(type: string, [reason, message]: [string, string], isBad: boolean): Condition {
  return { type, status: isBad ? 'True' : 'False', reason, message };
}

function finalizerCounts(remaining: readonly Remaining[]): string[] {
  const counts = new Map<string, number>();
  for (const { objects } of remaining) {
    for (const object of objects) {
      for (const name of object.metadata.finalizers ?? []) {
        counts.set(name, (counts.get(name) ?? 0) + 1);
      }
    }
  }
  return [...counts].map(([name, count]) => `${name} in ${count} resource instances`).sort();
}
