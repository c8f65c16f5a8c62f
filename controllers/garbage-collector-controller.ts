import { backoffMs } from '#base/backoff.ts';
import { errorText, type Log } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject, OwnerReference } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { runController } from '#client/controller.ts';
import { type DiscoveredResource, discover } from '#client/discovery.ts';
import type { Informer } from '#client/informer.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';
import { GarbageGraph, type Item, waitsForDependents } from '#controllers/garbage-graph.ts';
import { type GarbageWorld, type OwnerState, planGarbage } from '#controllers/garbage-plan.ts';

/** Caches of different kinds do not move together; a missing owner may be about to appear. */
const SETTLE_MS = 250;
/** New kinds are looked for after one CRD or APIService changed, and now and then besides. */
const REDISCOVER_SOON_MS = 1000;
const REDISCOVER_MS = 300_000;
const DISCOVERY_BACKOFF = { initialMs: 500, maxMs: 30_000 };
const MAX_SYNC_MS = 30_000;
/** Owners known to be gone: uids never come back. */
const MAX_ABSENT = 1000;
const REDISCOVERY_KEY = '*discovery';
const TELLS_NEW_KINDS = new Set(['customresourcedefinitions', 'apiservices']);

/** Deletes what its owners left behind, over every kind the server lets us delete and watch. */
export const garbageCollectorController: ControllerDefinition = {
  name: 'garbage-collector-controller',
  async run(setup) {
    const collector = new Collector(setup);
    await collector.begin();
    await runController<GarbageWorld>(
      {
        name: 'garbage-collector-controller',
        workers: 10,
        caches: [],
        triggers(add) {
          collector.listen(add);
          add(REDISCOVERY_KEY, REDISCOVER_MS);
        },
        async observe({ name }) {
          if (name !== REDISCOVERY_KEY) return collector.observe(name);
          await collector.rediscover();
          return undefined;
        },
        plan: planGarbage,
      },
      { ...setup, recorder: setup.recorderOf('garbage-collector-controller') },
    );
  },
};

type Add = (key: string, afterMs?: number) => void;
type Watched = { resource: Resource; informer: Informer };

class Collector {
  readonly #graph = new GarbageGraph();
  readonly #api: Api;
  readonly #setup: ControllerSetup;
  readonly #log: Log;
  readonly #watched = new Map<string, Watched>();
  readonly #kinds = new Map<string, DiscoveredResource>();
  readonly #absent = new Set<string>();
  readonly #undecided = new Set<string>();
  #add: Add | undefined;

  constructor(setup: ControllerSetup) {
    this.#setup = setup;
    this.#api = setup.api;
    this.#log = setup.log.child('garbage-collector');
  }

  /** Finds out what there is and waits for it; tries until the server answers. */
  async begin(): Promise<void> {
    const { clock, signal } = this.#setup;
    for (let failures = 1; ; failures++) {
      try {
        await this.rediscover();
        await this.synced();
        return;
      } catch (error) {
        signal.throwIfAborted();
        this.#log.warn('cannot discover what to collect', { error: errorText(error) });
        await clock.sleep(backoffMs(failures, DISCOVERY_BACKOFF), { signal });
      }
    }
  }

  listen(add: Add): void {
    this.#add = add;
    for (const watched of this.#watched.values()) this.#follow(watched, add);
  }

  /** Follows every deletable kind; starts with those that are new, drops those that are gone. */
  async rediscover(): Promise<void> {
    const { signal, informers } = this.#setup;
    const { resources, failures } = await discover(this.#api, { signal });
    const found = resources.filter(isCollectable);
    for (const resource of found) {
      this.#kinds.set(`${resource.group}/${resource.kind}`, resource);
      const name = `${resource.group}/${resource.resource}`;
      if (this.#watched.has(name)) continue;
      const informer = informers.existing(resource) ?? informers.of(resource, METADATA_ONLY);
      const watched = { resource, informer };
      this.#watched.set(name, watched);
      if (this.#add) this.#follow(watched, this.#add);
    }
    if (failures.length === 0) this.#dropAllBut(found);
    for (const uid of this.#undecided) this.#add?.(uid);
    this.#undecided.clear();
    this.#add?.(REDISCOVERY_KEY, REDISCOVER_MS);
  }

  /** Waits for the first lists, but not for ever: a kind whose API is away must not stop the rest. */
  async synced(): Promise<void> {
    const { clock, signal } = this.#setup;
    const enough = new AbortController();
    const all = [...this.#watched.values()].map(({ informer }) => informer.synced());
    const limit = clock.sleep(MAX_SYNC_MS, { signal: AbortSignal.any([signal, enough.signal]) });
    const passed = limit.catch(() => signal.throwIfAborted());
    await Promise.race([Promise.all(all), passed]);
    enough.abort(new Error('synced'));
    await passed;
  }

  #dropAllBut(found: readonly DiscoveredResource[]): void {
    const names = new Set(found.map(({ group, resource }) => `${group}/${resource}`));
    for (const [name, { resource }] of this.#watched) {
      if (names.has(name)) continue;
      this.#watched.delete(name);
      this.#kinds.delete(`${resource.group}/${resource.kind}`);
      this.#setup.informers.drop(resource, METADATA_ONLY);
    }
  }

  #follow({ resource, informer }: Watched, add: Add): void {
    const look = (uids: Iterable<string>): void => {
      for (const uid of uids) add(uid, this.#isDecided(uid) ? 0 : SETTLE_MS);
    };
    informer.onChange((change) => {
      const uid = change.object.metadata.uid ?? '';
      if (change.type === 'deleted') {
        this.#remember(uid);
        look(this.#graph.remove(uid));
      } else look(this.#graph.put(resource, change.object));
      if (TELLS_NEW_KINDS.has(resource.resource)) add(REDISCOVERY_KEY, REDISCOVER_SOON_MS);
    });
  }

  /** Whether all of its owners are known, there or gone. */
  #isDecided(uid: string): boolean {
    const owners = this.#graph.get(uid)?.owners ?? [];
    return owners.every((owner) => this.#graph.get(owner.uid) || this.#absent.has(owner.uid));
  }

  async observe(uid: string): Promise<GarbageWorld | undefined> {
    const item = this.#graph.get(uid);
    if (!item) return undefined;
    const owners = await Promise.all(
      item.owners.map(async (reference) => ({
        reference,
        state: await this.#stateOf(item, reference),
      })),
    );
    if (owners.some(({ state }) => state === 'unknown')) this.#undecided.add(uid);
    return { item, owners, dependents: this.#graph.dependentsOf(uid) };
  }

  /** An owner that the graph lacks is asked for, so that no lag of ours deletes anything. */
  async #stateOf(item: Item, reference: OwnerReference): Promise<OwnerState> {
    const known = this.#graph.get(reference.uid);
    if (known) return waitsForDependents(known) ? 'waiting' : 'solid';
    if (this.#absent.has(reference.uid)) return 'dangling';
    const group = reference.apiVersion.includes('/') ? reference.apiVersion.split('/')[0] : '';
    const resource = this.#kinds.get(`${group}/${reference.kind}`);
    // A cluster-wide object cannot have an owner in a namespace: upstream leaves it alone, too.
    if (!resource || (resource.namespaced && !item.key.namespace)) return 'unknown';
    const key = { namespace: item.key.namespace, name: reference.name };
    const owner = await this.#readOwner(resource, key);
    if (owner?.metadata.uid !== reference.uid) {
      this.#remember(reference.uid);
      return 'dangling';
    }
    const waits =
      owner.metadata.deletionTimestamp !== undefined &&
      owner.metadata.finalizers?.includes('foregroundDeletion');
    return waits ? 'waiting' : 'solid';
  }

  async #readOwner(
    resource: DiscoveredResource,
    key: { namespace?: string | undefined; name: string },
  ): Promise<KubeObject | undefined> {
    const { signal } = this.#setup;
    try {
      return await this.#api.get(resource, key, { signal, metadataOnly: true });
    } catch (error) {
      if (isStatusError(error, 'NotFound')) return undefined;
      this.#log.debug('cannot read an owner', { ...key, error: errorText(error) });
      throw error;
    }
  }

  #remember(uid: string): void {
    this.#absent.add(uid);
    if (this.#absent.size <= MAX_ABSENT) return;
    for (const oldest of this.#absent) {
      this.#absent.delete(oldest);
      return;
    }
  }
}

const METADATA_ONLY = { metadataOnly: true } as const;

/** Events are many, own nothing and expire by themselves. */
function isCollectable({ resource, verbs }: DiscoveredResource): boolean {
  return resource !== 'events' && ['delete', 'list', 'watch'].every((verb) => verbs.includes(verb));
}
