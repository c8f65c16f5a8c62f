import { isDeepStrictEqual } from 'node:util';
import type { Kind } from '#api/kind.ts';
import { builtinKinds } from '#api/kinds.ts';
import { addQuantity, formatQuantity, parseQuantity, type Quantity } from '#api/quantity.ts';
import { COUNTED_BY_NAME, isCounted, usageOf } from '#api/quota-usage.ts';
import type { KubeObject, Pod, ResourceQuota } from '#api/types.ts';
import type { Resource } from '#client/api.ts';
import { cacheOf, keyText, type Plan, runController } from '#client/controller.ts';
import { discover } from '#client/discovery.ts';
import type { Informer } from '#client/informer.ts';
import { resourceQuotas } from '#client/resources.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';
import { isTerminal } from '#controllers/pods.ts';

/** Everything is counted again so often, whatever happened. Source: --resource-quota-sync-period. */
const RESYNC_MS = 300_000;
/** Creations are charged by admission; this much later the cache has them too. */
const SETTLE_MS = 1000;
const ZERO = parseQuantity('0');

/** The identity by which usage is computed. */
type Counted = Pick<Kind, 'group' | 'plural'>;

export type QuotaWorld = {
  quota: ResourceQuota;
  /** All objects of the namespace that the quota's names may be about, by kind. */
  objects: readonly { kind: Counted; objects: readonly KubeObject[] }[];
};

/** Which kinds a quota's names are about: `count/deployments.apps`, `requests.cpu`, `services`. */
export function kindsOf(hard: Readonly<Record<string, string>>): Counted[] {
  const kinds = new Map<string, Counted>();
  for (const name of Object.keys(hard)) {
    const kind = kindOf(name);
    kinds.set(`${kind.plural}.${kind.group}`, kind);
  }
  return [...kinds.values()];
}

function kindOf(name: string): Counted {
  if (name.startsWith('count/')) {
    const [plural = '', ...group] = name.slice('count/'.length).split('.');
    return { plural, group: group.join('.') };
  }
  const core = (plural: string): Counted => ({ plural, group: '' });
  if (COUNTED_BY_NAME.has(name)) return core(name);
  if (name.startsWith('services.')) return core('services');
  if (name === 'requests.storage' || name.includes('.storageclass.storage.k8s.io/')) {
    return core('persistentvolumeclaims');
  }
  return core('pods');
}

/** Counts what is there. Pure. Source: "Resource Quotas". */
export function planQuota({ quota, objects }: QuotaWorld, now: number): Plan {
  const hard = quota.spec?.hard ?? {};
  const sums = new Map<string, Quantity>(Object.keys(hard).map((name) => [name, ZERO]));
  for (const { kind, objects: list } of objects) {
    for (const object of list) {
      if (!isCounted(quota, kind as Kind, object) || isLost(kind, object, now)) continue;
      for (const [name, amount] of usageOf(kind as Kind, object)) {
        const sum = sums.get(name);
        if (sum) sums.set(name, addQuantity(sum, amount));
      }
    }
  }
  const used = Object.fromEntries([...sums].map(([name, sum]) => [name, formatQuantity(sum)]));
  const status = { ...quota.status, hard, used };
  const requeueAfterMs = RESYNC_MS;
  if (quota.metadata.deletionTimestamp) return { actions: [] };
  if (isDeepStrictEqual(status, quota.status ?? {})) return { actions: [], requeueAfterMs };
  const object = { ...quota, status };
  return { actions: [{ type: 'updateStatus', resource: resourceQuotas, object }], requeueAfterMs };
}

/** A pod long past its grace period is on a node that is gone: it is not worth blocking others. */
function isLost(kind: Counted, object: KubeObject, now: number): boolean {
  const { deletionTimestamp, deletionGracePeriodSeconds: grace } = object.metadata;
  if (kind.plural !== 'pods' || kind.group !== '') return false;
  if (!deletionTimestamp || grace === undefined) return false;
  return now > Date.parse(deletionTimestamp) + grace * 1000;
}

/** Keeps what quotas say is used in step with what there is. */
export const resourceQuotaController: ControllerDefinition = {
  name: 'resourcequota-controller',
  async run(setup) {
    const cache = setup.informers.of(resourceQuotas);
    const counters = new Counters(setup, (namespace, afterMs, add) => {
      for (const quota of cache.list(namespace)) add(keyText(quota), afterMs);
    });
    await runController<QuotaWorld>(
      {
        name: 'resourcequota-controller',
        caches: [cacheOf(resourceQuotas, cache)],
        triggers(add) {
          counters.listen(add);
          cache.onChange(({ object }) => {
            // A charge by admission is ahead of our caches.
            const isNew = !isDeepStrictEqual(object.spec?.hard ?? {}, object.status?.hard ?? {});
            add(keyText(object), isNew ? 0 : SETTLE_MS);
          });
        },
        async observe(key) {
          const quota = cache.get(key);
          if (!quota) return undefined;
          const kinds = kindsOf(quota.spec?.hard ?? {});
          const found = await Promise.all(kinds.map((kind) => counters.of(kind)));
          const objects = kinds.map((kind, index) => ({
            kind,
            objects: found[index]?.list(key.namespace ?? '') ?? [],
          }));
          return { quota: cache.get(key) ?? quota, objects };
        },
        plan: planQuota,
      },
      { ...setup, recorder: setup.recorderOf('resourcequota-controller') },
    );
  },
};

type Add = (key: string, afterMs?: number) => void;
type Notify = (namespace: string, afterMs: number, add: Add) => void;

/** Kinds whose usage lies in more than their number; of the others, metadata is enough. */
const WHOLE = new Set(['pods', 'services', 'persistentvolumeclaims']);

/** Informers of whatever quotas name, started when one does. */
class Counters {
  readonly #setup: ControllerSetup;
  readonly #notify: Notify;
  readonly #known = new Map<string, Informer>();
  #add: Add | undefined;

  constructor(setup: ControllerSetup, notify: Notify) {
    this.#setup = setup;
    this.#notify = notify;
  }

  listen(add: Add): void {
    this.#add = add;
  }

  /** Undefined when the server knows no such kind. */
  async of(kind: Counted): Promise<Informer | undefined> {
    const name = `${kind.plural}.${kind.group}`;
    let informer = this.#known.get(name);
    if (!informer) {
      const resource = await this.#find(kind);
      if (!resource) return undefined;
      const { informers } = this.#setup;
      const isWhole = kind.group === '' && WHOLE.has(kind.plural);
      informer =
        informers.existing(resource) ??
        informers.of(resource, isWhole ? {} : { metadataOnly: true });
      if (!this.#known.has(name)) {
        this.#known.set(name, informer);
        this.#follow(informer);
      }
    }
    await informer.synced();
    return informer;
  }

  async #find({ group, plural }: Counted): Promise<Resource | undefined> {
    const builtin = builtinKinds.find((kind) => kind.group === group && kind.plural === plural);
    if (builtin) {
      const { version, kind, scope } = builtin;
      return { group, version, resource: plural, kind, namespaced: scope === 'Namespaced' };
    }
    const { resources } = await discover(this.#setup.api, { signal: this.#setup.signal });
    return resources.find((one) => one.group === group && one.resource === plural);
  }

  #follow(informer: Informer): void {
    informer.onChange((change) => {
      if (!this.#add) return;
      const { namespace = '' } = change.object.metadata;
      const isFreed = change.type === 'deleted' || hasEnded(change.object);
      if (change.type === 'updated' && !mayCost(change.old, change.object)) return;
      this.#notify(namespace, isFreed ? 0 : SETTLE_MS, this.#add);
    });
  }
}

const hasEnded = (object: KubeObject): boolean =>
  object.kind === 'Pod' && isTerminal(object as Pod);

/** Status changes of anything but pods, which end, cost nothing. */
function mayCost(before: KubeObject, after: KubeObject): boolean {
  if (after.kind === 'Pod' && hasEnded(before) !== hasEnded(after)) return true;
  return !isDeepStrictEqual(before['spec'], after['spec']);
}
