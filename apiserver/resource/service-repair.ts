import type { Service } from '#api/types.ts';
import { heldItems, holderOf } from '#apiserver/resource/service-allocator.ts';
import {
  type HeldItem,
  isSame,
  type Item,
  type ServiceRecords,
} from '#apiserver/resource/service-records.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';

/** As often as upstream. */
const REPAIR_INTERVAL_MS = 3 * 60_000;
/** A record this young may belong to a service that is just being written. */
const GRACE_MS = 60_000;

export type RepairParts = {
  records: ServiceRecords;
  /** All services there are by now. */
  services: () => Promise<readonly Service[]>;
  clock: Clock;
  log: Log;
};

export type RepairPlan = {
  /** Held by a service that is gone or does not use them. */
  leaked: HeldItem[];
  /** Used by a service, held by nobody. */
  missing: { item: Item; service: Service }[];
  /** Used by a service, held by another one. */
  disputed: { item: Item; service: Service }[];
};

/** What crashes between a service's write and its records' have left. */
export function planRepair(
  held: readonly HeldItem[],
  services: readonly Service[],
  nowMs: number,
): RepairPlan {
  const holders = new Map(held.map((item) => [nameOf(item), item]));
  const used = new Set<string>();
  const plan: RepairPlan = { leaked: [], missing: [], disputed: [] };
  for (const service of services) {
    for (const item of heldItems(service)) {
      const record = holders.get(nameOf(item));
      if (record === undefined) plan.missing.push({ item, service });
      else if (isSame(record.holder, holderOf(service))) used.add(nameOf(item));
      else plan.disputed.push({ item, service });
    }
  }
  plan.leaked = held.filter(
    (item) => !used.has(nameOf(item)) && nowMs - item.createdMs >= GRACE_MS,
  );
  return plan;
}

const nameOf = ({ type, name }: Item): string => `${type} ${name}`;

/** One look over all records and services; returns what was found. */
export async function repairServiceRecords(parts: RepairParts): Promise<RepairPlan> {
  const { records, log } = parts;
  // Records first: a service written in between has its records before it.
  const held = await records.list();
  const plan = planRepair(held, await parts.services(), parts.clock.now());
  for (const item of plan.leaked) {
    if (await records.remove(item)) log.info('freed what no service uses', describe(item));
  }
  for (const { item, service } of plan.missing) {
    if ((await records.take(item, holderOf(service))) === 'taken') {
      log.info('recorded what a service uses', { ...describe(item), ...holderOf(service) });
    }
  }
  for (const { item, service } of plan.disputed) {
    log.error('two services use the same: delete and create one of them anew', {
      ...describe(item),
      ...holderOf(service),
    });
  }
  return plan;
}

const describe = ({ type, name }: Item): Record<string, unknown> => ({ [type]: name });

/** Repairs now and then on; a failure waits for the next time. */
export async function keepServiceRecords(parts: RepairParts, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await repairServiceRecords(parts);
    } catch (error) {
      parts.log.warn('service records could not be checked', { error: errorText(error) });
    }
    await parts.clock.sleep(REPAIR_INTERVAL_MS, { signal }).catch(() => undefined);
  }
}
