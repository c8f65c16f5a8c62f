import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';
import { respliceVersion } from '#apiserver/watch-cache-entry.ts';

/** Events kept for watches that resume; upstream keeps 100 to 100,000, by load. */
export const RING_EVENTS = 4_096;

const FRAME_START = {
  ADDED: Buffer.from('{"type":"ADDED","object":'),
  MODIFIED: Buffer.from('{"type":"MODIFIED","object":'),
  DELETED: Buffer.from('{"type":"DELETED","object":'),
} as const;
const FRAME_END = Buffer.from('}\n');

export type FrameType = keyof typeof FRAME_START;

/** One line of a watch response. */
export function frame(type: FrameType, wire: Uint8Array): Buffer {
  return Buffer.concat([FRAME_START[type], wire, FRAME_END]);
}

/** One change of one object; its frames are made once however many watch. */
export class CacheEvent {
  readonly revision: number;
  /** null: the object was removed. */
  readonly current: CacheEntry | null;
  readonly previous: CacheEntry | null;
  #frames: Map<unknown, Buffer> | undefined;

  constructor(revision: number, current: CacheEntry | null, previous: CacheEntry | null) {
    this.revision = revision;
    this.current = current;
    this.previous = previous;
  }

  /** The version a client sees: for removals the last state. */
  get entry(): CacheEntry {
    return (this.current ?? this.previous) as CacheEntry;
  }

  /**
   * The event as `type`, in a form that `show` makes from the JSON bytes and `wrap` puts into a
   * frame. A form's frames are shared by all its watchers, so `form` must identify it.
   */
  frame(
    type: FrameType,
    form?: unknown,
    show?: (entry: CacheEntry, wire: Buffer) => Uint8Array,
    wrap: typeof frame = frame,
  ): Buffer {
    const key = form === undefined ? type : form;
    this.#frames ??= new Map();
    const slot = form === undefined ? key : `${type} ${String(form)}`;
    let bytes = this.#frames.get(slot);
    if (!bytes) {
      const entry = type === 'DELETED' && this.previous ? this.previous : this.entry;
      const wire =
        entry.revision === this.revision
          ? entry.wire
          : respliceVersion(entry.wire, entry.revision, this.revision);
      bytes = wrap(type, show ? show(entry, wire) : wire);
      this.#frames.set(slot, bytes);
    }
    return bytes;
  }
}

export type CacheListener = (event: CacheEvent) => void;

/** All objects of one stored resource, in key order, and its recent events. */
export class ResourceCache {
  readonly prefix: string;
  /** Rises with every change. */
  generation = 0;
  /** Revision of the newest change, or of the initial load. */
  changedAt: number;
  readonly #byId = new Map<string, CacheEntry>();
  readonly #sorted: CacheEntry[] = [];
  #ring: CacheEvent[] = [];
  /** Every event after this revision is in the ring. */
  #ringFrom: number;
  readonly #listeners = new Set<CacheListener>();
  /** Objects whose stored bytes nobody can read, with why. */
  readonly #unreadable = new Map<string, unknown>();

  constructor(prefix: string, revision: number) {
    this.prefix = prefix;
    this.changedAt = revision;
    this.#ringFrom = revision;
  }

  get size(): number {
    return this.#byId.size;
  }

  get watchers(): number {
    return this.#listeners.size;
  }

  /** Throws for an object that is there and cannot be read. */
  get(id: string): CacheEntry | undefined {
    if (this.#unreadable.size > 0 && this.#unreadable.has(id)) throw this.#unreadable.get(id);
    return this.#byId.get(id);
  }

  /** Every object, in key order. Valid until the next change; copy to keep. */
  all(): readonly CacheEntry[] {
    this.#refuseUnreadable('');
    return this.#sorted;
  }

  /** The objects of a namespace ('' = all), in key order, from after `afterId` on. */
  range(namespace: string, afterId = ''): CacheEntry[] {
    const prefix = namespace === '' ? '' : `${namespace}/`;
    this.#refuseUnreadable(prefix);
    let at = this.#position(afterId > prefix ? afterId : prefix);
    if (afterId !== '' && this.#sorted[at]?.id === afterId) at++;
    if (prefix === '') return this.#sorted.slice(at);
    const end = this.#position(`${namespace}0`); // '0' follows '/'
    return this.#sorted.slice(at, Math.max(at, end));
  }

  /** Puts or removes without an event; for the initial load. */
  load(entry: CacheEntry): void {
    this.#place(entry);
  }

  put(entry: CacheEntry): void {
    const previous = this.#place(entry);
    this.#emit(new CacheEvent(entry.revision, entry, previous));
  }

  /** The stored bytes cannot be read: whoever asks for the object, or lists it, learns why. */
  loseSight(id: string, why: unknown): void {
    this.#unreadable.set(id, why);
  }

  /** A list without some of its objects would be a lie. */
  #refuseUnreadable(prefix: string): void {
    if (this.#unreadable.size === 0) return;
    for (const [id, why] of this.#unreadable) if (id.startsWith(prefix)) throw why;
  }

  remove(id: string, revision: number): void {
    this.#unreadable.delete(id);
    const previous = this.#byId.get(id);
    if (!previous) return;
    this.#byId.delete(id);
    this.#sorted.splice(this.#position(id), 1);
    this.#emit(new CacheEvent(revision, null, previous));
  }

  /** Events after `from`, or null when the ring no longer has them all. */
  since(from: number): CacheEvent[] | null {
    if (from < this.#ringFrom) return null;
    const ring = this.#ring;
    let low = 0;
    let high = ring.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((ring[middle] as CacheEvent).revision > from) high = middle;
      else low = middle + 1;
    }
    return ring.slice(low);
  }

  listen(listener: CacheListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #place(entry: CacheEntry): CacheEntry | null {
    const previous = this.#byId.get(entry.id) ?? null;
    if (this.#unreadable.size > 0) this.#unreadable.delete(entry.id);
    this.#byId.set(entry.id, entry);
    const at = this.#position(entry.id);
    if (previous) this.#sorted[at] = entry;
    else if (at === this.#sorted.length) this.#sorted.push(entry);
    else this.#sorted.splice(at, 0, entry);
    return previous;
  }

  #emit(event: CacheEvent): void {
    this.generation++;
    this.changedAt = event.revision;
    this.#ring.push(event);
    if (this.#ring.length > RING_EVENTS * 2) {
      this.#ringFrom = (this.#ring[this.#ring.length - RING_EVENTS - 1] as CacheEvent).revision;
      this.#ring = this.#ring.slice(-RING_EVENTS);
    }
    for (const listener of this.#listeners) listener(event);
  }

  /** Forgets events at or before `revision` (compaction): lets go of old versions' bytes. */
  forget(revision: number): void {
    if (revision <= this.#ringFrom) return;
    const kept = this.#ring.findIndex((event) => event.revision > revision);
    this.#ring = kept < 0 ? [] : this.#ring.slice(kept);
    this.#ringFrom = revision;
  }

  /** Index of the first entry whose id is not less than `id`. */
  #position(id: string): number {
    const sorted = this.#sorted;
    let low = 0;
    let high = sorted.length;
    if (high > 0 && (sorted[high - 1] as CacheEntry).id < id) return high;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((sorted[middle] as CacheEntry).id < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
