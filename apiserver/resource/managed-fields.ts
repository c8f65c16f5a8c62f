import { ignoredPaths, trackManagedFields } from '#api/apply.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { formatTime } from '#api/time.ts';
import type { KubeObject } from '#api/types.ts';
import type { ServerContext, WriteOptions } from '#apiserver/resource/server-context.ts';

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
    ignored: ignoredPaths(subresource, kind.subresources?.['status'] !== undefined),
  });
}
