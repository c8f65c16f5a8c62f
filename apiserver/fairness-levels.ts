import type { PriorityLevelConfiguration } from '#api/types.ts';
import { FairQueues } from '#apiserver/fairness-queues.ts';

/**
 * One priority level at work. Its seats: `nominal` are its own; of these it lends `lendable` while
 * it does not need them, and it may borrow up to `borrowLimit` of what others lend.
 */
export class Level {
  readonly name: string;
  uid = '';
  exempt = false;
  /** False: who finds no seat is refused at once. */
  queuing = false;
  nominal = 0;
  lendable = 0;
  borrowLimit = 0;
  inUse = 0;
  executing = 0;
  readonly queues = new FairQueues();
  /** For /metrics. */
  dispatched = 0;
  readonly rejected = new Map<string, number>();

  constructor(name: string) {
    this.name = name;
  }

  /** Seats that are never lent. */
  get reserved(): number {
    return this.nominal - this.lendable;
  }

  reject(reason: 'queue-full' | 'concurrency-limit' | 'time-out' | 'cancelled'): void {
    this.rejected.set(reason, (this.rejected.get(reason) ?? 0) + 1);
  }
}

const percentOf = (seats: number, percent: number): number => Math.round((seats * percent) / 100);

/**
 * Divides the server's seats among the levels by their shares, as upstream does: each gets its part
 * rounded up. Returns the levels that are no longer configured; requests under way there still finish.
 * Source: flowcontrol.apiserver.k8s.io/v1 LimitedPriorityLevelConfiguration.
 */
export function arrangeLevels(
  levels: Map<string, Level>,
  configs: readonly PriorityLevelConfiguration[],
  totalSeats: number,
): Level[] {
  let shares = 0;
  for (const { spec } of configs) shares += sharesOf(spec);
  const kept = new Set<string>();
  for (const { metadata, spec } of configs) {
    const name = metadata.name ?? '';
    kept.add(name);
    const level = levels.get(name) ?? new Level(name);
    levels.set(name, level);
    const part = spec?.limited ?? spec?.exempt;
    level.uid = metadata.uid ?? '';
    level.exempt = spec?.type === 'Exempt';
    level.nominal = shares === 0 ? 0 : Math.ceil((totalSeats * sharesOf(spec)) / shares);
    level.lendable = percentOf(level.nominal, part?.lendablePercent ?? 0);
    const borrowing = spec?.limited?.borrowingLimitPercent;
    level.borrowLimit =
      borrowing === undefined ? Number.POSITIVE_INFINITY : percentOf(level.nominal, borrowing);
    const { type, queuing } = spec?.limited?.limitResponse ?? {};
    level.queuing = type === 'Queue';
    level.queues.reshape({
      queues: queuing?.queues ?? 0,
      handSize: queuing?.handSize ?? 0,
      lengthLimit: queuing?.queueLengthLimit ?? 0,
    });
  }
  const dropped = [...levels.values()].filter(({ name }) => !kept.has(name));
  for (const { name } of dropped) levels.delete(name);
  return dropped;
}

const sharesOf = (spec: PriorityLevelConfiguration['spec']): number =>
  (spec?.limited ?? spec?.exempt)?.nominalConcurrencyShares ?? 0;
