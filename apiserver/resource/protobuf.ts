import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { encodeMessage, envelope, joinMessages } from '#proto/kubernetes-encode.ts';
import { messageNameOf } from '#proto/kubernetes-messages.ts';
import type { ListMeta } from '#apiserver/resource/answer.ts';
import { listKind } from '#apiserver/resource/answer.ts';
import { objectAs } from '#apiserver/resource/views.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';

/** Stored objects as protobuf: encoded when somebody first asks, and then shared like their JSON. */

/** By kind; also what a cache entry keeps a message's bytes under. */
const forms = new WeakMap<Kind, { name: string | undefined }>();

function formOf(kind: Kind): { name: string | undefined } {
  let form = forms.get(kind);
  if (!form) {
    // Custom kinds, and those that other servers define, have no message.
    const builtin = typeof kind.schema === 'string' || kind.schema.ref !== undefined;
    form = { name: builtin ? messageNameOf(apiVersionOf(kind), kind.kind) : undefined };
    forms.set(kind, form);
  }
  return form;
}

/** Whether answers about a kind cannot be protobuf, asked only when a client wants that. */
export const isTextual = (kind: Kind, accept: string | undefined): boolean =>
  accept !== undefined && accept.includes('protobuf') && formOf(kind).name === undefined;

/** The message of a stored object, without the envelope. */
function messageAs(kind: Kind, entry: CacheEntry): Buffer {
  const form = formOf(kind);
  return entry.view(form, () => encodeMessage(objectAs(kind, entry), nameOf(kind)));
}

function nameOf(kind: Kind): string {
  const { name } = formOf(kind);
  // Negotiation gave protobuf only to kinds that have a message.
  if (name === undefined) throw new Error(`${kind.kind} has no protobuf message`);
  return name;
}

/** A stored object as a whole body. */
export function bodyAs(kind: Kind, entry: CacheEntry): Buffer {
  return envelope(apiVersionOf(kind), kind.kind, messageAs(kind, entry));
}

/** A list of stored objects as a whole body. */
export function listBody(kind: Kind, metadata: ListMeta, entries: readonly CacheEntry[]): Buffer {
  const items = entries.map((entry) => messageAs(kind, entry));
  const raw = joinMessages(metadata, items, `${nameOf(kind)}List`);
  return envelope(apiVersionOf(kind), listKind(kind), raw);
}
