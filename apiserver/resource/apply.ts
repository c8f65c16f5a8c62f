import { applyPatch, ignoredPaths } from '#api/apply.ts';
import type { Applied } from '#api/apply.ts';
import { readApplied } from '#api/apply-config.ts';
import { conform } from '#api/conform.ts';
import { required } from '#api/field-error.ts';
import { cloneJson } from '#api/json.ts';
import { badRequestError, invalidError } from '#api/status.ts';
import { formatTime } from '#api/time.ts';
import type { KubeObject } from '#api/types.ts';
import { versionsOf } from '#apiserver/resource/managed-fields.ts';
import type { PatchOptions } from '#apiserver/resource/patch.ts';
import type { Updated } from '#apiserver/resource/update.ts';
import { updateObject } from '#apiserver/resource/update.ts';
import type { Call } from '#apiserver/resource/call.ts';
import { nameObject, placeObject, placeOf, requireCreate } from '#apiserver/resource/call.ts';

/**
 * Server-side apply of the request's body, which may create the object.
 * Throws StatusError: Invalid without a field manager, Conflict where other managers own what
 * would change, and what reading, admission and validation say.
 */
export async function applyResource(call: Call, options: PatchOptions): Promise<Updated> {
  return applyConfig(call, readAppliedBody(call, call.kind, options), options);
}

/** The body, as an object of `kind`: the resource's own or its subresource's. */
export function readAppliedBody(
  { info, request }: Call,
  kind: { group: string; version: string; kind: string },
  options: PatchOptions,
): KubeObject {
  if (!info.query.get('fieldManager')) {
    throw invalidError({ group: 'meta.k8s.io', kind: 'PatchOptions' }, '', [
      required('fieldManager', 'is required for apply patch'),
    ]);
  }
  return readApplied(request.body ?? new Uint8Array(), kind, {
    strict: options.fieldValidation === 'Strict',
  });
}

/** Applies a configuration of the resource's kind through the request's subresource. */
export async function applyConfig(
  call: Call,
  applied: KubeObject,
  options: PatchOptions,
): Promise<Updated> {
  const { server, kind, info } = call;
  const merge = (live: KubeObject | null): KubeObject =>
    decodeMerged(
      call,
      applyPatch({
        live,
        applied,
        kind,
        schema: server.scheme.schemaOf(kind),
        definitions: server.scheme.definitions,
        manager: options.fieldManager,
        subresource: info.subresource,
        now: formatTime(server.clock.now()),
        force: options.force ?? false,
        versions: versionsOf(server, kind),
        ignored: ignoredPaths(info.subresource, kind.subresources?.['status'] !== undefined),
      }),
    );
  return updateObject(server, kind, placeOf(call), merge, {
    ...options,
    subresource: info.subresource,
    tracked: true,
    ...(info.subresource === '' ? { orCreate: () => createApplied(call, merge) } : {}),
  });
}

/** The merged object is read like a body; then its fields get their owners. */
function decodeMerged(call: Call, merged: Applied): KubeObject {
  const { server, kind, info } = call;
  const decoded = cloneJson(merged.object);
  const { typeErrors } = conform(decoded, server.scheme.schemaOf(kind), server.scheme.definitions);
  const [typeError] = typeErrors;
  if (typeError !== undefined) throw badRequestError(typeError);
  nameObject(decoded, info.name);
  placeObject(decoded, kind, info.namespace);
  kind.defaults?.(decoded);
  merged.settle(decoded);
  return decoded;
}

function createApplied(call: Call, merge: (live: KubeObject | null) => KubeObject): KubeObject {
  requireCreate(call);
  const object = merge(null);
  delete object.metadata.resourceVersion;
  return object;
}
