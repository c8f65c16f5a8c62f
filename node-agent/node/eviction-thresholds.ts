import { parseQuantity, quantityValue } from '#api/quantity.ts';

/** What can run short on a node. */
export const SIGNALS = [
  'memory.available',
  'nodefs.available',
  'nodefs.inodesFree',
  'imagefs.available',
  'imagefs.inodesFree',
  'pid.available',
] as const;
export type Signal = (typeof SIGNALS)[number];

/** An amount as such, or as a share (0…1) of the capacity. */
export type Amount = { value: number } | { share: number };

export type Threshold = {
  signal: Signal;
  /** Less than this left is pressure. */
  least: Amount;
  /** A soft threshold has to hold for so long; 0 is a hard one. */
  graceMs: number;
  /** Once met, it stays so until this much more than `least` is left. */
  reclaim?: Amount | undefined;
};

export type EvictionFlags = {
  evictionHard?: string | undefined;
  evictionSoft?: string | undefined;
  /** `memory.available=1m30s,…`, one for each soft threshold. */
  evictionSoftGracePeriod?: string | undefined;
  evictionMinimumReclaim?: string | undefined;
};

/**
 * Hard thresholds unless others are given. Source: KubeletConfiguration.evictionHard; process ids
 * have none there, here the node keeps a tenth of them.
 */
export const DEFAULT_EVICTION_HARD =
  'memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,' +
  'imagefs.available<15%,imagefs.inodesFree<5%,pid.available<10%';

/** Reads the flags. Throws an Error that names the flag and the part that is wrong. */
export function readThresholds(flags: EvictionFlags): Threshold[] {
  const grace = new Map(
    parts('--eviction-soft-grace-period', flags.evictionSoftGracePeriod, '=').map(
      ([signal, text]) => [signal, durationMs(text)],
    ),
  );
  const reclaim = new Map(
    parts('--eviction-minimum-reclaim', flags.evictionMinimumReclaim, '=').map(([signal, text]) => [
      signal,
      amount(text),
    ]),
  );
  const hard = parts('--eviction-hard', flags.evictionHard ?? DEFAULT_EVICTION_HARD, '<');
  const soft = parts('--eviction-soft', flags.evictionSoft, '<');
  return [
    ...hard.map(([signal, text]) => ({ signal, graceMs: 0, text })),
    ...soft.map(([signal, text]) => {
      const graceMs = grace.get(signal);
      if (!graceMs)
        throw new Error(`--eviction-soft: no --eviction-soft-grace-period for ${signal}`);
      return { signal, graceMs, text };
    }),
  ].map(({ signal, graceMs, text }) => ({
    signal,
    graceMs,
    least: amount(text),
    reclaim: reclaim.get(signal),
  }));
}

function parts(flag: string, list: string | undefined, operator: '<' | '='): [Signal, string][] {
  return (list ?? '')
    .split(',')
    .filter(Boolean)
    .map((part) => {
      const [name = '', value = '', ...rest] = part.split(operator);
      const signal = SIGNALS.find((s) => s === name.trim());
      if (!signal)
        throw new Error(`${flag}: "${part}": signal must be one of ${SIGNALS.join(', ')}`);
      if (!value || rest.length > 0)
        throw new Error(`${flag}: "${part}": want ${signal}${operator}…`);
      return [signal, value.trim()];
    });
}

function amount(text: string): Amount {
  if (!text.endsWith('%')) return { value: quantityValue(parseQuantity(text)) };
  const percent = Number(text.slice(0, -1));
  if (!(percent >= 0 && percent <= 100)) throw new Error(`"${text}" is no percentage`);
  return { share: percent / 100 };
}

const UNITS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };

/** `1m30s` as milliseconds. */
function durationMs(text: string): number {
  const matched = /^(\d+(\.\d+)?(h|ms|m|s))+$/.test(text);
  if (!matched) throw new Error(`"${text}" is no duration; want for example 1m30s`);
  return [...text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s)/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (UNITS[unit ?? ''] ?? 0),
    0,
  );
}
