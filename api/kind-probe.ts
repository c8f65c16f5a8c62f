import type { Kind } from '#api/kind.ts';
import type { FieldError } from '#api/field-error.ts';
import type { KubeObject } from '#api/types.ts';
import { validateObjectMeta, validateObjectMetaUpdate } from '#api/validate-meta.ts';

/** For tests: a kind at work on its own, in the order in which a server calls it. */

const line = ({ path, message }: FieldError): string => `${path}: ${message}`;

/** The object as a create would store it. */
export function asCreated<T extends KubeObject>(kind: Kind, input: object): T {
  const object = structuredClone(input) as KubeObject;
  object.metadata ??= { name: 'x' } as KubeObject['metadata'];
  if (kind.scope === 'Namespaced') object.metadata.namespace ??= 'default';
  kind.defaults?.(object);
  kind.prepareForCreate?.(object, { name: 'jane', groups: ['dev'] });
  return object as T;
}

/** What a create is refused for, as `path: message`. */
export function createErrors(kind: Kind, input: object): string[] {
  const object = asCreated(kind, input);
  const errors = [
    ...validateObjectMeta(object, kind),
    ...(kind.validate?.(object) ?? []),
    ...(kind.validateCreate?.(object) ?? []),
  ];
  return errors.map(line);
}

/** What a change of one stored object into another is refused for. */
export function updateErrors(kind: Kind, before: object, after: object): string[] {
  const old = asCreated(kind, before);
  old.metadata.resourceVersion = '1';
  const object = structuredClone(after) as KubeObject;
  object.metadata = { ...old.metadata, ...object.metadata };
  kind.defaults?.(object);
  kind.prepareForUpdate?.(object, old);
  const errors = [
    ...validateObjectMetaUpdate(object, old),
    ...(kind.validate?.(object) ?? []),
    ...(kind.validateUpdate?.(object, old) ?? []),
  ];
  return errors.map(line);
}
