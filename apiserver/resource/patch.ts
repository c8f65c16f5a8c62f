import type { Kind } from '#api/kind.ts';
import { isPlainObject } from '#api/json.ts';
import type { Schema } from '#api/schema.ts';
import { badRequestError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { mediaType, unsupportedMedia } from '#apiserver/negotiate.ts';
import type { FieldValidation } from '#apiserver/resource/decode.ts';
import { checkType, conformObject, parseBody } from '#apiserver/resource/decode.ts';
import type { WriteOptions } from '#apiserver/resource/server-context.ts';
import type { Updated } from '#apiserver/resource/update.ts';
import { updateObject } from '#apiserver/resource/update.ts';
import type { Call } from '#apiserver/resource/verbs.ts';
import { nameObject, placeObject, placeOf } from '#apiserver/resource/verbs.ts';

/** Patches that other writes keep overtaking give up after this many attempts, as upstream. */
const MAX_ATTEMPTS = 5;

export type PatchType = 'json' | 'merge' | 'strategic' | 'apply';

const TYPES: Readonly<Record<string, PatchType>> = {
  'application/json-patch+json': 'json',
  'application/merge-patch+json': 'merge',
  'application/strategic-merge-patch+json': 'strategic',
  'application/apply-patch+yaml': 'apply',
};

export type PatchOptions = WriteOptions & {
  fieldValidation: FieldValidation;
  force: boolean | undefined;
};

/** Which patch a body is. Throws StatusError 415; custom kinds have no strategic merge. */
export function patchTypeOf(contentType: string | undefined, kind: Kind): PatchType {
  const type = TYPES[mediaType(contentType)];
  const custom = typeof kind.schema !== 'string';
  if (type && !(custom && type === 'strategic')) return type;
  const accepted = Object.keys(TYPES).filter((name) => !custom || TYPES[name] !== 'strategic');
  throw unsupportedMedia(accepted.join(', '));
}

/** Applies the request's patch to one object, by any of the patch types. Throws StatusError. */
export async function patchResource(call: Call, options: PatchOptions): Promise<Updated> {
  const { server, kind, info } = call;
  const apply = await patcherOf(call, server.scheme.schemaOf(kind));
  return updateObject(
    server,
    kind,
    placeOf(call),
    (old) => {
      const patched = apply(old);
      return readPatched(call, patched, old, options);
    },
    { ...options, subresource: info.subresource, attempts: MAX_ATTEMPTS },
  );
}

function parsePatch(body: Uint8Array | null): unknown {
  return parseBody(body, 'application/json', { findDuplicates: false }).value;
}

type Patcher = (target: KubeObject) => KubeObject;

/** The request's patch as a pure function from the stored object to the patched one. */
export async function patcherOf(call: Call, schema: Schema): Promise<Patcher> {
  const { server, kind, request } = call;
  const type = patchTypeOf(request.headers['content-type'], kind);
  const patch = parsePatch(request.body);
  const { definitions } = server.scheme;
  const { jsonPatch, mergePatch, strategicMergePatch } = await import('#api/patch.ts');
  switch (type) {
    case 'json':
      return (target) => jsonPatch(target, patch as never) as KubeObject;
    case 'merge':
      return (target) => mergePatch(target, patch) as KubeObject;
    case 'strategic':
      return (target) =>
        strategicMergePatch(target, patch as never, schema, definitions) as KubeObject;
    case 'apply':
      throw badRequestError('apply is not served yet');
  }
}

/** What came out of a patch is read like a body. */
function readPatched(
  { server, kind, info }: Call,
  patched: unknown,
  old: KubeObject,
  options: PatchOptions,
): KubeObject {
  if (!isPlainObject(patched)) throw badRequestError('the patch does not leave an object');
  const object = checkType(kind, structuredClone(patched), null);
  conformObject(kind, object, server.scheme.schemaOf(kind), server.scheme.definitions, {
    ...options,
    duplicates: [],
  });
  (object.metadata as unknown) ??= {};
  nameObject(object, info.name);
  placeObject(object, kind, old.metadata.namespace ?? '');
  kind.defaults?.(object);
  return object;
}
