import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';

/** A segment of a list ends after an entry whose name falls on one in this many, on average. */
const SEGMENT_ENTRIES = 64;
/** ... and at the latest after this many. */
const MAX_SEGMENT_ENTRIES = 256;

type Segment = { entries: readonly CacheEntry[]; skip: number; bytes: Buffer };

/** By a segment's first entry; memory pressure takes the bytes away again. */
const segments = new WeakMap<CacheEntry, WeakRef<Segment>>();

/**
 * The JSON of many entries, each behind a comma and without its first `skip` bytes (type, and the
 * brace), in pieces. Where a piece ends depends on names alone, so that a change or an insertion
 * leaves most pieces as they were; those are not made again.
 */
export function listSegments(entries: readonly CacheEntry[], skip: number): Buffer[] {
  const pieces: Buffer[] = [];
  let start = 0;
  for (let i = 0; i < entries.length; i++) {
    const length = i + 1 - start;
    const last = i === entries.length - 1;
    if (!last && length < MAX_SEGMENT_ENTRIES && !isBoundary(entries[i] as CacheEntry)) continue;
    pieces.push(segmentOf(entries, start, i + 1, skip));
    start = i + 1;
  }
  return pieces;
}

function isBoundary({ name }: CacheEntry): boolean {
  let hash = 0;
  for (let i = Math.max(0, name.length - 8); i < name.length; i++) {
    hash = (hash * 31 + name.charCodeAt(i)) | 0;
  }
  return (hash >>> 3) % SEGMENT_ENTRIES === 0;
}

function segmentOf(
  entries: readonly CacheEntry[],
  start: number,
  end: number,
  skip: number,
): Buffer {
  const first = entries[start] as CacheEntry;
  const known = segments.get(first)?.deref();
  if (known?.skip === skip && sameEntries(known.entries, entries, start, end)) return known.bytes;
  let size = 0;
  for (let i = start; i < end; i++) size += (entries[i] as CacheEntry).wire.length - skip + 2;
  const bytes = Buffer.allocUnsafe(size);
  let at = 0;
  for (let i = start; i < end; i++) {
    bytes[at++] = 0x2c; // ,
    bytes[at++] = 0x7b; // {
    at += (entries[i] as CacheEntry).wire.copy(bytes, at, skip);
  }
  segments.set(first, new WeakRef({ entries: entries.slice(start, end), skip, bytes }));
  return bytes;
}

function sameEntries(
  known: readonly CacheEntry[],
  entries: readonly CacheEntry[],
  start: number,
  end: number,
): boolean {
  if (known.length !== end - start) return false;
  for (let i = 0; i < known.length; i++) if (known[i] !== entries[start + i]) return false;
  return true;
}
