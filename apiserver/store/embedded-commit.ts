import type { DatabaseSync, StatementSync } from 'node:sqlite';
import {
  type CommitGroup,
  type CommitOutcomes,
  DELETION,
  EXPECT_ABSENT,
  EXPECT_ANY,
  NO_EXPIRY,
  NUMBERS_PER_COMMIT,
  NUMBERS_PER_OUTCOME,
  OUTCOME_CONFLICT,
  OUTCOME_NOTHING,
  OUTCOME_WRITTEN,
} from '#apiserver/store/embedded-messages.ts';
import { toEntryOrNull } from '#apiserver/store/embedded-reader.ts';
import type { Entry, Revision } from '#apiserver/store/store.ts';

/** A new store stands here, as etcd does: its first commit has revision 2. */
const FIRST_REVISION = 1;

export type Committer = {
  /** Newest durable commit. */
  revision(): Revision;
  /** Decides and writes the groups in order by one transaction; durable when this returns. */
  commit(groups: readonly CommitGroup[]): CommitOutcomes;
};

/** Compare-and-swap on the file, in the worker. Every failure undoes the whole transaction. */
export function createCommitter(db: DatabaseSync): Committer {
  const statements = prepare(db);
  let revision = newestRevision(db);

  return {
    revision: () => revision,
    commit(groups) {
      const total = groups.reduce((sum, group) => sum + group.keys.length, 0);
      const outcomes = new Float64Array(total * NUMBERS_PER_OUTCOME);
      const run: Run = { statements, revision, outcomes, at: 0, conflicts: [] };
      statements.begin.run();
      try {
        for (const group of groups) decideGroup(run, group);
        statements.commit.run();
      } catch (error) {
        // SQLite itself has rolled back after some errors, such as a full disk.
        if (db.isTransaction) statements.rollback.run();
        throw error;
      }
      revision = run.revision;
      return { outcomes, conflicts: run.conflicts };
    },
  };
}

type Statements = Record<
  'begin' | 'commit' | 'rollback' | 'newest' | 'entry' | 'insert',
  StatementSync
>;

/** One transaction under way. */
type Run = {
  statements: Statements;
  revision: Revision;
  outcomes: Float64Array<ArrayBuffer>;
  /** Where in `outcomes` the next commit's numbers go. */
  at: number;
  conflicts: (Entry | null)[];
};

type Decision = {
  key: string;
  expect: number;
  value: Uint8Array | null;
  expiresAt: number;
};

function prepare(db: DatabaseSync): Statements {
  const newest = db.prepare(`SELECT revision, create_revision FROM history WHERE key = ?
    ORDER BY revision DESC LIMIT 1`);
  newest.setReturnArrays(true);
  return {
    begin: db.prepare('BEGIN IMMEDIATE'),
    commit: db.prepare('COMMIT'),
    rollback: db.prepare('ROLLBACK'),
    newest,
    entry: db.prepare('SELECT * FROM history WHERE revision = ?'),
    insert: db.prepare('INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)'),
  };
}

/** Compaction may have taken the newest row itself (a deletion), hence the second look. */
function newestRevision(db: DatabaseSync): Revision {
  const row = db
    .prepare(`SELECT max(coalesce((SELECT max(revision) FROM history), 0),
      (SELECT revision FROM progress WHERE name = 'compacted')) AS newest`)
    .get();
  return Math.max(FIRST_REVISION, Number(row?.['newest']));
}

function decideGroup(run: Run, { keys, numbers, values }: CommitGroup): void {
  let n = 0;
  let offset = 0;
  for (const key of keys) {
    const expect = numbers[n] ?? 0;
    const size = numbers[n + 1] ?? 0;
    const expiresAt = numbers[n + 2] ?? 0;
    n += NUMBERS_PER_COMMIT;
    const value = size === DELETION ? null : values.subarray(offset, offset + size);
    decide(run, { key, expect, value, expiresAt });
    if (value !== null) offset += size;
  }
}

function decide(run: Run, { key, expect, value, expiresAt }: Decision): void {
  const { statements } = run;
  // An array by setReturnArrays; the types know only objects.
  const found = statements.newest.get(key) as unknown as [number, number] | undefined;
  const createRevision = found?.[1] ?? 0;
  const current = createRevision === 0 ? 0 : (found?.[0] ?? 0);
  if (expect !== EXPECT_ANY && expect !== current) {
    run.conflicts.push(current === 0 ? null : toEntryOrNull(statements.entry.get(current)));
    answer(run, OUTCOME_CONFLICT, 0, 0);
    return;
  }
  if (value === null && current === 0) {
    answer(run, OUTCOME_NOTHING, 0, 0);
    return;
  }
  run.revision += 1;
  const created = value === null ? 0 : current === EXPECT_ABSENT ? run.revision : createRevision;
  const expiry = expiresAt === NO_EXPIRY ? null : expiresAt;
  statements.insert.run(run.revision, key, created, current, value, expiry);
  answer(run, OUTCOME_WRITTEN, created, current);
}

function answer(run: Run, outcome: number, created: Revision, replaced: Revision): void {
  const { outcomes } = run;
  outcomes[run.at] = outcome;
  outcomes[run.at + 1] = run.revision;
  outcomes[run.at + 2] = created;
  outcomes[run.at + 3] = replaced;
  run.at += NUMBERS_PER_OUTCOME;
}
