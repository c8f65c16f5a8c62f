import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import type { FieldError } from '#api/field-error.ts';
import { duplicate, invalid } from '#api/field-error.ts';
import { isPlainObject } from '#api/json.ts';

/**
 * Lists that are sets have each item once, lists that are maps each key once.
 * Source: x-kubernetes-list-type.
 */
export function validateLists(
  value: unknown,
  schema: SchemaProps | undefined,
  path = '',
): FieldError[] {
  if (!schema) return [];
  if (Array.isArray(value)) return validateList(value, schema, path);
  if (!isPlainObject(value)) return [];
  const errors: FieldError[] = [];
  const values = valueSchema(schema);
  const { properties = {} } = schema;
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(properties, key)) {
      errors.push(...validateLists(value[key], properties[key], path ? `${path}.${key}` : key));
    } else if (values) errors.push(...validateLists(value[key], values, `${path}[${key}]`));
  }
  return errors;
}

function validateList(list: readonly unknown[], schema: SchemaProps, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const listType = schema['x-kubernetes-list-type'];
  if (listType === 'set') {
    for (const i of repeated(list)) errors.push(duplicate(`${path}[${i}]`, list[i]));
  } else if (listType === 'map') {
    errors.push(...validateMap(list, schema['x-kubernetes-list-map-keys'] ?? [], path));
  }
  const items = itemSchema(schema);
  if (items) {
    for (const [i, item] of list.entries()) {
      errors.push(...validateLists(item, items, `${path}[${i}]`));
    }
  }
  return errors;
}

function validateMap(
  list: readonly unknown[],
  keys: readonly string[],
  path: string,
): FieldError[] {
  const odd = list.findIndex((item) => item !== null && !isPlainObject(item));
  if (odd >= 0) {
    const text = 'must be an object for an array of list-type map';
    return [invalid(`${path}[${odd}]`, list[odd], text)];
  }
  const found = list.map((item) => {
    const key: { [member: string]: unknown } = {};
    if (!isPlainObject(item)) return key;
    for (const name of [...keys].sort()) if (Object.hasOwn(item, name)) key[name] = item[name];
    return key;
  });
  return repeated(found).map((i) => duplicate(`${path}[${i}]`, found[i]));
}

/** Indexes of the first repetition of each value that comes again. */
function repeated(list: readonly unknown[]): number[] {
  const seen = new Map<string, number>();
  const found: number[] = [];
  for (const [i, item] of list.entries()) {
    const key = JSON.stringify(item, sortMembers);
    const times = seen.get(key) ?? 0;
    seen.set(key, times + 1);
    if (times === 1) found.push(i);
  }
  return found;
}

function sortMembers(_: string, value: unknown): unknown {
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
