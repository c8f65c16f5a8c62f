import { randomUUID } from 'node:crypto';
import { encodeObject } from '#api/encode.ts';
import type { KubeObject } from '#api/types.ts';
import { timestamp } from '#apiserver/resource/server-context.ts';
import type { CommitResult, Entry, Store, Write } from '#apiserver/store/store.ts';
import { storagePrefix } from '#apiserver/watch-cache.ts';
import { ipFamily } from '#api/validate-network.ts';
import type { Clock } from '#base/clock.ts';

/** What a service holds: an address or a node port, as text. */
export type Item = { type: 'ip' | 'port'; name: string };

/** The service that holds it. */
export type Holder = { namespace: string; name: string };

export type HeldItem = Item & { holder: Holder; createdMs: number; revision: number };

/** Whose an item is after `take`: 'same' is the same service, which had it before. */
export type Taking = 'taken' | 'same' | 'other';

/**
 * One record in the store per address and per port, committed only if absent: whoever commits
 * first has it, whichever API server that was. Addresses have upstream's shape, the IPAddress of
 * networking.k8s.io; ports have none there.
 */
export type ServiceRecords = {
  /** Takes an item for a service, unless somebody has it. */
  take(item: Item, holder: Holder): Promise<Taking>;
  /** Gives back what this service holds; nothing happens when it does not. */
  release(item: Item, holder: Holder): Promise<void>;
  /** Removes exactly this record; false when it has changed. */
  remove(item: HeldItem): Promise<boolean>;
  /** Whether it was taken a moment ago: spares a commit that is bound to fail. */
  isTaken(item: Item): boolean;
  list(): Promise<HeldItem[]>;
};

export type RecordParts = {
  store: Pick<Store, 'get' | 'list'>;
  commit: (write: Write, object?: KubeObject) => Promise<CommitResult>;
  /** Whether the cache has an object of this group, resource and name. */
  isKnown: (group: string, resource: string, name: string) => boolean;
  clock: Clock;
};

const PLACES: Record<Item['type'], readonly [group: string, resource: string]> = {
  ip: ['networking.k8s.io', 'ipaddresses'],
  port: ['ranges', 'servicenodeports'],
};

const MANAGER = 'ipallocator.k8s.io';

export function createServiceRecords({
  store,
  commit,
  isKnown,
  clock,
}: RecordParts): ServiceRecords {
  const remove = async (key: string, revision: number): Promise<boolean> =>
    (await commit({ key, expect: revision, value: null })).ok;
  return {
    async take(item, holder) {
      const object = toObject(item, holder, timestamp(clock.now()));
      const value = encodeObject(object);
      const result = await commit({ key: keyOf(item), expect: 'absent', value }, object);
      if (result.ok) return 'taken';
      const held = result.current === null ? null : toHeld(item.type, result.current);
      return held !== null && isSame(held.holder, holder) ? 'same' : 'other';
    },
    async release(item, holder) {
      const { entry } = await store.get(keyOf(item));
      const held = entry === null ? null : toHeld(item.type, entry);
      if (held === null || !isSame(held.holder, holder)) return;
      await remove(keyOf(item), held.revision);
    },
    remove: (item) => remove(keyOf(item), item.revision),
    isTaken: ({ type, name }) => isKnown(...PLACES[type], name),
    async list() {
      const lists = await Promise.all(
        (['ip', 'port'] as const).map(async (type) => {
          const { entries } = await store.list({ prefix: prefixOf(type) });
          return entries.map((entry) => toHeld(type, entry));
        }),
      );
      return lists.flat().filter((held) => held !== null);
    },
  };
}

export const isSame = (one: Holder, other: Holder): boolean =>
  one.namespace === other.namespace && one.name === other.name;

const prefixOf = (type: Item['type']): string => storagePrefix(...PLACES[type]);
const keyOf = ({ type, name }: Item): string => prefixOf(type) + name;

function toObject({ type, name }: Item, holder: Holder, now: string): KubeObject {
  const metadata = { name, uid: randomUUID(), creationTimestamp: now };
  const spec = { parentRef: { group: '', resource: 'services', ...holder } };
  if (type === 'port') {
    return { apiVersion: 'internal.gantry/v1', kind: 'NodePort', metadata, spec };
  }
  const labels = {
    'ipaddress.kubernetes.io/ip-family': ipFamily(name) === 6 ? 'IPv6' : 'IPv4',
    'ipaddress.kubernetes.io/managed-by': MANAGER,
  };
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'IPAddress',
    metadata: { ...metadata, labels },
    spec,
  };
}

type RecordObject = KubeObject & { spec?: { parentRef?: Partial<Holder> & { resource?: string } } };

/** Null for an address that something else than a service holds. */
function toHeld(type: Item['type'], { key, value, modRevision }: Entry): HeldItem | null {
  const object = JSON.parse(Buffer.from(value).toString()) as RecordObject;
  const { resource, namespace, name } = object.spec?.parentRef ?? {};
  if (resource !== 'services' || namespace === undefined || name === undefined) return null;
  return {
    type,
    name: key.slice(prefixOf(type).length),
    holder: { namespace, name },
    createdMs: Date.parse(String(object.metadata.creationTimestamp)),
    revision: modRevision,
  };
}
