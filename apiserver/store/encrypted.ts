import { internalError } from '#api/status.ts';
import { errorText } from '#base/log.ts';
import { type Encryption, openValue, type ResourceEncryption } from '#apiserver/encryption.ts';
import type {
  CommitResult,
  Entry,
  ListResult,
  Store,
  WatchBatch,
  WatchEvent,
} from '#apiserver/store/store.ts';

/** `/registry/GROUP/PLURAL/...`; the core group is spelled out. */
const PLACE = /^\/registry\/([^/]*)\/([^/]*)\//;

/**
 * A store whose values are sealed by what `current` says of their resource: everything above it
 * sees plain values. Reading a value that no key opens throws a StatusError 500 that names it; the
 * others are not affected. Values are opened when somebody looks at them, so an own commit that
 * comes back by the watch costs nothing.
 */
export function encryptedStore(store: Store, current: () => Encryption): Store {
  const encryptionOf = (key: string): ResourceEncryption => {
    const [, group = '', plural = ''] = PLACE.exec(key) ?? [];
    return current().of(group === 'core' ? '' : group, plural);
  };
  const open = (entry: Entry): Entry => new SealedEntry(entry, encryptionOf);
  const openEvent = (event: WatchEvent): WatchEvent =>
    event.type === 'put'
      ? { ...event, entry: open(event.entry), previous: event.previous && open(event.previous) }
      : { ...event, previous: open(event.previous) };
  return {
    revision: () => store.revision(),
    async get(key) {
      const { entry, revision } = await store.get(key);
      return { entry: entry && open(entry), revision };
    },
    async list(range, options): Promise<ListResult> {
      const { entries, ...rest } = await store.list(range, options);
      return { ...rest, entries: entries.map(open) };
    },
    async commit(write): Promise<CommitResult> {
      const { key, value } = write;
      const sealed = value && (encryptionOf(key).transformers[0]?.seal(value, key) ?? value);
      const result = await store.commit({ ...write, value: sealed });
      return result.ok ? result : { ...result, current: result.current && open(result.current) };
    },
    async *watch(range, options): AsyncGenerator<WatchBatch, void, void> {
      for await (const { events, revision } of store.watch(range, options)) {
        yield { events: events.map(openEvent), revision };
      }
    },
    compact: (before) => store.compact(before),
    close: () => store.close(),
    sealFor: (key) => encryptionOf(key).transformers[0]?.prefix ?? '',
  };
}

class SealedEntry implements Entry {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly #sealed: Uint8Array;
  readonly #encryptionOf: (key: string) => ResourceEncryption;
  #opened: { value: Uint8Array; seal: string } | undefined;

  constructor(entry: Entry, encryptionOf: (key: string) => ResourceEncryption) {
    this.key = entry.key;
    this.createRevision = entry.createRevision;
    this.modRevision = entry.modRevision;
    this.#sealed = entry.value;
    this.#encryptionOf = encryptionOf;
  }

  get value(): Uint8Array {
    return this.#open().value;
  }

  get seal(): string {
    return this.#open().seal;
  }

  #open(): { value: Uint8Array; seal: string } {
    if (this.#opened) return this.#opened;
    const { key } = this;
    try {
      this.#opened = openValue(this.#encryptionOf(key), this.#sealed, key);
    } catch (error) {
      throw internalError(
        `unable to transform key ${JSON.stringify(key)}: ${errorText(error)}; ` +
          'its key must be among those of --encryption-provider-config',
      );
    }
    return this.#opened;
  }
}
