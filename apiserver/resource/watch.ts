import { encodeObject } from '#api/encode.ts';
import type { Kind } from '#api/kind.ts';
import { apiVersionOf } from '#api/kind.ts';
import { expiredError, internalError, isStatusError } from '#api/status.ts';
import type { Status } from '#api/status.ts';
import { errorText } from '#base/log.ts';
import { encodeBody, watchFrame } from '#proto/kubernetes-encode.ts';
import { randomInt } from '#base/random.ts';
import type { Format } from '#apiserver/negotiate.ts';
import { PROTOBUF } from '#apiserver/negotiate.ts';
import { keepConverted } from '#apiserver/extensions/conversion.ts';
import type { Filter } from '#apiserver/resource/filter.ts';
import type { ListOptions } from '#apiserver/resource/list-options.ts';
import { readResourceVersion } from '#apiserver/resource/list-options.ts';
import { awaitRevision } from '#apiserver/resource/list.ts';
import { bodyAs } from '#apiserver/resource/protobuf.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import { objectAs, wireAs } from '#apiserver/resource/views.ts';
import { CompactedError } from '#apiserver/store/store.ts';
import type { IncludeObject } from '#apiserver/table.ts';
import { bookmarkTable, partialMetadata, tableOf } from '#apiserver/table.ts';
import { CacheEntry, spliceVersion } from '#apiserver/watch-cache-entry.ts';
import type { FrameType, ResourceCache } from '#apiserver/watch-cache-resource.ts';
import { CacheEvent, frame } from '#apiserver/watch-cache-resource.ts';
import { storagePrefix, storedKind } from '#apiserver/watch-cache.ts';

/** A watcher with more than this undelivered is cut; it lists or resumes. */
const MAX_PENDING_BYTES = 16 * 1024 * 1024;
const TOO_SLOW = 'the watch was closed because its events were not read fast enough';
/** Frames are sent together up to about this size: one TLS record costs the same as many. */
const CHUNK_BYTES = 64 * 1024;
const BOOKMARK_PERIOD_MS = 60_000;
/** Watches without a timeout end by themselves between these, so that load spreads anew. */
const MIN_TIMEOUT_SECONDS = 1_800;
const TIMEOUT_SPREAD_SECONDS = 1_800;
/** Timers know no longer ones: 24 days. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export type WatchRequest = {
  kind: Kind;
  filter: Filter;
  options: ListOptions;
  format: Format;
  includeObject: IncludeObject;
  signal: AbortSignal;
};

/** The lines of a watch response, in chunks. Failures after the start are ERROR events. */
export async function openWatch(
  server: ServerContext,
  request: WatchRequest,
): Promise<AsyncIterable<Uint8Array>> {
  const { options } = request;
  const from = readResourceVersion(options.resourceVersion);
  const initial = options.sendInitialEvents ?? from === 0;
  if (initial) {
    if (from > 0) await awaitRevision(server, from);
    else if (options.resourceVersion === '') await server.cache.fresh();
  }
  // Without initial events and without a version, a watch starts at the present.
  if (!initial && from === 0) await server.cache.fresh();
  const { kind, filter } = request;
  if (initial && kind.storedAs?.byWebhook) {
    await server.conversion?.prepare(kind, server.cache.of(kind).range(filter.namespace));
  }
  return new WatchStream(server, request, initial, from).chunks();
}

const kindIds = new WeakMap<Kind, number>();
let lastKindId = 0;

/** Tells kinds apart: a custom kind that has changed shows objects in another way. */
function idOfKind(kind: Kind): number {
  const id = kindIds.get(kind) ?? ++lastKindId;
  kindIds.set(kind, id);
  return id;
}

/** One client's watch. */
class WatchStream {
  readonly #server: ServerContext;
  readonly #request: WatchRequest;
  readonly #resource: ResourceCache;
  readonly #initial: boolean;
  #from: number;
  /** Built-in JSON bytes go out as they are; other forms are made once for all who share `form`. */
  readonly #form: string | undefined;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Ends when the events so far have been converted. */
  #converted: Promise<void> = Promise.resolve();
  /** Ends the watch after what is pending. */
  #end = (): void => {};
  #cut = false;
  #wake: (() => void) | undefined;
  #headless = false;
  /** Events up to here are not for the live queue. */
  #after = 0;

  constructor(server: ServerContext, request: WatchRequest, initial: boolean, from: number) {
    this.#server = server;
    this.#request = request;
    this.#resource = server.cache.of(request.kind);
    this.#initial = initial;
    this.#from = from;
    const { kind, format, includeObject } = request;
    if (kind.storedAs || format.as || this.#isBinary) {
      this.#form = `${format.media} ${idOfKind(kind)} ${format.as?.kind ?? ''} ${includeObject}`;
    }
  }

  async *chunks(): AsyncGenerator<Uint8Array, void, void> {
    // Where it begins is settled in the same turn as it begins to listen: nothing falls between.
    const { revision } = this.#server.cache;
    if (this.#initial || this.#from === 0) this.#from = revision;
    this.#after = Math.max(this.#from, revision);
    const ends = new AbortController();
    this.#end = () => ends.abort();
    const kindEnds = this.#server.endOf?.(this.#request.kind);
    const signal = AbortSignal.any([
      this.#request.signal,
      this.#server.signal,
      ends.signal,
      ...(kindEnds ? [kindEnds] : []),
    ]);
    const stop = this.#resource.listen((event) => this.#offer(event));
    const onEnd = () => this.#wake?.();
    signal.addEventListener('abort', onEnd, { once: true });
    this.#startTimers(signal, () => ends.abort());
    try {
      if (this.#initial) yield* this.#initialEvents();
      else yield* this.#missedEvents(signal);
      while (!signal.aborted && !this.#cut) {
        const chunk = this.#take();
        if (chunk) yield chunk;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
      // What was committed before the end belongs to the watch.
      for (let chunk = this.#take(); chunk; chunk = this.#take()) yield chunk;
      if (this.#cut) yield this.#errorFrame(expiredError(TOO_SLOW));
    } catch (error) {
      yield this.#errorFrame(error);
    } finally {
      stop();
      ends.abort();
      this.#pending = [];
    }
  }

  #startTimers(signal: AbortSignal, end: () => void): void {
    const { clock, random } = this.#server;
    const { options } = this.#request;
    const seconds =
      options.timeoutSeconds ?? MIN_TIMEOUT_SECONDS + randomInt(random, TIMEOUT_SPREAD_SECONDS);
    const ms = Math.min(Math.max(seconds, 0) * 1000, MAX_TIMER_MS);
    clock.sleep(ms, { signal }).then(end, () => {});
    if (options.allowWatchBookmarks) this.#bookmarks(signal).catch(() => {});
  }

  /** Tells the client now and then how far it is, so that it can resume. Ends with the signal. */
  async #bookmarks(signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#server.clock.sleep(BOOKMARK_PERIOD_MS, { signal });
      this.#push(this.#bookmark(this.#server.cache.revision));
    }
  }

  *#initialEvents(): Generator<Uint8Array, void, void> {
    const { filter, options } = this.#request;
    const revision = this.#from;
    const entries = this.#resource.range(filter.namespace);
    let batch: Buffer[] = [];
    let bytes = 0;
    for (const entry of entries) {
      if (filter.matches && !filter.matches(entry)) continue;
      const line = this.#frame('ADDED', new CacheEvent(entry.revision, entry, null));
      batch.push(line);
      bytes += line.length;
      if (bytes < CHUNK_BYTES) continue;
      yield Buffer.concat(batch);
      batch = [];
      bytes = 0;
    }
    if (options.sendInitialEvents && options.allowWatchBookmarks) {
      batch.push(this.#bookmark(revision, { 'k8s.io/initial-events-end': 'true' }));
    }
    if (batch.length > 0) yield Buffer.concat(batch);
  }

  /** Events between the client's version and the subscription. */
  async *#missedEvents(signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const until = this.#after;
    const recent = this.#resource.since(this.#from);
    if (recent) {
      await this.#prepare(recent);
      const lines: Buffer[] = [];
      for (const event of recent) {
        if (event.revision > until) break;
        const line = this.#line(event);
        if (line) lines.push(line);
      }
      if (lines.length > 0) yield Buffer.concat(lines);
      return;
    }
    yield* this.#storedEvents(until, signal);
  }

  async *#storedEvents(until: number, signal: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    const home = storedKind(this.#request.kind);
    const prefix = storagePrefix(home.group, home.plural);
    const feed = this.#server.cache.store.watch({ prefix }, { from: this.#from, signal });
    for await (const { events, revision } of feed) {
      const lines: Buffer[] = [];
      for (const stored of events) {
        const at = stored.type === 'put' ? stored.entry.modRevision : stored.revision;
        if (at > until) break;
        const asEntry = (entry: {
          key: string;
          value: Uint8Array;
          createRevision: number;
          modRevision: number;
        }) =>
          new CacheEntry({
            id: entry.key.slice(prefix.length),
            createRevision: entry.createRevision,
            revision: entry.modRevision,
            wire: spliceVersion(entry.value, entry.modRevision),
          });
        const event = new CacheEvent(
          at,
          stored.type === 'put' ? asEntry(stored.entry) : null,
          stored.previous ? asEntry(stored.previous) : null,
        );
        const line = this.#line(event);
        if (line) lines.push(line);
      }
      if (lines.length > 0) yield Buffer.concat(lines);
      if (revision >= until) return;
    }
  }

  #offer(event: CacheEvent): void {
    if (event.revision <= this.#after || this.#cut) return;
    if (this.#request.kind.storedAs?.byWebhook) {
      this.#converted = this.#converted.then(() => this.#offerConverted(event));
      return;
    }
    const line = this.#line(event);
    if (line) this.#push(line);
  }

  /** Events wait for each other: a webhook may answer the later question first. */
  async #offerConverted(event: CacheEvent): Promise<void> {
    try {
      await this.#prepare([event]);
      const line = this.#line(event);
      if (line) this.#push(line);
    } catch (error) {
      this.#push(this.#errorFrame(error));
      this.#end();
    }
  }

  async #prepare(events: readonly CacheEvent[]): Promise<void> {
    const entries = events.flatMap(({ current, previous }) =>
      [current, previous].filter((entry) => entry !== null),
    );
    await this.#server.conversion?.prepare(this.#request.kind, entries);
  }

  #push(line: Buffer): void {
    this.#pending.push(line);
    this.#pendingBytes += line.length;
    if (this.#pendingBytes > MAX_PENDING_BYTES) {
      this.#cut = true;
      this.#pending = [];
      this.#pendingBytes = 0;
    }
    this.#wake?.();
  }

  #take(): Buffer | null {
    const { length } = this.#pending;
    if (length === 0) return null;
    let count = 0;
    let bytes = 0;
    while (count < length && bytes < CHUNK_BYTES) {
      bytes += (this.#pending[count] as Buffer).length;
      count++;
    }
    const chosen = count === length ? this.#pending : this.#pending.slice(0, count);
    this.#pending = count === length ? [] : this.#pending.slice(count);
    this.#pendingBytes -= bytes;
    return chosen.length === 1 ? (chosen[0] as Buffer) : Buffer.concat(chosen, bytes);
  }

  /** The event as this client sees it; null when it is none of its business. */
  #line(event: CacheEvent): Buffer | null {
    const { namespace, matches } = this.#request.filter;
    if (namespace !== '' && event.entry.namespace !== namespace) return null;
    const now = event.current !== null && (!matches || matches(event.current));
    const before = event.previous !== null && (!matches || matches(event.previous));
    if (!now && !before) return null;
    return this.#frame(now ? (before ? 'MODIFIED' : 'ADDED') : 'DELETED', event);
  }

  #frame(type: FrameType, event: CacheEvent): Buffer {
    const { kind, format, includeObject } = this.#request;
    if (this.#form === undefined) return event.frame(type);
    const show = (entry: CacheEntry, wire: Buffer): Uint8Array => {
      // A removed object shows the revision of its removal, which is in `wire` only.
      const shown =
        entry.wire === wire
          ? entry
          : new CacheEntry({
              id: entry.id,
              createRevision: entry.createRevision,
              revision: event.revision,
              wire,
            });
      if (shown !== entry) keepConverted(entry, shown);
      switch (format.as?.kind) {
        case undefined:
          return this.#isBinary ? bodyAs(kind, shown) : wireAs(kind, shown);
        case 'PartialObjectMetadata':
        case 'PartialObjectMetadataList':
          return this.#encode(partialMetadata(objectAs(kind, shown)));
        case 'Table': {
          const object = objectAs(kind, shown);
          const table = tableOf(kind, this.#server.scheme, [object], {
            includeObject,
            headless: this.#headless,
            metadata: { resourceVersion: object.metadata.resourceVersion },
            nowMs: this.#server.clock.now(),
          });
          return Buffer.from(JSON.stringify(table));
        }
      }
    };
    if (format.as?.kind !== 'Table') {
      return event.frame(type, this.#form, show, this.#isBinary ? watchFrame : frame);
    }
    // Ages differ from moment to moment, and only the first table describes its columns.
    const line = new CacheEvent(event.revision, event.current, event.previous).frame(
      type,
      this.#form,
      show,
    );
    this.#headless = true;
    return line;
  }

  #bookmark(revision: number, annotations?: Record<string, string>): Buffer {
    const { kind, format } = this.#request;
    const metadata = { resourceVersion: String(revision), ...(annotations ? { annotations } : {}) };
    if (format.as?.kind === 'Table') {
      const table = bookmarkTable(kind, this.#server.scheme, metadata, this.#headless);
      this.#headless = true;
      return this.#single('BOOKMARK', table);
    }
    const object =
      format.as === undefined
        ? { kind: kind.kind, apiVersion: apiVersionOf(kind), metadata }
        : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata };
    return this.#single('BOOKMARK', object);
  }

  #errorFrame(error: unknown): Buffer {
    let status: Status;
    if (isStatusError(error)) status = error.status;
    else if (error instanceof CompactedError) {
      status = expiredError(
        `too old resource version: ${this.#from} (${error.compactedRevision})`,
      ).status;
    } else {
      this.#server.log.error('watch failed', { error: errorText(error) });
      status = internalError(errorText(error)).status;
    }
    return this.#single('ERROR', status);
  }

  get #isBinary(): boolean {
    return this.#request.format.media === PROTOBUF;
  }

  #encode(object: { [member: string]: unknown }): Uint8Array {
    if (!this.#isBinary) return encodeObject(object);
    const body = encodeBody(object);
    if (!body) throw new Error('negotiation chose protobuf for what has no message');
    return body;
  }

  /** A frame that is this client's alone. */
  #single(type: 'BOOKMARK' | 'ERROR', object: { [member: string]: unknown }): Buffer {
    if (this.#isBinary) return watchFrame(type, this.#encode(object));
    return Buffer.from(`${JSON.stringify({ type, object })}\n`);
  }
}
