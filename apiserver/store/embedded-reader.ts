import type { DatabaseSync, SQLOutputValue } from 'node:sqlite';
import type { Entry, Range, Revision, WatchBatch, WatchEvent } from '#apiserver/store/store.ts';
import { prefixEnd } from '#apiserver/store/key-range.ts';

/** Above every key: what a range without an end is bounded by. */
const AFTER_ALL_KEYS = '\u{10ffff}'.repeat(4);

export type PageQuery = { range: Range; at: Revision; after: string; limit: number };

/**
 * Reads of the embedded store's file as of a revision. All are synchronous, short and done by one
 * statement each, which SQLite runs on one consistent snapshot.
 */
export type EmbeddedReader = {
  /** The key's entry as of `at`. */
  entryAt(key: string, at: Revision): Entry | null;
  /** The entry that the commit `revision` wrote; null when compaction has taken it. */
  entryOf(revision: Revision): Entry | null;
  /** Up to `limit` entries of the range after the key `after`, in key order. */
  page(query: PageQuery): Entry[];
  /** How many entries the range has after the key `after`. */
  count(query: Omit<PageQuery, 'limit'>): number;
  /** Commits with `from` < revision ≤ `to`, at most `limit`; `revision` tells how far it got. */
  changes(range: Range, span: { from: Revision; to: Revision; limit: number }): WatchBatch;
  /** Current entries whose time ran out in (sinceMs, nowMs], longest due first. */
  expired(sinceMs: number, nowMs: number, limit: number): { key: string; revision: Revision }[];
};

export type Row = Record<string, SQLOutputValue>;

const NEWEST = `
  SELECT max(revision) AS newest, create_revision FROM history
  WHERE key > ? AND key >= ? AND key < ? AND revision <= ?
  GROUP BY key HAVING create_revision > 0`;

export function createReader(db: DatabaseSync): EmbeddedReader {
  const entryAt = db.prepare(`SELECT * FROM history WHERE key = ? AND revision <= ?
    ORDER BY revision DESC LIMIT 1`);
  const entryOf = db.prepare('SELECT * FROM history WHERE revision = ?');
  const page = db.prepare(`SELECT history.* FROM (${NEWEST} ORDER BY key LIMIT ?) AS found
    JOIN history ON history.revision = found.newest ORDER BY history.key`);
  const count = db.prepare(`SELECT count(*) AS total FROM (${NEWEST})`);
  // The unary plus keeps SQLite on the order of revisions instead of the index by key.
  const changes = db.prepare(`SELECT * FROM history WHERE revision > ? AND revision <= ?
    AND +key >= ? AND +key < ? ORDER BY revision LIMIT ?`);
  const expired = db.prepare(`SELECT key, revision FROM history AS h
    WHERE expires_at IS NOT NULL AND expires_at > ? AND expires_at <= ?
      AND revision = (SELECT max(revision) FROM history WHERE key = h.key)
    ORDER BY expires_at LIMIT ?`);

  const toEvent = (row: Row): WatchEvent => {
    const replaced = Number(row['previous']);
    const before = replaced === 0 ? undefined : entryOf.get(replaced);
    const previous = before === undefined ? null : toEntry(before);
    if (!isDeletion(row)) return { type: 'put', entry: toEntry(row), previous };
    if (previous === null) throw new Error(`deletion ${row['revision']} of nothing`);
    return { type: 'delete', key: String(row['key']), revision: Number(row['revision']), previous };
  };

  return {
    entryAt: (key, at) => toEntryOrNull(entryAt.get(key, at)),
    entryOf: (revision) => toEntryOrNull(entryOf.get(revision)),
    page: ({ range, at, after, limit }) =>
      page.all(after, range.prefix, endOf(range), at, limit).map(toEntry),
    count: ({ range, at, after }) =>
      Number(count.get(after, range.prefix, endOf(range), at)?.['total']),
    changes(range, { from, to, limit }) {
      const rows = changes.all(from, to, range.prefix, endOf(range), limit);
      const last = rows.length < limit ? to : Number(rows.at(-1)?.['revision']);
      return { events: rows.map(toEvent), revision: last };
    },
    expired: (sinceMs, nowMs, limit) =>
      expired
        .all(sinceMs, nowMs, limit)
        .map((row) => ({ key: String(row['key']), revision: Number(row['revision']) })),
  };
}

function endOf(range: Range): string {
  return prefixEnd(range.prefix) ?? AFTER_ALL_KEYS;
}

/** A row as the entry it wrote; null for none and for a deletion. */
export function toEntryOrNull(row: Row | undefined): Entry | null {
  return row === undefined || isDeletion(row) ? null : toEntry(row);
}

function isDeletion(row: Row): boolean {
  return row['create_revision'] === 0;
}

function toEntry(row: Row): Entry {
  const { key, value, create_revision: created, revision } = row;
  if (typeof key !== 'string' || !(value instanceof Uint8Array)) {
    throw new Error(`row ${revision} of the store is no entry`);
  }
  return { key, value, createRevision: Number(created), modRevision: Number(revision) };
}
