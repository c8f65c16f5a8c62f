import { ALL_VERBS } from '#api/kind.ts';
import { isStatusError, notFoundError } from '#api/status.ts';
import type { Format } from '#apiserver/negotiate.ts';
import { PROTOBUF } from '#apiserver/negotiate.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import { answerObject, joinList, answerWire } from '#apiserver/resource/answer.ts';
import type { Call } from '#apiserver/resource/call.ts';
import {
  formatOf,
  methodNotAllowed,
  nameObject,
  placeObject,
  placeOf,
  requireCreate,
} from '#apiserver/resource/call.ts';
import { createObject } from '#apiserver/resource/create.ts';
import { decodeObject } from '#apiserver/resource/decode.ts';
import { readDeleteOptions } from '#apiserver/resource/delete-options.ts';
import { deleteObject } from '#apiserver/resource/delete.ts';
import { createFilter } from '#apiserver/resource/filter.ts';
import { readListOptions, readResourceVersion } from '#apiserver/resource/list-options.ts';
import { awaitRevision, convertedPage } from '#apiserver/resource/list.ts';
import { checkIdentity } from '#apiserver/resource/metadata.ts';
import { patchResource } from '#apiserver/resource/patch.ts';
import { includeObjectOf, presentList, presentObject } from '#apiserver/resource/present.ts';
import { readWriteOptions } from '#apiserver/resource/request-options.ts';
import { getScale, patchScale, putScale } from '#apiserver/resource/scale.ts';
import type { Written } from '#apiserver/resource/server-context.ts';
import { nameOf } from '#apiserver/resource/server-context.ts';
import { updateObject } from '#apiserver/resource/update.ts';
import { objectAs, wireAs, writtenAs } from '#apiserver/resource/views.ts';
import { openWatch } from '#apiserver/resource/watch.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';
import { idOf, storedKind } from '#apiserver/watch-cache.ts';

/** The generic verbs, for any kind. Throws StatusError. */
export function handleVerb(call: Call): Promise<ServerResponse> {
  const { kind, info } = call;
  const part = info.subresource === '' ? undefined : kind.subresources?.[info.subresource];
  if (part?.type === 'scale') return handleScale(call);
  const verbs: readonly string[] =
    part?.type === 'handler'
      ? part.verbs
      : part
        ? ['get', 'patch', 'update']
        : (kind.verbs ?? ALL_VERBS);
  if (!verbs.includes(info.verb)) throw methodNotAllowed();
  switch (info.verb) {
    case 'get':
      return getVerb(call);
    case 'list':
      return listVerb(call);
    case 'watch':
      return watchVerb(call);
    case 'create':
      // What is created has no address yet.
      if (info.name !== '' && info.subresource === '') throw methodNotAllowed();
      return createVerb(call);
    case 'update':
      return updateVerb(call);
    case 'patch':
      return patchVerb(call);
    case 'delete':
      return deleteVerb(call);
    case 'deletecollection':
      return deleteCollectionVerb(call);
    default:
      throw methodNotAllowed();
  }
}

function handleScale(call: Call): Promise<ServerResponse> {
  switch (call.info.verb) {
    case 'get':
      return getScale(call);
    case 'update':
      return putScale(call);
    case 'patch':
      return patchScale(call);
    default:
      throw methodNotAllowed();
  }
}

async function getVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info } = call;
  const format = formatOf(call);
  const version = info.query.get('resourceVersion') ?? '';
  if (version === '') {
    const pending = server.cache.fresh();
    if (pending) await pending;
  } else await awaitRevision(server, readResourceVersion(version));
  const entry = server.cache.of(kind).get(idOf(placeOf(call)));
  if (!entry) throw notFoundError(nameOf(kind), info.name);
  const converting = server.conversion?.prepare(kind, [entry]);
  if (converting) await converting;
  return presentEntry(call, entry, format);
}

function presentEntry(call: Call, entry: CacheEntry, format: Format): ServerResponse {
  const { server, kind, info } = call;
  const wire = format.media === PROTOBUF ? entry.wire : wireAs(kind, entry);
  const shown = { wire, object: () => objectAs(kind, entry), entry };
  return presentObject(server, kind, shown, format, info);
}

async function listVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info } = call;
  const format = formatOf(call);
  const options = readListOptions(info.query, false);
  const filter = createFilter(kind, placeOf(call), options);
  const page = await convertedPage(server, kind, filter, options);
  return presentList(server, kind, page, format, info);
}

async function watchVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info, request } = call;
  const options = readListOptions(info.query, true);
  const filter = createFilter(kind, placeOf(call), options);
  const format = formatOf(call, true);
  const includeObject = includeObjectOf(info);
  const { signal } = request;
  const body = await openWatch(server, { kind, filter, options, format, includeObject, signal });
  const headers = {
    'content-type':
      format.as === undefined && format.media === 'application/json'
        ? 'application/json'
        : `${format.media};stream=watch`,
    'cache-control': 'no-cache, private',
  };
  return { status: 200, headers, body };
}

async function createVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info, request, user } = call;
  const format = formatOf(call);
  const options = readWriteOptions(info, request, user, 'CreateOptions');
  const object = decodeObject(server.scheme, kind, request.body, {
    ...options,
    contentType: request.headers['content-type'],
  });
  placeObject(object, kind, info.namespace);
  const written = await createObject(server, kind, object, options);
  return presentWritten(call, written, format, 201, options.warnings);
}

/** The answer to a write. */
export async function presentWritten(
  { server, kind, info }: Call,
  written: Written,
  format: Format,
  status: number,
  warnings: readonly string[],
): Promise<ServerResponse> {
  const converting = server.conversion?.convert(written.object, storedKind(kind), kind);
  const shown = writtenAs(kind, converting ? { object: await converting, wire: null } : written);
  return presentObject(
    server,
    kind,
    { wire: shown.wire, object: () => shown.object },
    format,
    info,
    { status, warnings },
  );
}

async function updateVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info, request, user } = call;
  const format = formatOf(call);
  const options = readWriteOptions(info, request, user, 'UpdateOptions');
  const object = decodeObject(server.scheme, kind, request.body, {
    ...options,
    contentType: request.headers['content-type'],
  });
  nameObject(object, info.name);
  placeObject(object, kind, info.namespace);
  const mayCreate = kind.createOnUpdate === true && info.subresource === '';
  const written = await updateObject(
    server,
    kind,
    placeOf(call),
    (old) => {
      checkIdentity(object, old, kind);
      return structuredClone(object);
    },
    {
      ...options,
      subresource: info.subresource,
      ...(mayCreate
        ? {
            orCreate: () => {
              requireCreate(call);
              const { resourceVersion: _, ...metadata } = object.metadata;
              return { ...structuredClone(object), metadata };
            },
          }
        : {}),
    },
  );
  return presentWritten(call, written, format, written.created ? 201 : 200, options.warnings);
}

async function patchVerb(call: Call): Promise<ServerResponse> {
  const format = formatOf(call);
  const options = readWriteOptions(call.info, call.request, call.user, 'PatchOptions');
  const written = await patchResource(call, options);
  return presentWritten(call, written, format, written.created ? 201 : 200, options.warnings);
}

async function deleteVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info, request, user } = call;
  const format = formatOf(call);
  const options = readWriteOptions(info, request, user, 'DeleteOptions');
  const deletion = readDeleteOptions(info, request);
  if (deletion.dryRun?.length) options.dryRun = true;
  const deleted = await deleteObject(server, kind, placeOf(call), deletion, options);
  if (!deleted.removed || kind.returnsDeleted) {
    return presentWritten(call, deleted, format, 200, options.warnings);
  }
  const { name, uid } = deleted.object.metadata;
  const status = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Success',
    details: {
      name,
      ...(kind.group ? { group: kind.group } : {}),
      kind: kind.plural,
      uid,
    },
  };
  return answerObject(status, format, 200, options.warnings);
}

/** Objects of a collection that are deleted at the same time. */
const COLLECTION_WORKERS = 16;

async function deleteCollectionVerb(call: Call): Promise<ServerResponse> {
  const { server, kind, info, request, user } = call;
  const format = formatOf(call);
  const options = readWriteOptions(info, request, user, 'DeleteOptions');
  options.collection = true;
  const deletion = readDeleteOptions(info, request);
  if (deletion.dryRun?.length) options.dryRun = true;
  const list = readListOptions(info.query, false);
  const filter = createFilter(kind, placeOf(call), list);
  const { metadata, entries } = await convertedPage(server, kind, filter, list);
  // The list that is answered is how the objects were.
  const shown = entries.map((entry) => ({ entry, wire: wireAs(kind, entry) }));
  for (let at = 0; at < shown.length; at += COLLECTION_WORKERS) {
    await Promise.all(
      shown.slice(at, at + COLLECTION_WORKERS).map(async ({ entry }) => {
        try {
          await deleteObject(server, kind, entry, deletion, options);
        } catch (error) {
          if (!isStatusError(error, 'NotFound')) throw error;
        }
      }),
    );
  }
  if (format.as) return presentList(server, kind, { metadata, entries }, format, info);
  const wires = shown.map(({ wire }) => wire);
  return answerWire(joinList(kind, metadata, wires), format, 200, options.warnings);
}
