import type { Versions } from '#api/apply-versions.ts';
import { ignoredPaths, trackManagedFields } from '#api/apply.ts';
import { shapeOf } from '#api/field-shape.ts';
import { cloneJson } from '#api/json.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { formatTime } from '#api/time.ts';
import type { KubeObject } from '#api/types.ts';
import type { ServerContext, WriteOptions } from '#apiserver/resource/server-context.ts';
import { fromStored, toStored } from '#apiserver/resource/views.ts';
import { storedKind } from '#apiserver/watch-cache.ts';

/** Other versions of a kind, as owners of fields in them see its objects. */
export function versionsOf({ scheme }: ServerContext, kind: Kind): Versions {
  return (apiVersion) => {
    const [group, version] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
    const other = scheme.byKind(group ?? '', version ?? '', kind.kind);
    if (!other || storedKind(other) !== storedKind(kind)) return undefined;
    // What a webhook would make of an object is not known here.
    if (other.storedAs?.byWebhook || kind.storedAs?.byWebhook) return 'same';
    const shape = shapeOf(scheme.schemaOf(other), scheme.definitions);
    return {
      shape,
      // Versions of a definition without a webhook differ by name alone, whatever fits their schemas.
      of: (object) =>
        typeof kind.schema !== 'string' && kind.schema.custom
          ? { ...object, apiVersion }
          : fromStored(other, toStored(kind, cloneJson(object))),
    };
  };
}

/** Brings metadata.managedFields up to date with a write. Mutates `object`. */
export function trackFields(
  server: ServerContext,
  kind: Kind,
  subresource: string,
  old: KubeObject | null,
  object: KubeObject,
  options: WriteOptions,
): void {
  trackManagedFields({
    old,
    object,
    schema: server.scheme.schemaOf(kind),
    definitions: server.scheme.definitions,
    apiVersion: apiVersionOf(kind),
    manager: options.fieldManager,
    subresource,
    now: formatTime(server.clock.now()),
    versions: versionsOf(server, kind),
    ignored: ignoredPaths(subresource, kind.subresources?.['status'] !== undefined),
  });
}
