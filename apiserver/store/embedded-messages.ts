import type { Entry, Revision, Write } from '#apiserver/store/store.ts';

/**
 * What the embedded store's main side and its worker say to each other, packed so that a turn's
 * commits cost one message with one memory block each way, however many they are.
 * Messages are answered in order; there are no ids.
 */

/** The commits of one turn of the event loop. */
export type CommitGroup = {
  type: 'commits';
  keys: string[];
  /** Three numbers per commit: expected revision, value size (DELETION: none), expiry. */
  numbers: Float64Array<ArrayBuffer>;
  /** All values, end to end. */
  values: Uint8Array<ArrayBuffer>;
};

export type WorkerRequest = CommitGroup | { type: 'compact'; before: Revision } | { type: 'close' };

export type WorkerReply =
  | { type: 'opened'; revision: Revision; compacted: Revision }
  | ({ type: 'committed' } & CommitOutcomes)
  /** None of the next `count` commits was done. */
  | { type: 'failed'; count: number; message: string }
  | { type: 'compacted'; before: Revision }
  | { type: 'compact-failed'; message: string }
  | { type: 'closed' }
  /** The file cannot be opened or used; the worker has ended. */
  | { type: 'broken'; message: string };

export type CommitOutcomes = {
  /** Four numbers per commit: Outcome, revision, create revision, replaced revision (0: none). */
  outcomes: Float64Array<ArrayBuffer>;
  /** What stood in the way, in the order of the conflicts. */
  conflicts: (Entry | null)[];
};

export const EXPECT_ANY = -1;
export const EXPECT_ABSENT = 0;
export const DELETION = -1;
export const NO_EXPIRY = 0;

export const NUMBERS_PER_COMMIT = 3;
export const NUMBERS_PER_OUTCOME = 4;

export const OUTCOME_CONFLICT = 0;
export const OUTCOME_WRITTEN = 1;
/** A delete of what was not there: fine, and no new revision. */
export const OUTCOME_NOTHING = 2;

/** `nowMs` is what time-to-live counts from. The values are copied: the caller keeps its own. */
export function packCommits(writes: readonly Write[], nowMs: number): CommitGroup {
  let sizeBytes = 0;
  for (const write of writes) sizeBytes += write.value?.byteLength ?? 0;
  const keys: string[] = [];
  const numbers = new Float64Array(writes.length * NUMBERS_PER_COMMIT);
  const values = new Uint8Array(sizeBytes);
  let n = 0;
  let offset = 0;
  for (const { key, expect, value, ttlSeconds } of writes) {
    keys.push(key);
    numbers[n++] = expect === 'any' ? EXPECT_ANY : expect === 'absent' ? EXPECT_ABSENT : expect;
    numbers[n++] = value === null ? DELETION : value.byteLength;
    numbers[n++] = ttlSeconds === undefined ? NO_EXPIRY : nowMs + ttlSeconds * 1000;
    if (value === null) continue;
    values.set(value, offset);
    offset += value.byteLength;
  }
  return { type: 'commits', keys, numbers, values };
}
