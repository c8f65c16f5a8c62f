import { constants } from 'node:os';
import { SIGNALS } from '#api/meta/field-rules.ts';

/** First and last of the signals that have no name of their own. Source: signal(7), glibc. */
const RT_MIN = 34;
const RT_MAX = 64;

/** Names that Linux has twice. */
const ALIASES: Readonly<Record<string, number>> = { SIGCLD: 17, SIGIOT: 6, SIGPOLL: 29 };

/** CRI's number of a signal: the published enumeration is the API's list in its order, from 1. */
export const criSignal = (name: string): number => {
  const [, end, less] = /^SIGRT(MIN|MAX)(?:[+-](\d+))?$/.exec(name) ?? [];
  const plain = SIGNALS.filter((signal) => !signal.startsWith('SIGRT'));
  if (end === undefined) return plain.indexOf(name) + 1;
  const first = plain.length + 1;
  const span = SIGNALS.length - plain.length;
  return end === 'MIN' ? first + Number(less ?? 0) : first + span - 1 - Number(less ?? 0);
};

/** The kernel's number of a signal of the API; undefined for a name it does not know. */
export function linuxSignal(name: string): number | undefined {
  const [, end, less] = /^SIGRT(MIN|MAX)(?:[+-](\d+))?$/.exec(name) ?? [];
  if (end !== undefined)
    return end === 'MIN' ? RT_MIN + Number(less ?? 0) : RT_MAX - Number(less ?? 0);
  return ALIASES[name] ?? constants.signals[name as NodeJS.Signals];
}

const BY_CRI: ReadonlyMap<number, number | undefined> = new Map(
  SIGNALS.map((name) => [criSignal(name), linuxSignal(name)]),
);

/** The kernel's number for CRI's; undefined for 0, which is "not said", and what it does not know. */
export const linuxSignalOfCri = (number: number): number | undefined => BY_CRI.get(number);
