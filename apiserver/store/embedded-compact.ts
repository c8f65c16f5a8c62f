import type { DatabaseSync } from 'node:sqlite';
import type { Revision } from '#apiserver/store/store.ts';

/** Commits looked at per step: a step holds up commits for a few milliseconds at most. */
const STEP = 500;

/**
 * Compaction in two parts: a mark that forbids older reads, durable at once, and a sweep in short
 * steps that frees the rows nobody may read any more. A sweep cut off goes on at the next start.
 */
export type Compactor = {
  /** Reads as of an older revision are refused. */
  compacted(): Revision;
  compact(before: Revision): void;
  hasWork(): boolean;
  /** Frees what the next commits up to the mark have replaced. */
  sweep(): void;
};

export function createCompactor(db: DatabaseSync): Compactor {
  const read = db.prepare('SELECT revision FROM progress WHERE name = ?');
  const save = db.prepare('UPDATE progress SET revision = ? WHERE name = ?');
  const step = db.prepare(`SELECT revision, previous, create_revision FROM history
    WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ${STEP}`);
  const free = db.prepare('DELETE FROM history WHERE revision = ?');
  let compacted = Number(read.get('compacted')?.['revision']);
  let swept = Number(read.get('swept')?.['revision']);

  const sweepStep = (): Revision => {
    const rows = step.all(swept, compacted);
    for (const { revision, previous, create_revision: created } of rows) {
      if (previous !== 0) free.run(Number(previous));
      if (created === 0) free.run(Number(revision));
    }
    return rows.length < STEP ? compacted : Number(rows.at(-1)?.['revision']);
  };

  return {
    compacted: () => compacted,
    compact(before) {
      save.run(before, 'compacted');
      compacted = before;
    },
    hasWork: () => swept < compacted,
    sweep() {
      db.exec('BEGIN IMMEDIATE');
      try {
        const reached = sweepStep();
        save.run(reached, 'swept');
        db.exec('COMMIT');
        swept = reached;
      } catch (error) {
        if (db.isTransaction) db.exec('ROLLBACK');
        throw error;
      }
    },
  };
}
