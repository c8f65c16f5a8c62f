import { encodeObject } from '#api/encode.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { internalError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { convertedEntry } from '#apiserver/extensions/conversion.ts';
import type { Written } from '#apiserver/resource/server-context.ts';
import { stamp } from '#apiserver/resource/server-context.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';

/** Objects are stored in one version; other versions of the same thing are views of it. */

/** JSON bytes of a stored object as `kind` shows it; shared, never mutate. */
export function wireAs(kind: Kind, entry: CacheEntry): Buffer {
  if (!kind.storedAs) return entry.wire;
  return entry.view(kind, () => toBuffer(encodeObject(objectAs(kind, entry))));
}

/** The decoded object as `kind` shows it. Shared when the kind is stored as itself. */
export function objectAs(kind: Kind, entry: CacheEntry): KubeObject {
  return kind.storedAs ? fromStored(kind, rawCopy(kind, entry)) : entry.object;
}

/** The same, the caller's own. */
export function copyAs(kind: Kind, entry: CacheEntry): KubeObject {
  return fromStored(kind, rawCopy(kind, entry));
}

/** A copy as it is stored, or as a webhook turned it; asked for before, where one is needed. */
function rawCopy(kind: Kind, entry: CacheEntry): KubeObject {
  if (!kind.storedAs?.byWebhook) return entry.copy();
  if (entry.object.apiVersion === apiVersionOf(kind)) return entry.copy();
  const converted = convertedEntry(kind, entry);
  if (!converted) throw internalError(`${entry.id} was not converted to ${apiVersionOf(kind)}`);
  return converted;
}

/** Turns a stored object, which it may reuse, into `kind`. */
export function fromStored(kind: Kind, stored: KubeObject): KubeObject {
  if (!kind.storedAs) return stored;
  const object = kind.storedAs.fromStored(stored);
  stamp(object, kind);
  return object;
}

/** Turns an object of `kind`, which it may reuse, into what is stored. */
export function toStored(kind: Kind, object: KubeObject): KubeObject {
  if (!kind.storedAs) return object;
  const stored = kind.storedAs.toStored(object);
  stamp(stored, kind.storedAs.kind());
  return stored;
}

/** Bytes of a write's result as `kind` shows it. */
export function writtenAs(kind: Kind, written: Written): { object: KubeObject; wire: Buffer } {
  if (!kind.storedAs && written.wire) return { object: written.object, wire: written.wire };
  const object = kind.storedAs ? fromStored(kind, structuredClone(written.object)) : written.object;
  return { object, wire: toBuffer(encodeObject(object)) };
}

export const toBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
