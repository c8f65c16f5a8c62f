import { conform } from '#api/conform.ts';
import { cloneJson, isPlainObject } from '#api/json.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { goText, jsonPatch, mergePatch, readPatch, strategicMergePatch } from '#api/patch.ts';
import type { Definitions, Schema } from '#api/schema.ts';
import { badRequestError, failure } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { mediaType, unsupportedMedia } from '#apiserver/negotiate.ts';
import type { FieldValidation } from '#apiserver/resource/decode.ts';
import { strictFaults } from '#apiserver/resource/decode.ts';
import type { WriteOptions } from '#apiserver/resource/server-context.ts';
import type { Updated } from '#apiserver/resource/update.ts';
import { updateObject } from '#apiserver/resource/update.ts';
import type { Call } from '#apiserver/resource/call.ts';
import { nameObject, placeObject, placeOf } from '#apiserver/resource/call.ts';

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
  if (patchTypeOf(call.request.headers['content-type'], kind) === 'apply') {
    const { applyResource } = await import('#apiserver/resource/apply.ts');
    return applyResource(call, options);
  }
  const patch = readRequestPatch(call, options);
  return updateObject(
    server,
    kind,
    placeOf(call),
    (old) => {
      const object = applyPatched(call, patch, old, kind, server.scheme.schemaOf(kind), options);
      nameObject(object, info.name);
      placeObject(object, kind, old.metadata.namespace ?? '');
      kind.defaults?.(object);
      return object;
    },
    { ...options, subresource: info.subresource },
  );
}

export type RequestPatch = {
  type: 'json' | 'merge' | 'strategic';
  value: unknown;
  duplicates: readonly string[];
  /** Members of JSON Patch operations that mean nothing. */
  unknown: readonly string[];
};

/** The request's body as a patch. Throws StatusError 400 and 415. */
export function readRequestPatch(
  { kind, request }: Call,
  { fieldValidation }: PatchOptions,
): RequestPatch {
  const type = patchTypeOf(request.headers['content-type'], kind);
  if (type === 'apply') throw badRequestError('apply is not served here');
  const findDuplicates = fieldValidation !== 'Ignore';
  const { value, duplicates, unknown } = readPatch(type, request.body ?? new Uint8Array(), {
    findDuplicates,
  });
  return { type, value, duplicates, unknown };
}

/** The stored object with the patch in it, read as a body would be. */
export function applyPatched(
  { server }: Call,
  patch: RequestPatch,
  old: KubeObject,
  kind: Kind,
  schema: Schema,
  options: PatchOptions,
): KubeObject {
  const { definitions } = server.scheme;
  const patched = patchedBy(patch, old, schema, definitions);
  const shown = patch.type === 'strategic' ? goText(patch.value) : JSON.stringify(patched);
  if (!isPlainObject(patched)) throw undecodable(shown, 'the patch does not leave an object');
  if (patched['apiVersion'] !== apiVersionOf(kind) || patched['kind'] !== kind.kind) {
    const type = `${String(patched['apiVersion'])}, Kind=${String(patched['kind'])}`;
    throw undecodable(shown, `the patch may not change the type to ${type}`);
  }
  const { unknown, typeErrors } = conform(patched, schema, definitions, {
    words: patch.type === 'strategic' ? 'restore' : 'json',
  });
  const [typeError] = typeErrors;
  if (typeError !== undefined) throw undecodable(shown, typeError);
  const faults = strictFaults([...patch.unknown, ...unknown.sort()], patch.duplicates);
  if (faults.length > 0 && options.fieldValidation === 'Strict') {
    throw undecodable(shown, `strict decoding error: ${faults.join(', ')}`);
  }
  if (options.fieldValidation === 'Warn') options.warnings.push(...faults);
  (patched['metadata'] as unknown) ??= {};
  return patched as KubeObject;
}

function patchedBy(
  { type, value }: RequestPatch,
  old: KubeObject,
  schema: Schema,
  definitions: Definitions,
): unknown {
  switch (type) {
    case 'json':
      return jsonPatch(old, value);
    case 'merge':
      return mergePatch(old, value);
    case 'strategic':
      // Its result shares what the patch does not touch.
      return cloneJson(strategicMergePatch(old, value, schema, definitions));
  }
}

/** What a patch leaves is no object of the kind. */
function undecodable(patch: string, why: string): Error {
  const message = `Invalid value: ${JSON.stringify(patch)}: ${why}`;
  return failure(422, 'Invalid', ` "" is invalid: patch: ${message}`, {
    causes: [{ reason: 'FieldValueInvalid', message, field: 'patch' }],
  });
}
