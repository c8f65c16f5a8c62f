import { compareFields, fieldsOfValue } from '#api/field-compare.ts';
import { difference } from '#api/field-set.ts';
import type { MaybeFields } from '#api/field-set.ts';
import type { Shape } from '#api/field-shape.ts';
import { isPlainObject } from '#api/json.ts';
import type { KubeObject } from '#api/types.ts';
import { parseExact } from '#base/exact-json.ts';

/**
 * The annotation in which kubectl's client-side apply keeps what it applied. Server-side apply by
 * kubectl reads and renews it, so that users can go over and back.
 * Source: Kubernetes "Upgrading from client-side apply to server-side apply".
 */
const ANNOTATION = 'kubectl.kubernetes.io/last-applied-configuration';

/** Fields that client-side apply set and that still have the values it gave them. */
export function lastAppliedFields(live: KubeObject, shape: Shape): MaybeFields {
  const text = live.metadata.annotations?.[ANNOTATION];
  if (text === undefined) return undefined;
  let last: unknown;
  try {
    last = parseExact(text);
  } catch (error) {
    // Users may write anything into an annotation; what cannot be read allows nothing.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (!isPlainObject(last)) return undefined;
  const { changed } = compareFields(live, last, shape);
  return difference(fieldsOfValue(last, shape), changed);
}

/** Where the annotation is there, it follows what is applied. Changes `object`. */
export function renewLastApplied(
  object: KubeObject,
  live: KubeObject | null,
  applied: KubeObject,
): void {
  if (live?.metadata.annotations?.[ANNOTATION] === undefined) return;
  const { annotations: _, managedFields: __, ...metadata } = applied.metadata;
  const { [ANNOTATION]: ___, ...annotations } = applied.metadata.annotations ?? {};
  const kept = Object.keys(annotations).length > 0 ? { ...metadata, annotations } : metadata;
  object.metadata = {
    ...object.metadata,
    annotations: {
      ...object.metadata.annotations,
      [ANNOTATION]: `${JSON.stringify(sorted({ ...applied, metadata: kept }))}\n`,
    },
  };
}

/** Members in alphabetical order, as kubectl writes the annotation. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, sorted(value[name])]),
  );
}
