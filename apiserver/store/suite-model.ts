import { Buffer } from 'node:buffer';
import type {
  CommitResult,
  Entry,
  ListOptions,
  ListResult,
  Range,
  Revision,
  WatchEvent,
  Write,
} from '#apiserver/store/store.ts';

/** What a store should do, in the fewest words: the list of all its commits. */
export type Model = {
  start: Revision;
  /** Commits since the start. */
  age(): number;
  revision(): Revision;
  compacted(): Revision;
  get(key: string): Entry | null;
  list(range: Range, options: ListOptions): ListResult;
  commit(write: Write): CommitResult;
  compact(before: Revision): void;
  events(prefix: string, from: Revision): WatchEvent[];
};

export function createModel(start: Revision): Model {
  const log: WatchEvent[] = [];
  let compacted = 0;
  const revision = () => start + log.length;
  const stateAt = (at: Revision): Entry[] => {
    const state = new Map<string, Entry>();
    for (const event of log.slice(0, at - start)) {
      if (event.type === 'put') state.set(event.entry.key, event.entry);
      else state.delete(event.key);
    }
    return [...state.values()].sort((a, b) => byteOrder(a.key, b.key));
  };
  const get = (key: string) => stateAt(revision()).find((entry) => entry.key === key) ?? null;

  return {
    start,
    age: () => log.length,
    revision,
    compacted: () => compacted,
    get,
    list({ prefix }, { at = revision(), after = '', limit = 0 }) {
      const all = stateAt(at).filter(
        ({ key }) => key.startsWith(prefix) && byteOrder(key, after) > 0,
      );
      const entries = limit === 0 ? all : all.slice(0, limit);
      return { entries, revision: at, remaining: all.length - entries.length };
    },
    commit({ key, expect, value }) {
      const previous = get(key);
      const wanted = expect === 'absent' ? undefined : expect;
      if (expect !== 'any' && previous?.modRevision !== wanted) {
        return { ok: false, current: previous, revision: revision() };
      }
      const modRevision = revision() + 1;
      if (value !== null) {
        const createRevision = previous?.createRevision ?? modRevision;
        log.push({ type: 'put', entry: { key, value, createRevision, modRevision }, previous });
      } else if (previous !== null) {
        log.push({ type: 'delete', key, revision: modRevision, previous });
      }
      return { ok: true, revision: revision() };
    },
    compact: (before) => {
      compacted = Math.max(compacted, before);
    },
    events: (prefix, from) =>
      log
        .slice(from - start)
        .filter((event) => (event.type === 'put' ? event.entry.key : event.key).startsWith(prefix)),
  };
}

const byteOrder = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));
