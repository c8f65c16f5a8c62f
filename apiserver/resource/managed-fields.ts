import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';
import type { ServerContext, WriteOptions } from '#apiserver/resource/server-context.ts';

/** Brings metadata.managedFields up to date with a write. Mutates `object`. */
export function trackFields(
  _server: ServerContext,
  _kind: Kind,
  _subresource: string,
  old: KubeObject | null,
  object: KubeObject,
  _options: WriteOptions,
): void {
  const kept = old?.metadata.managedFields;
  if (kept) object.metadata.managedFields = kept;
  else delete object.metadata.managedFields;
}
