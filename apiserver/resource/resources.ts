import { cloneJson } from '#api/json.ts';
import type { Kind } from '#api/kind.ts';
import { notFoundError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { createObject } from '#apiserver/resource/create.ts';
import { deleteObject } from '#apiserver/resource/delete.ts';
import { checkIdentity } from '#apiserver/resource/metadata.ts';
import type { ServerContext, WriteOptions, Written } from '#apiserver/resource/server-context.ts';
import { keyOf, nameOf, stamp } from '#apiserver/resource/server-context.ts';
import { updateObject } from '#apiserver/resource/update.ts';
import { copyAs, fromStored } from '#apiserver/resource/views.ts';
import type { Resources, WriteAs } from '#apiserver/subresources/handler.ts';
import { idOf } from '#apiserver/watch-cache.ts';

/** The server's own door for handlers and bootstrap: the verbs, without HTTP. */
export function createResources(server: ServerContext): Resources {
  const own = <T extends KubeObject>(kind: Kind, written: Written): T =>
    fromStored(kind, cloneJson(written.object)) as T;
  return {
    async get<T extends KubeObject>(kind: Kind, key: { namespace?: string; name: string }) {
      await server.cache.fresh();
      const entry = server.cache.of(kind).get(idOf(key));
      if (!entry) throw notFoundError(nameOf(kind), key.name);
      return copyAs(kind, entry) as T;
    },
    async create<T extends KubeObject>(kind: Kind, object: T, as: WriteAs) {
      const copy = cloneJson(object);
      stamp(copy, kind);
      kind.defaults?.(copy);
      return own<T>(kind, await createObject(server, kind, copy, optionsOf(as)));
    },
    async update<T extends KubeObject>(
      kind: Kind,
      object: T,
      as: WriteAs & { subresource?: string },
    ) {
      const wanted = cloneJson(object);
      stamp(wanted, kind);
      kind.defaults?.(wanted);
      const change = (old: KubeObject): KubeObject => {
        checkIdentity(wanted, old, kind);
        return cloneJson(wanted);
      };
      const options = { ...optionsOf(as), subresource: as.subresource ?? '' };
      return own<T>(kind, await updateObject(server, kind, keyOf(wanted), change, options));
    },
    async modify<T extends KubeObject>(
      kind: Kind,
      key: { namespace?: string; name: string },
      change: (current: T) => void,
      as: WriteAs & { subresource?: string },
    ) {
      const options = { ...optionsOf(as), subresource: as.subresource ?? '', asIs: true };
      const changed = (old: KubeObject): KubeObject => {
        const copy = cloneJson(old);
        change(copy as T);
        return copy;
      };
      return own<T>(kind, await updateObject(server, kind, key, changed, options));
    },
    async delete(kind, key, options, as) {
      const deleted = await deleteObject(server, kind, key, options, optionsOf(as));
      return { object: own(kind, deleted), removed: deleted.removed };
    },
  };
}

export const optionsOf = (as: WriteAs): WriteOptions => ({
  user: as.user,
  signal: as.signal,
  dryRun: as.dryRun ?? false,
  fieldManager: as.fieldManager ?? 'unknown',
  warnings: as.warnings ?? [],
  annotate: as.annotate,
});
