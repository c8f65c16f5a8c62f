import type { Clock } from '#base/clock.ts';
import { Fairness } from '#apiserver/fairness.ts';
import type { Level } from '#apiserver/fairness-levels.ts';
import type { RequestMetrics } from '#apiserver/metrics.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

/** Upstream's --max-requests-inflight and --max-mutating-requests-inflight. */
export const DEFAULT_MAX_IN_FLIGHT = 400;
export const DEFAULT_MAX_MUTATING_IN_FLIGHT = 200;

export const FLOW_GROUP = 'flowcontrol.apiserver.k8s.io';
export const FLOW_RESOURCES = ['flowschemas', 'prioritylevelconfigurations'] as const;

/** Priority and fairness that follows the stored objects and shows itself in the metrics. */
export function createServerFairness(options: {
  cache: WatchCache;
  totalSeats: number;
  metrics: RequestMetrics;
  clock: Clock;
  signal: AbortSignal;
}): Fairness {
  const { cache, totalSeats, metrics, clock, signal } = options;
  const fairness = new Fairness({
    reader: cache.reader(),
    totalSeats,
    sizeOf: (group, resource) => cache.at(group, resource).size,
    clock,
    signal,
  });
  for (const resource of FLOW_RESOURCES) {
    cache.at(FLOW_GROUP, resource).listen(() => fairness.refresh());
  }
  showFairness(metrics, fairness);
  return fairness;
}

function showFairness(metrics: RequestMetrics, fairness: Fairness): void {
  const perLevel = (
    name: string,
    help: string,
    read: (level: Level) => number,
    type: 'gauge' | 'counter' = 'gauge',
  ): void => {
    const lines = (): [string, number][] =>
      [...fairness.levels].map((level) => [labelOf(level), read(level)]);
    metrics.gauge(`apiserver_flowcontrol_${name}`, help, lines, type);
  };
  perLevel('nominal_limit_seats', 'Seats of a priority level.', (level) => level.nominal);
  perLevel('lower_limit_seats', 'Seats that are never lent.', (level) => level.reserved);
  perLevel('current_executing_seats', 'Seats in use.', (level) => level.inUse);
  perLevel('current_executing_requests', 'Requests worked on.', (level) => level.executing);
  perLevel('current_inqueue_requests', 'Requests that wait.', (level) => level.queues.length);
  perLevel('current_inqueue_seats', 'Seats waited for.', (level) => level.queues.seats);
  perLevel('dispatched_requests_total', 'Requests let in.', (level) => level.dispatched, 'counter');
  metrics.gauge(
    'apiserver_flowcontrol_rejected_requests_total',
    'Requests refused.',
    function* () {
      for (const level of fairness.levels) {
        for (const [reason, count] of level.rejected) {
          yield [`${labelOf(level)},reason="${reason}"`, count];
        }
      }
    },
    'counter',
  );
}

const labelOf = ({ name }: Level): string => `priority_level="${name}"`;
