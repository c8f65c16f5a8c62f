import { setOwners } from '#api/apply.ts';
import { fieldsOf as fieldSetOf } from '#api/field-set.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind, Subresource } from '#api/kind.ts';
import { isPlainObject } from '#api/json.ts';
import { readOwners, scaledOwners } from '#api/managed-fields.ts';
import { internalError, notFoundError } from '#api/status.ts';
import type { KubeObject, Scale } from '#api/types.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import { answerObject } from '#apiserver/resource/answer.ts';
import { decodeObject } from '#apiserver/resource/decode.ts';
import { applyConfig, readAppliedBody } from '#apiserver/resource/apply.ts';
import { applyPatched, patchTypeOf, readRequestPatch } from '#apiserver/resource/patch.ts';
import type { PatchOptions } from '#apiserver/resource/patch.ts';
import { readWriteOptions } from '#apiserver/resource/request-options.ts';
import { nameOf } from '#apiserver/resource/server-context.ts';
import type { WriteOptions } from '#apiserver/resource/server-context.ts';
import { refuse } from '#apiserver/resource/create.ts';
import { updateObject } from '#apiserver/resource/update.ts';
import { objectAs } from '#apiserver/resource/views.ts';
import { checkIdentity } from '#apiserver/resource/metadata.ts';
import type { Call } from '#apiserver/resource/call.ts';
import { formatOf, nameObject, placeObject, placeOf } from '#apiserver/resource/call.ts';
import { invalid } from '#api/field-error.ts';
import { idOf } from '#apiserver/watch-cache.ts';

type ScalePart = Subresource & { type: 'scale' };

/** The scale subresource's own type; read and written like a kind. */
const SCALE: Kind = {
  group: 'autoscaling',
  version: 'v1',
  kind: 'Scale',
  plural: 'scales',
  singular: 'scale',
  scope: 'Namespaced',
  schema: 'V1Scale',
};
const SCALE_SCHEMA = { ref: 'io.k8s.api.autoscaling.v1.Scale' };

function partOf(kind: Kind): ScalePart {
  const part = kind.subresources?.['scale'];
  if (part?.type !== 'scale') throw new Error(`${kind.kind} has no scale`);
  return part;
}

export async function getScale(call: Call): Promise<ServerResponse> {
  const { server, kind, info } = call;
  const format = formatOf(call);
  await server.cache.fresh();
  const entry = server.cache.of(kind).get(idOf(placeOf(call)));
  if (!entry) throw notFoundError(nameOf(kind), info.name);
  const object = objectAs(kind, entry);
  const part = partOf(kind);
  if (!part.selector && getPath(object, part.specReplicasPath) === undefined) {
    throw internalError(`the spec replicas field "${part.specReplicasPath}" does not exist`);
  }
  return answerObject(scaleOf(object, part), format);
}

export async function putScale(call: Call): Promise<ServerResponse> {
  const { kind, info, request, user } = call;
  const options = readWriteOptions(info, request, user, 'UpdateOptions');
  const wanted = decodeScale(call, request.body, options);
  nameObject(wanted, info.name);
  placeObject(wanted, kind, info.namespace);
  return writeScale(call, options, (_current, old) => {
    checkIdentity(wanted, old, kind);
    return wanted;
  });
}

export async function patchScale(call: Call): Promise<ServerResponse> {
  const { kind, info, request, user } = call;
  const options = readWriteOptions(info, request, user, 'PatchOptions');
  if (patchTypeOf(request.headers['content-type'], kind) === 'apply') {
    return applyScale(call, options);
  }
  const patch = readRequestPatch(call, options);
  return writeScale(call, options, (current) => {
    const object = applyPatched(call, patch, current, SCALE, SCALE_SCHEMA, options);
    nameObject(object, info.name);
    placeObject(object, kind, info.namespace);
    return object;
  });
}

/** Applying a scale is applying the one field of the object that it stands for. */
async function applyScale(call: Call, options: PatchOptions): Promise<ServerResponse> {
  const { kind, info } = call;
  const format = formatOf(call);
  const part = partOf(kind);
  const scale = readAppliedBody(call, SCALE, options);
  nameObject(scale, info.name);
  const { name, resourceVersion } = scale.metadata;
  const config: KubeObject = {
    apiVersion: apiVersionOf(kind),
    kind: kind.kind,
    metadata: { ...(name ? { name } : {}), ...(resourceVersion ? { resourceVersion } : {}) },
  };
  const replicas = (scale as Scale).spec?.replicas;
  if (replicas !== undefined) setPath(config, part.specReplicasPath, replicas);
  const written = await applyConfig(call, config, options);
  return answerObject(scaleOf(written.object, part), format, 200, options.warnings);
}

function decodeScale(
  { server, request }: Call,
  body: Uint8Array | null,
  options: ReturnType<typeof readWriteOptions>,
): KubeObject {
  const scheme = { ...server.scheme, schemaOf: () => SCALE_SCHEMA };
  return decodeObject(scheme, SCALE, body, {
    ...options,
    contentType: request.headers['content-type'],
  });
}

async function writeScale(
  call: Call,
  options: WriteOptions,
  change: (current: KubeObject, old: KubeObject) => KubeObject,
): Promise<ServerResponse> {
  const { server, kind, info } = call;
  const format = formatOf(call);
  const part = partOf(kind);
  const written = await updateObject(
    server,
    kind,
    placeOf(call),
    (old) => {
      const wanted = change(scaleOf(old, part), old);
      const replicas = (wanted as Scale).spec?.replicas ?? 0;
      // Custom kinds have a rule of their own for this.
      if (replicas < 0 && part.selector) {
        refuse(SCALE, info.name, [
          invalid('spec.replicas', replicas, 'must be greater than or equal to 0'),
        ]);
      }
      const object = structuredClone(old);
      setPath(object, part.specReplicasPath, replicas);
      if (replicas !== getPath(old, part.specReplicasPath)) {
        const scale = { path: fieldSetOf(part.specReplicasPath.replace(/^\./, '')), replicas };
        const by = { manager: options.fieldManager, apiVersion: apiVersionOf(kind) };
        setOwners(object, scaledOwners(readOwners(old.metadata.managedFields) ?? [], scale, by));
      }
      const { resourceVersion } = wanted.metadata;
      // A scale may always leave its version out, whatever its object may.
      if (resourceVersion) object.metadata.resourceVersion = resourceVersion;
      else if (kind.unconditionalUpdate !== false) delete object.metadata.resourceVersion;
      return object;
    },
    { ...options, subresource: 'scale', tracked: true },
  );
  return answerObject(scaleOf(written.object, part), format, 200, options.warnings);
}

/** An object's replica count as autoscaling/v1 Scale. */
export function scaleOf(object: KubeObject, part: ScalePart): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const selector = part.selector
    ? part.selector(object)
    : part.labelSelectorPath
      ? String(getPath(object, part.labelSelectorPath) ?? '')
      : '';
  const replicas = Number(getPath(object, part.specReplicasPath) ?? 0);
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: {
      ...(name === undefined ? {} : { name }),
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(creationTimestamp === undefined ? {} : { creationTimestamp }),
    },
    spec: replicas === 0 ? {} : { replicas },
    status: {
      replicas: Number(getPath(object, part.statusReplicasPath) ?? 0),
      ...(selector ? { selector } : {}),
    },
  };
}

const fieldsOf = (path: string): string[] => path.split('.').filter((field) => field !== '');

function getPath(object: KubeObject, path: string): unknown {
  let value: unknown = object;
  for (const field of fieldsOf(path)) {
    if (!isPlainObject(value)) return undefined;
    value = value[field];
  }
  return value;
}

function setPath(object: KubeObject, path: string, value: unknown): void {
  const fields = fieldsOf(path);
  const last = fields.pop();
  let at: { [member: string]: unknown } = object;
  for (const field of fields) {
    const next = at[field];
    at = isPlainObject(next) ? next : ((at[field] = {}) as { [member: string]: unknown });
  }
  if (last !== undefined) at[last] = value;
}
