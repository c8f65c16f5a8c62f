import { encodeObject } from '#api/encode.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import type { Status } from '#api/status.ts';
import { parseExact } from '#base/exact-json.ts';
import { encodeBody } from '#proto/kubernetes-encode.ts';
import { warningHeader } from '#apiserver/warnings.ts';
import { formatYaml } from '#apiserver/yaml.ts';
import type { Format } from '#apiserver/negotiate.ts';
import { PROTOBUF } from '#apiserver/negotiate.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import { Chunks } from '#apiserver/chunks.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';
import { listSegments } from '#apiserver/watch-cache-list.ts';
import { toBuffer } from '#apiserver/resource/views.ts';

const CACHE_CONTROL = 'no-cache, private';
const JSON_HEADERS = { 'content-type': 'application/json', 'cache-control': CACHE_CONTROL };
const YAML_HEADERS = { 'content-type': 'application/yaml', 'cache-control': CACHE_CONTROL };
const PROTOBUF_HEADERS = { 'content-type': PROTOBUF, 'cache-control': CACHE_CONTROL };
const TEXT_HEADERS = {
  'content-type': 'text/plain; charset=utf-8',
  'x-content-type-options': 'nosniff',
};

/** Answers with JSON bytes that exist already, turned into what the client asked for. */
export function answerWire(
  wire: Uint8Array | Chunks,
  format: Format,
  status = 200,
  warnings: readonly string[] = [],
): ServerResponse {
  if (format.media === 'application/json' && !format.pretty) {
    return { status, headers: withWarnings(JSON_HEADERS, warnings), body: wire };
  }
  const bytes = wire instanceof Chunks ? wire.join() : toBuffer(wire);
  return answerObject(
    parseExact(bytes.toString('utf8')) as { [member: string]: unknown },
    format,
    status,
    warnings,
  );
}

/** Answers with a value, encoded as the client asked for. */
export function answerObject(
  object: { [member: string]: unknown },
  format: Format,
  status = 200,
  warnings: readonly string[] = [],
): ServerResponse {
  if (format.media === 'application/yaml') {
    const headers = withWarnings(YAML_HEADERS, warnings);
    return { status, headers, body: formatYaml(object) };
  }
  if (format.media === PROTOBUF) {
    const body = encodeBody(object);
    // What has no message is JSON for everybody.
    if (body) return answerProtobuf(body, status, warnings);
  }
  const headers = withWarnings(JSON_HEADERS, warnings);
  if (format.pretty) return { status, headers, body: `${JSON.stringify(object, null, 2)}\n` };
  return { status, headers, body: encodeObject(object) };
}

/** Answers with a body that is protobuf already. */
export function answerProtobuf(
  body: Uint8Array,
  status = 200,
  warnings: readonly string[] = [],
): ServerResponse {
  return { status, headers: withWarnings(PROTOBUF_HEADERS, warnings), body };
}

export function answerText(text: string, status = 200): ServerResponse {
  return { status, headers: { ...TEXT_HEADERS }, body: text };
}

/** What paths that lead nowhere answer. */
export const notFoundPage = (): ServerResponse => answerText('404 page not found\n', 404);

export function answerStatus(status: Status, format: Format): ServerResponse {
  const response = answerObject(status, format, status.code);
  const seconds = status.details?.retryAfterSeconds;
  if (seconds !== undefined && seconds > 0) {
    response.headers = { ...response.headers, 'retry-after': String(seconds) };
  }
  return response;
}

function withWarnings(
  headers: Record<string, string>,
  warnings: readonly string[],
): Record<string, string> {
  // A fresh object each time: the pipeline adds headers of its own.
  if (warnings.length === 0) return { ...headers };
  return { ...headers, warning: warningHeader(warnings) };
}

/** `ConfigMapList`. */
export const listKind = (kind: Kind): string => kind.listKind ?? `${kind.kind}List`;

/** The head of every list: type and metadata, up to the items. */
export type ListMeta = {
  resourceVersion: string;
  continue?: string;
  remainingItemCount?: number;
};

const prefixLengths = new WeakMap<Kind, number>();

/** Built-in kinds leave apiVersion and kind out of a list's items; they stand on the list. */
function itemOffset(kind: Kind): number {
  let length = prefixLengths.get(kind);
  if (length === undefined) {
    const prefix = `{"apiVersion":"${apiVersionOf(kind)}","kind":"${kind.kind}",`;
    length = typeof kind.schema === 'string' ? Buffer.byteLength(prefix) : 1;
    prefixLengths.set(kind, length);
  }
  return length;
}

/** The head of a list, up to its items. */
function listHead(kind: Kind, metadata: ListMeta): Buffer {
  // Lists of custom resources always say where they continue.
  const meta = typeof kind.schema === 'string' ? metadata : { continue: '', ...metadata };
  return Buffer.from(
    `{"kind":"${listKind(kind)}","apiVersion":"${apiVersionOf(kind)}",` +
      `"metadata":${JSON.stringify(meta)},"items":[`,
  );
}

const LIST_END = Buffer.from(']}');

/** A list of stored objects as they are, out of pieces that other lists share. */
export function listChunks(kind: Kind, metadata: ListMeta, entries: readonly CacheEntry[]): Chunks {
  const pieces = listSegments(entries, itemOffset(kind));
  // Every item stands behind a comma; the first one needs none.
  const first = pieces[0];
  if (first) pieces[0] = first.subarray(1);
  return new Chunks([listHead(kind, metadata), ...pieces, LIST_END]);
}

/** A list out of its items' bytes, without decoding any. */
export function joinList(kind: Kind, metadata: ListMeta, items: readonly Buffer[]): Buffer {
  const head = listHead(kind, metadata);
  const skip = itemOffset(kind);
  let size = head.length + 2;
  for (const item of items) size += item.length - skip + 2;
  if (items.length > 0) size -= 1;
  const out = Buffer.allocUnsafe(size);
  let at = head.copy(out);
  for (let i = 0; i < items.length; i++) {
    const item = items[i] as Buffer;
    if (i > 0) out[at++] = 0x2c; // ,
    out[at++] = 0x7b; // {
    at += item.copy(out, at, skip);
  }
  out[at++] = 0x5d; // ]
  out[at++] = 0x7d; // }
  return out;
}
