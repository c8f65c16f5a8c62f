import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import { type Random, systemRandom } from '#base/random.ts';
import type { KubeObject } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import type { Informer } from '#client/informer.ts';
import { type IndexFunction, InformerCache } from '#client/informer-store.ts';
import { watchResource, type WatcherItem } from '#client/watcher.ts';

export type InformerOptions<T extends KubeObject> = {
  /** Added to whatever indexes the shared informer already has. */
  indexes?: Readonly<Record<string, IndexFunction<T>>>;
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Objects are PartialObjectMetadata: apiVersion, kind, metadata. */
  metadataOnly?: boolean;
};

/** Hands out one informer per resource and selection, however many ask for it. */
export type Informers = {
  /** Starts on first use. */
  of<T extends KubeObject>(resource: Resource<T>, options?: InformerOptions<T>): Informer<T>;
  /** The informer of whole objects everywhere, if someone has asked for it already. */
  existing(resource: Resource): Informer | undefined;
  /** Stops and forgets an informer nobody needs any more (a CRD that is gone). */
  drop(resource: Resource, options?: InformerOptions<KubeObject>): void;
  /** Resolves when every informer asked for so far has its first list. */
  synced(): Promise<void>;
  /** Settles when the signal has aborted and all watches have ended. */
  done(): Promise<void>;
};

export type InformersOptions = {
  signal: AbortSignal;
  log?: Log;
  clock?: Clock;
  random?: Random;
  /** Freezes objects deeply: for tests, to find who mutates shared objects. */
  freeze?: boolean;
};

type Entry = { cache: InformerCache<KubeObject>; stop: AbortController; ended: Promise<void> };

/** Creates informers over one API. Watches, never polls; one connection per resource. */
export function createInformers(api: Api, options: InformersOptions): Informers {
  const { signal, log = silentLog, clock = systemClock, random = systemRandom } = options;
  const entries = new Map<string, Entry>();

  function start(resource: Resource, selection: InformerOptions<KubeObject>): Entry {
    const cache = new InformerCache<KubeObject>({ freeze: options.freeze ?? false });
    const stop = new AbortController();
    const both = AbortSignal.any([signal, stop.signal]);
    const { indexes: _, ...where } = selection;
    const ended = follow(cache, resource, both, () =>
      watchResource(api, resource, { ...where, signal: both, clock, random }),
    );
    return { cache, stop, ended };
  }

  async function follow(
    cache: InformerCache<KubeObject>,
    resource: Resource,
    until: AbortSignal,
    watch: () => AsyncIterable<WatcherItem<KubeObject>[]>,
  ): Promise<void> {
    try {
      for await (const items of watch()) {
        for (const item of items) if (item.type === 'failed') report(log, resource, item);
        cache.feed(items);
      }
    } catch (error) {
      if (!until.aborted) throw error;
    }
  }

  return {
    of<T extends KubeObject>(resource: Resource<T>, selection: InformerOptions<T> = {}) {
      const untyped = selection as unknown as InformerOptions<KubeObject>;
      const name = nameOf(resource, untyped);
      let entry = entries.get(name);
      if (!entry) {
        entry = start(resource as Resource, untyped);
        entries.set(name, entry);
      }
      for (const [index, of] of Object.entries(untyped.indexes ?? {})) {
        entry.cache.addIndex(index, of);
      }
      return entry.cache as unknown as Informer<T>;
    },
    existing: (resource) => entries.get(nameOf(resource, {}))?.cache,
    drop(resource, selection = {}) {
      const name = nameOf(resource, selection);
      entries.get(name)?.stop.abort(new Error(`informer of ${resource.resource} dropped`));
      entries.delete(name);
    },
    async synced() {
      await Promise.all([...entries.values()].map((entry) => entry.cache.synced()));
    },
    async done() {
      await Promise.all([...entries.values()].map((entry) => entry.ended));
    },
  };
}

function report(
  log: Log,
  resource: Resource,
  item: Extract<WatcherItem<KubeObject>, { type: 'failed' }>,
): void {
  const fields = {
    group: resource.group,
    resource: resource.resource,
    failures: item.failures,
    error: errorText(item.error),
  };
  // One lost watch is everyday life; only a lasting failure deserves attention.
  if (item.failures > 2) log.warn('cannot watch', fields);
  else log.debug('watch interrupted', fields);
}

function nameOf(resource: Resource, options: InformerOptions<KubeObject>): string {
  const { namespace = '', labelSelector = '', fieldSelector = '', metadataOnly } = options;
  return [
    `${resource.group}/${resource.version}/${resource.resource}`,
    namespace,
    labelSelector,
    fieldSelector,
    metadataOnly ? 'metadata' : '',
  ].join('|');
}
