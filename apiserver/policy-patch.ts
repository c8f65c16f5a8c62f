import type { Shape } from '#api/field-shape.ts';
import { isPlainObject } from '#api/json.ts';
import {
  CelList,
  CelMap,
  CelObject,
  Duration,
  durationText,
  Optional,
  Timestamp,
  timestampText,
  Uint,
  type Value,
} from '#api/cel/values.ts';

/** Patches that expressions make, as JSON. Source: Kubernetes "Mutating Admission Policy". */

class NotJson extends Error {}

function json(value: Value): unknown {
  if (value === null || ['boolean', 'string', 'number'].includes(typeof value)) return value;
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint) return Number(value.value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Timestamp) return timestampText(value);
  if (value instanceof Duration) return durationText(value);
  if (value instanceof CelList) return [...value].map(json);
  if (value instanceof CelMap) {
    const entries = value.keys().map((key) => [String(key), json(value.get(key) ?? null)] as const);
    return Object.fromEntries(entries);
  }
  if (value instanceof CelObject) {
    const entries = value.names().map((name) => [name, json(value.get(name) ?? null)] as const);
    return Object.fromEntries(entries);
  }
  if (value instanceof Optional && value.value !== undefined) return json(value.value);
  throw new NotJson('expression evaluated to a type that could not marshal to JSON');
}

/** Object types are named after the field they fill: `Object.spec` is only for `spec`. */
function nameProblem(value: Value, path: string): string | null {
  if (value instanceof CelList) {
    for (const item of value) {
      const problem = nameProblem(item, path);
      if (problem) return problem;
    }
    return null;
  }
  if (!(value instanceof CelObject)) return null;
  const { name } = value.type;
  if (name !== path) {
    return `type mismatch: unexpected type name ${JSON.stringify(name)}, expected ${JSON.stringify(path)}, which matches field name path from root Object type`;
  }
  for (const field of value.names()) {
    const problem = nameProblem(value.get(field) ?? null, `${path}.${field}`);
    if (problem) return problem;
  }
  return null;
}

/** The JSON of an `Object{…}`; text: why it is none. */
export function plainPatch(value: Value): unknown {
  if (!(value instanceof CelObject))
    return 'unsupported return type from ApplyConfiguration expression';
  try {
    return nameProblem(value, 'Object') ?? json(value);
  } catch (error) {
    if (error instanceof NotJson) return error.message;
    throw error;
  }
}

/** Operations of a JSON patch; text: why they are none. */
export function patchOperations(value: Value): unknown {
  if (!(value instanceof CelList)) {
    return 'type mismatch: JSONPatchType.expression should evaluate to array';
  }
  try {
    return [...value].map((one) => {
      if (!(one instanceof CelObject))
        throw new NotJson(
          'type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch',
        );
      return Object.fromEntries(one.names().map((name) => [name, json(one.get(name) ?? null)]));
    });
  } catch (error) {
    if (error instanceof NotJson) return error.message;
    throw error;
  }
}

/** Where a configuration would replace a whole list or map, of which it names only a part. */
export function atomicPaths(value: unknown, shape: Shape, path = ''): string[] {
  if (Array.isArray(value)) {
    if (shape.kind === 'whole') return [path];
    const { items } = shape;
    return items ? value.flatMap((item, i) => atomicPaths(item, items, `${path}[${i}]`)) : [];
  }
  if (!isPlainObject(value)) return [];
  if (shape.kind === 'whole') return path ? [path] : [];
  return Object.entries(value).flatMap(([name, member]) => {
    const inner = shape.fields.get(name) ?? shape.items;
    return inner ? atomicPaths(member, inner, `${path}.${name}`) : [];
  });
}
