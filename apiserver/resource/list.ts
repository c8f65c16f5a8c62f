import type { Kind } from '#api/kind.ts';
import { badRequestError, expiredError } from '#api/status.ts';
import type { ListMeta } from '#apiserver/resource/answer.ts';
import type { Filter } from '#apiserver/resource/filter.ts';
import type { ListOptions } from '#apiserver/resource/list-options.ts';
import {
  decodeContinue,
  encodeContinue,
  expiredContinue,
  readResourceVersion,
  tooLargeVersion,
} from '#apiserver/resource/list-options.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import { CompactedError, FutureRevisionError } from '#apiserver/store/store.ts';
import { CacheEntry, spliceVersion } from '#apiserver/watch-cache-entry.ts';
import { storagePrefix, storedKind } from '#apiserver/watch-cache.ts';

export type Page = { metadata: ListMeta; entries: readonly CacheEntry[] };

/** How long a read waits for a revision that the server has not seen yet. */
const FUTURE_WAIT_MS = 3_000;
/** Entries per read of the store while a selector passes over what does not match. */
const SCAN_PAGE = 1_000;

/**
 * One page of a list, all of it a snapshot of one revision: the newest from the cache, older ones
 * from the store. Throws StatusError: 400 (token), 410 (snapshot gone), 504 (revision to come).
 */
export async function listPage(
  server: ServerContext,
  kind: Kind,
  filter: Filter,
  options: ListOptions,
): Promise<Page> {
  if (options.continue !== '') {
    if (options.resourceVersion !== '' && options.resourceVersion !== '0') {
      throw badRequestError('specifying resource version is not allowed when using continue');
    }
    const { revision, start } = decodeContinue(options.continue);
    if (revision === 0) return newestPage(server, kind, filter, options.limit, start);
    return snapshotPage(server, kind, filter, { limit: options.limit, revision, start });
  }
  const revision = readResourceVersion(options.resourceVersion);
  if (revision > 0) {
    const exact =
      options.resourceVersionMatch === 'Exact' ||
      (options.resourceVersionMatch === '' && options.limit > 0);
    await awaitRevision(server, revision);
    if (exact) {
      return snapshotPage(server, kind, filter, { limit: options.limit, revision, start: '' });
    }
  }
  return newestPage(server, kind, filter, options.limit, '', options.resourceVersion !== '');
}

/** The same, with what a webhook has to convert converted. */
export async function convertedPage(
  server: ServerContext,
  kind: Kind,
  filter: Filter,
  options: ListOptions,
): Promise<Page> {
  if (!kind.storedAs?.byWebhook) return listPage(server, kind, filter, options);
  await server.conversion?.prepare(kind, server.cache.of(kind).range(filter.namespace));
  const page = await listPage(server, kind, filter, options);
  await server.conversion?.prepare(kind, page.entries);
  return page;
}

/** `stale` = any state of the cache will do (the client named a version). */
async function newestPage(
  server: ServerContext,
  kind: Kind,
  filter: Filter,
  limit: number,
  start: string,
  stale = false,
): Promise<Page> {
  if (!stale) await server.cache.fresh();
  return cachedPage(server, kind, filter, { limit, revision: server.cache.revision, start });
}

type Cut = { limit: number; revision: number; start: string };

function cachedPage(server: ServerContext, kind: Kind, filter: Filter, cut: Cut): Page {
  const resource = server.cache.of(kind);
  const whole = cut.start === '' && filter.namespace === '';
  const range = whole ? resource.all() : resource.range(filter.namespace, cut.start);
  if (!filter.matches) {
    if (cut.limit === 0 || range.length <= cut.limit) return page(range, cut, false, 0);
    return page(range.slice(0, cut.limit), cut, true, range.length - cut.limit);
  }
  const found: CacheEntry[] = [];
  for (const entry of range) {
    if (!filter.matches(entry)) continue;
    if (cut.limit > 0 && found.length === cut.limit) return page(found, cut, true);
    found.push(entry);
  }
  return page(found, cut, false);
}

function page(
  entries: readonly CacheEntry[],
  { revision }: Cut,
  more: boolean,
  remaining?: number,
): Page {
  const metadata: ListMeta = { resourceVersion: String(revision) };
  const last = entries.at(-1);
  if (more && last) {
    metadata.continue = encodeContinue({ revision, start: last.id });
    if (remaining !== undefined) metadata.remainingItemCount = remaining;
  }
  return { metadata, entries };
}

/** The list as it was at a revision. */
async function snapshotPage(
  server: ServerContext,
  kind: Kind,
  filter: Filter,
  cut: Cut,
): Promise<Page> {
  const { cache } = server;
  // Its age alone ends a snapshot: clients rely on being told, not on what happened to change.
  if (cut.revision < cache.forgotten) throw expired(cut);
  if (cache.of(kind).changedAt <= cut.revision) return cachedPage(server, kind, filter, cut);
  try {
    return await storedPage(server, kind, filter, cut);
  } catch (error) {
    if (error instanceof CompactedError) throw expired(cut);
    if (error instanceof FutureRevisionError) {
      throw tooLargeVersion(cut.revision, server.cache.revision);
    }
    throw error;
  }
}

const expired = ({ start }: Cut): Error =>
  start === ''
    ? expiredError('The resourceVersion for the provided list is too old.')
    : expiredContinue(start);

async function storedPage(
  server: ServerContext,
  kind: Kind,
  filter: Filter,
  cut: Cut,
): Promise<Page> {
  const home = storedKind(kind);
  const root = storagePrefix(home.group, home.plural);
  const range = { prefix: filter.namespace === '' ? root : `${root}${filter.namespace}/` };
  const found: CacheEntry[] = [];
  let after = cut.start === '' ? undefined : root + cut.start;
  for (;;) {
    const limit = filter.matches ? SCAN_PAGE : cut.limit;
    const read = await server.cache.store.list(range, {
      at: cut.revision,
      ...(after === undefined ? {} : { after }),
      ...(limit > 0 ? { limit } : {}),
    });
    for (const stored of read.entries) {
      const entry = new CacheEntry({
        id: stored.key.slice(root.length),
        createRevision: stored.createRevision,
        revision: stored.modRevision,
        wire: spliceVersion(stored.value, stored.modRevision),
      });
      if (filter.matches && !filter.matches(entry)) continue;
      if (filter.matches && cut.limit > 0 && found.length === cut.limit) {
        return page(found, cut, true);
      }
      found.push(entry);
    }
    if (!filter.matches) return page(found, cut, read.remaining > 0, read.remaining);
    after = read.entries.at(-1)?.key;
    if (read.remaining === 0 || after === undefined) return page(found, cut, false);
  }
}

/** Waits a little for a revision that other servers may have written. Throws StatusError 504. */
export async function awaitRevision(server: ServerContext, revision: number): Promise<void> {
  if (server.cache.revision >= revision) return;
  const limit = AbortSignal.any([server.signal, AbortSignal.timeout(FUTURE_WAIT_MS)]);
  try {
    await server.cache.reached(revision, limit);
  } catch {
    throw tooLargeVersion(revision, server.cache.revision);
  }
}
