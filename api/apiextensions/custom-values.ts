import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import { cloneJson, isPlainObject } from '#api/json.ts';

/**
 * What happens to the values of custom resources before they are validated: unknown fields and
 * nulls go, defaults come. All of it in place.
 * Source: Kubernetes "Specifying a structural schema": pruning, defaulting and nullable.
 */

/** Members that every resource has, whatever its schema says. */
const META_FIELDS = new Set(['apiVersion', 'kind', 'metadata']);

/**
 * Removes the fields that the schema does not have and returns their paths, sorted. The root's
 * apiVersion, kind and metadata are not looked at.
 */
export function pruneUnknown(
  value: unknown,
  schema: SchemaProps | undefined,
  { isRoot, remove = true }: { isRoot: boolean; remove?: boolean },
): string[] {
  const unknown: string[] = [];
  const root = isRoot ? { ...schema, 'x-kubernetes-embedded-resource': true } : schema;
  prune(value, root, '', { unknown, remove });
  return unknown.sort();
}

type Pruning = { unknown: string[]; remove: boolean };

const childPath = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`);

/** A field's schema; `found` without a schema where a map takes anything. */
function fieldSchema(
  schema: SchemaProps,
  key: string,
): { found: boolean; schema: SchemaProps | undefined } {
  const { properties, additionalProperties } = schema;
  if (properties && Object.hasOwn(properties, key)) return { found: true, schema: properties[key] };
  if (additionalProperties !== undefined) return { found: true, schema: valueSchema(schema) };
  return { found: false, schema: undefined };
}

function prune(
  value: unknown,
  schema: SchemaProps | undefined,
  path: string,
  pruning: Pruning,
): void {
  if (Array.isArray(value)) {
    const items = schema && itemSchema(schema);
    // Items of free lists are free unless they are described.
    if (!items && schema?.['x-kubernetes-preserve-unknown-fields']) return;
    for (const [i, item] of value.entries()) prune(item, items, `${path}[${i}]`, pruning);
    return;
  }
  if (!isPlainObject(value)) return;
  const keepsUnknown = schema?.['x-kubernetes-preserve-unknown-fields'] === true;
  for (const key of Object.keys(value)) {
    if (schema?.['x-kubernetes-embedded-resource'] && META_FIELDS.has(key)) continue;
    const field = schema ? fieldSchema(schema, key) : { found: false, schema: undefined };
    if (field.found) {
      if (field.schema || !keepsUnknown)
        prune(value[key], field.schema, childPath(path, key), pruning);
      continue;
    }
    if (keepsUnknown) continue;
    pruning.unknown.push(childPath(path, key));
    if (pruning.remove) delete value[key];
  }
}

/** Removes nulls where null is neither allowed nor replaced by a default. */
export function pruneNulls(value: unknown, schema: SchemaProps | undefined): void {
  if (Array.isArray(value)) {
    const items = schema && itemSchema(schema);
    for (const item of value) pruneNulls(item, items);
    return;
  }
  if (!isPlainObject(value)) return;
  for (const key of Object.keys(value)) {
    const field = schema && fieldSchema(schema, key).schema;
    if (value[key] === null && field && !field.nullable && field.default === undefined) {
      delete value[key];
    } else pruneNulls(value[key], field);
  }
}

const lacksValue = (value: unknown, schema: SchemaProps | undefined): boolean =>
  value === null && schema !== undefined && !schema.nullable;

const defaultOf = (schema: SchemaProps | undefined): unknown =>
  schema?.default === undefined ? null : cloneJson(schema.default);

/** Fills in the defaults of what is absent or null without being nullable. */
export function applyDefaults(value: unknown, schema: SchemaProps | undefined): void {
  if (!schema) return;
  if (Array.isArray(value)) {
    const items = itemSchema(schema);
    for (let i = 0; i < value.length; i++) {
      if (lacksValue(value[i], items)) value[i] = defaultOf(items);
      applyDefaults(value[i], items);
    }
    return;
  }
  if (!isPlainObject(value)) return;
  for (const [key, property] of Object.entries(schema.properties ?? {})) {
    if (property.default === undefined) continue;
    if (!Object.hasOwn(value, key) || lacksValue(value[key], property)) {
      value[key] = cloneJson(property.default);
    }
  }
  for (const key of Object.keys(value)) {
    const field = fieldSchema(schema, key).schema;
    if (!field) continue;
    if (!schema.properties?.[key] && lacksValue(value[key], field)) value[key] = defaultOf(field);
    applyDefaults(value[key], field);
  }
}

/** True when a schema can add anything to an object; spares a walk. */
export function hasDefaults(schema: SchemaProps): boolean {
  if (schema.default !== undefined) return true;
  const items = itemSchema(schema);
  const values = valueSchema(schema);
  return (
    Object.values(schema.properties ?? {}).some(hasDefaults) ||
    (items !== undefined && hasDefaults(items)) ||
    (values !== undefined && hasDefaults(values))
  );
}

/** Calls `visit` for every embedded resource inside `value`, the root excepted. */
export function eachEmbedded(
  value: unknown,
  schema: SchemaProps | undefined,
  visit: (resource: { [member: string]: unknown }, path: string) => void,
  path = '',
): void {
  if (!schema) return;
  if (Array.isArray(value)) {
    const items = itemSchema(schema);
    for (const [i, item] of value.entries()) eachEmbedded(item, items, visit, `${path}[${i}]`);
    return;
  }
  if (!isPlainObject(value)) return;
  if (path !== '' && schema['x-kubernetes-embedded-resource']) visit(value, path);
  for (const key of Object.keys(value)) {
    const { properties } = schema;
    const known = properties && Object.hasOwn(properties, key);
    const inner = known ? childPath(path, key) : `${path}[${key}]`;
    eachEmbedded(value[key], fieldSchema(schema, key).schema, visit, inner);
  }
}
