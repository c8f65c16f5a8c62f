import type { EtcdClient } from '#apiserver/store/etcd-client.ts';
import type { Clock } from '#base/clock.ts';
import { type Random, randomInt } from '#base/random.ts';

/** Expiry deletes a lease's keys in one transaction: this keeps it small. */
const MAX_KEYS_PER_LEASE = 1_000;
/** Keys written within a tenth of their time to live, at most this, end together. */
const MAX_SHARE_SECONDS = 60;
/** Lease IDs that JavaScript numbers hold exactly; etcd's own would need 63 bits. */
const MAX_LEASE_ID = 2 ** 48;

type Lease = { id: Promise<number>; openUntilMs: number; keys: number };

/**
 * Leases for entries with a time to live, shared by writes of the same time to live that come
 * shortly after one another: one lease per Event would burden etcd more than the Event does.
 */
export type Leases = {
  /** A lease that ends not before `ttlSeconds` from now, and at most a tenth later. */
  leaseFor(ttlSeconds: number): Promise<number>;
};

export function createLeases(client: EtcdClient, clock: Clock, random: Random): Leases {
  const open = new Map<number, Lease>();
  const grant = async (TTL: number): Promise<number> => {
    const ID = 1 + randomInt(random, MAX_LEASE_ID);
    await client.leaseGrant({ TTL, ID });
    return ID;
  };
  return {
    leaseFor(ttlSeconds) {
      const ttl = Math.ceil(ttlSeconds);
      const now = clock.now();
      const shared = open.get(ttl);
      if (shared && now < shared.openUntilMs && shared.keys < MAX_KEYS_PER_LEASE) {
        shared.keys++;
        return shared.id;
      }
      const shareSeconds = Math.min(MAX_SHARE_SECONDS, Math.floor(ttl / 10));
      const id = grant(ttl + shareSeconds);
      open.set(ttl, { id, openUntilMs: now + shareSeconds * 1000, keys: 1 });
      id.catch(() => open.delete(ttl));
      return id;
    },
  };
}
