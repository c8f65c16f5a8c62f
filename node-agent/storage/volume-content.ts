import type * as models from '@kubernetes/client-node';
import type { Container, Plain, Pod } from '#api/types.ts';
import type { Payload } from '#node-agent/storage/atomic-writer.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import {
  type DownwardSource,
  fieldText,
  resourceText,
} from '#node-agent/containers/downward-api.ts';

export type KeyToPath = Plain<models.V1KeyToPath>;
export type DownwardItem = Plain<models.V1DownwardAPIVolumeFile>;

/** Mode of files whose volume names none. */
export const DEFAULT_MODE = 0o644;

/**
 * Files out of the keys of an object: all keys, or the ones `items` name. Throws ConfigError for a key
 * that is missing and not optional.
 */
export function keyFiles(
  data: ReadonlyMap<string, Buffer>,
  items: readonly KeyToPath[] | undefined,
  options: { defaultMode: number; optional: boolean; what: string },
): Payload {
  const { defaultMode, optional, what } = options;
  if (!items || items.length === 0)
    return new Map([...data].map(([key, content]) => [key, { content, mode: defaultMode }]));
  const files: Payload = new Map();
  for (const { key, path, mode } of items) {
    const content = data.get(key);
    if (content) files.set(path, { content, mode: mode ?? defaultMode });
    else if (!optional) throw new ConfigError(`${what} references non-existent key: ${key}`);
  }
  return files;
}

export function downwardFiles(
  items: readonly DownwardItem[],
  source: DownwardSource,
  defaultMode: number,
): Payload {
  const files: Payload = new Map();
  for (const { path, mode, fieldRef, resourceFieldRef } of items) {
    const text = fieldRef
      ? fieldText(source, fieldRef.fieldPath)
      : resourceFieldRef
        ? resourceText(
            source,
            containerNamed(source.pod, resourceFieldRef.containerName ?? ''),
            resourceFieldRef,
          )
        : '';
    files.set(path, { content: Buffer.from(text), mode: mode ?? defaultMode });
  }
  return files;
}

function containerNamed({ spec }: Pod, name: string): Container {
  const found = [...spec.containers, ...(spec.initContainers ?? [])].find((c) => c.name === name);
  if (!found) throw new ConfigError(`container ${name} not found`);
  return found;
}
