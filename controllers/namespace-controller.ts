import { errorText } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject, Namespace } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { cacheOf, keyText, runController } from '#client/controller.ts';
import { type DiscoveredResource, discover } from '#client/discovery.ts';
import { namespaces, pods } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import {
  type NamespaceSurvey,
  planNamespace,
  type Remaining,
} from '#controllers/namespace-plan.ts';

/** Lists asked at the same time while a namespace is surveyed. */
const MAX_LISTS_IN_FLIGHT = 8;
/** Objects seen of one resource per survey; the rest is seen by the next. */
const LIST_LIMIT = 500;

/** Empties and finalizes namespaces that are being deleted. */
export const namespaceController: ControllerDefinition = {
  name: 'namespace-controller',
  async run(setup) {
    const { api, informers, signal } = setup;
    const namespaceCache = informers.of(namespaces);
    const podCache = informers.of(pods);
    const isTerminating = (namespace: Namespace | undefined): namespace is Namespace =>
      namespace?.metadata.deletionTimestamp !== undefined &&
      (namespace.spec?.finalizers ?? []).includes('kubernetes');
    await runController(
      {
        name: 'namespace-controller',
        workers: 4,
        caches: [cacheOf(namespaces, namespaceCache)],
        triggers(add) {
          namespaceCache.onChange(({ object, type }) => {
            if (type !== 'deleted' && isTerminating(object)) add(keyText(object));
          });
          // The agent's last word on a pod is what a terminating namespace waits for most.
          podCache.onChange(({ object, type }) => {
            const name = object.metadata.namespace ?? '';
            if (type === 'deleted' && isTerminating(namespaceCache.get({ name }))) add(name);
          });
        },
        async observe(key) {
          const namespace = namespaceCache.get(key);
          return isTerminating(namespace) ? survey(api, namespace, signal) : undefined;
        },
        plan: planNamespace,
      },
      { ...setup, recorder: setup.recorderOf('namespace-controller') },
    );
  },
};

/** Looks, live, at what is left: pods first, everything else only when they are gone. */
async function survey(
  api: Api,
  namespace: Namespace,
  signal: AbortSignal,
): Promise<NamespaceSurvey> {
  const { resources, failures } = await discover(api, { signal });
  const listFailures: string[] = [];
  const candidates = resources.filter(
    ({ namespaced, verbs }) => namespaced && verbs.includes('list') && verbs.includes('delete'),
  );
  const list = async (resource: DiscoveredResource): Promise<Remaining> => ({
    resource,
    deleteCollection: resource.verbs.includes('deletecollection'),
    objects: await remainingOf(api, resource, namespace, { listFailures, signal }),
  });
  const isPods = (resource: DiscoveredResource): boolean =>
    resource.group === '' && resource.resource === 'pods';
  const remaining = await Promise.all(candidates.filter(isPods).map(list));
  if (remaining.every(({ objects }) => objects.length === 0)) {
    const others = candidates.filter((resource) => !isPods(resource));
    for (let start = 0; start < others.length; start += MAX_LISTS_IN_FLIGHT) {
      const group = others.slice(start, start + MAX_LISTS_IN_FLIGHT);
      remaining.push(...(await Promise.all(group.map(list))));
    }
  }
  return { namespace, remaining, discoveryFailures: failures, listFailures };
}

async function remainingOf(
  api: Api,
  resource: DiscoveredResource,
  namespace: Namespace,
  { listFailures, signal }: { listFailures: string[]; signal: AbortSignal },
): Promise<readonly KubeObject[]> {
  try {
    const list = await api.list(resource, {
      namespace: namespace.metadata.name,
      metadataOnly: true,
      limit: LIST_LIMIT,
      signal,
    });
    return list.items;
  } catch (error) {
    signal.throwIfAborted();
    // Served a moment ago, gone now: a CRD that is being deleted.
    if (isStatusError(error, 'NotFound') || isStatusError(error, 'MethodNotAllowed')) return [];
    listFailures.push(`${resource.resource}.${resource.group}: ${errorText(error)}`);
    return [];
  }
}
