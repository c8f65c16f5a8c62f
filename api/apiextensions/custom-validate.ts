import { isTextFormat, matchesFormat } from '#api/apiextensions/custom-formats.ts';
import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import { regexOf } from '#api/cel/regex.ts';
import { CelError } from '#api/cel/values.ts';
import type { FieldError } from '#api/field-error.ts';
import {
  invalid,
  notSupported,
  required,
  tooLong,
  tooMany,
  typeInvalid,
} from '#api/field-error.ts';
import { equalJson, isPlainObject } from '#api/json.ts';
import { isInteger } from '#base/exact-json.ts';

/**
 * A value against a schema, in upstream's order and words. Source: OpenAPI v3 validation as
 * apiextensions.k8s.io/v1 documents it (JSONSchemaProps).
 */

/** Errors that belong to no field, as upstream prints them. */
export const NO_PATH = '<nil>';

/** The stored value that a new one replaces; with it, what is unchanged is not complained of. */
export type Correlated = { value: unknown } | undefined;

type Outcome = { errors: FieldError[]; matches: number };

/**
 * `path` is where the value is in its object, `name` what messages call it: they differ for a
 * status, which is checked by itself.
 */
export function validateValue(
  value: unknown,
  schema: SchemaProps,
  { path = '', old }: { path?: string; old?: Correlated } = {},
): FieldError[] {
  const { errors } = check(value, schema, '', old);
  if (path === '') return unique(errors);
  return unique(errors.map((error) => ({ ...error, path: under(path, error.path) })));
}

function under(path: string, inner: string): string {
  if (inner === NO_PATH || inner === '') return path;
  return inner.startsWith('[') ? path + inner : `${path}.${inner}`;
}

function unique(errors: readonly FieldError[]): FieldError[] {
  const seen = new Set<string>();
  return errors.filter(({ path, message }) => {
    const key = `${path}\n${message}`;
    return seen.has(key) ? false : seen.add(key);
  });
}

const inBody = (path: string, text: string): string => `${path} in body ${text}`;

/** A value that is as it was is taken, whatever the schema says now. */
function check(value: unknown, schema: SchemaProps, path: string, old: Correlated): Outcome {
  const outcome = checkNode(value, schema, path, old);
  if (outcome.errors.length > 0 && old && equalJson(value, old.value)) {
    return { errors: [], matches: outcome.matches };
  }
  return outcome;
}

function checkNode(value: unknown, schema: SchemaProps, path: string, old: Correlated): Outcome {
  const outcome: Outcome = { errors: [], matches: 0 };
  const add = (errors: readonly FieldError[]): void => {
    outcome.errors.push(...errors);
    outcome.matches++;
  };
  if (hasType(schema)) add(checkType(value, schema, path));
  if (value === null) {
    add(checkEnum(value, schema, path));
    return outcome;
  }
  const logic = checkLogic(value, schema, path, old);
  outcome.errors.push(...logic.errors);
  outcome.matches += logic.matches;
  if (typeof value === 'string') {
    add(checkText(value, schema, path));
    if (schema.format && isTextFormat(schema.format)) add(checkFormat(value, schema.format, path));
  }
  if (typeof value === 'number' || typeof value === 'bigint') add(checkNumber(value, schema, path));
  if (Array.isArray(value)) add(checkList(value, schema, path, old));
  add(checkEnum(value, schema, path));
  if (isPlainObject(value)) {
    const object = checkObject(value, schema, path, old);
    outcome.errors.push(...object.errors);
    outcome.matches += object.matches + 1;
  }
  return outcome;
}

const hasType = (schema: SchemaProps): boolean =>
  (schema.type ?? '') !== '' ||
  (schema.format ?? '') !== '' ||
  schema['x-kubernetes-int-or-string'] === true;

/** Beyond these a JSON number is no integer of Go's. */
const INT64 = 2 ** 63;
const INT32 = 2 ** 31;

function typeOf(value: unknown): string {
  if (typeof value === 'bigint') return 'integer';
  if (typeof value === 'number') {
    return Number.isInteger(value) && value >= -INT64 && value < INT64 ? 'integer' : 'number';
  }
  return Array.isArray(value) ? 'array' : typeof value;
}

const wrongType = (path: string, wanted: string, found: string): FieldError =>
  typeInvalid(
    path === '' ? NO_PATH : path,
    found,
    inBody(path, `must be of type ${wanted}: ${JSON.stringify(found)}`),
  );

function checkType(value: unknown, schema: SchemaProps, path: string): FieldError[] {
  const types = schema['x-kubernetes-int-or-string']
    ? ['integer', 'string']
    : schema.type
      ? [schema.type]
      : [];
  if (value === null) {
    if (types.length === 0 || schema.nullable) return [];
    return [wrongType(path, types.join(','), 'null')];
  }
  const found = typeOf(value);
  const { format = '' } = schema;
  const isWholeNumber =
    found === 'integer' ||
    (found === 'number' && Number.isInteger(value) && Math.abs(value as number) <= 2 ** 53);
  const fits =
    types.includes(found) ||
    (types.includes('integer') && isWholeNumber) ||
    (found === 'integer' && types.includes('number'));
  const isText = typeof value === 'string' || Array.isArray(value);
  if (!isText && format !== '' && !fits) {
    const shown = found === 'number' ? 'float64' : found === 'integer' ? 'int64' : '';
    if (shown !== format) return [wrongType(path, format, shown === '' ? '' : shown)];
  }
  const numeric = types.includes('number') || types.includes('integer');
  if (!numeric && format !== '' && isText) return [];
  if (types.length === 0 || fits) return [];
  return [wrongType(path, types.join(','), found)];
}

/** Upstream's message for failures that belong to no field. */
const general = (text: string): FieldError => invalid(NO_PATH, '', text);

function checkLogic(value: unknown, schema: SchemaProps, path: string, old: Correlated): Outcome {
  const outcome: Outcome = { errors: [], matches: 1 };
  const { anyOf, oneOf, allOf, not } = schema;
  const named = JSON.stringify(path);
  const best = (failed: readonly Outcome[]): Outcome | undefined =>
    failed.reduce<Outcome | undefined>(
      (top, one) => (top === undefined || one.matches > top.matches ? one : top),
      undefined,
    );
  if (anyOf?.length) {
    const outcomes = anyOf.map((inner) => check(value, inner, path, old));
    if (!outcomes.some(isValid)) {
      outcome.errors.push(general(`${named} must validate at least one schema (anyOf)`));
      outcome.errors.push(...(best(outcomes)?.errors ?? []));
    }
  }
  if (oneOf?.length) {
    const outcomes = oneOf.map((inner) => check(value, inner, path, old));
    const valid = outcomes.filter(isValid).length;
    if (valid !== 1) {
      const found = valid === 0 ? 'Found none valid' : `Found ${valid} valid alternatives`;
      outcome.errors.push(
        general(`${named} must validate one and only one schema (oneOf). ${found}`),
      );
      if (valid === 0) outcome.errors.push(...(best(outcomes)?.errors ?? []));
    }
  }
  if (allOf?.length) {
    const outcomes = allOf.map((inner) => check(value, inner, path, old));
    for (const { errors, matches } of outcomes) {
      outcome.errors.push(...errors);
      outcome.matches += matches;
    }
    const valid = outcomes.filter(isValid).length;
    if (valid !== allOf.length) {
      const none = valid === 0 ? '. None validated' : '';
      outcome.errors.push(general(`${named} must validate all the schemas (allOf)${none}`));
    }
  }
  if (not && isValid(check(value, not, path, undefined))) {
    outcome.errors.push(general(`${named} must not validate the schema (not)`));
  }
  return outcome;
}

const isValid = ({ errors }: Outcome): boolean => errors.length === 0;

/** Characters, not UTF-16 units. */
function lengthOf(text: string): number {
  let length = 0;
  for (const _ of text) length++;
  return length;
}

function checkText(value: string, schema: SchemaProps, path: string): FieldError[] {
  const { maxLength, minLength, pattern } = schema;
  if (maxLength !== undefined && lengthOf(value) > maxLength) return [tooLong(path, maxLength)];
  if (minLength !== undefined && lengthOf(value) < minLength) {
    return [invalid(path, value, inBody(path, `should be at least ${minLength} chars long`))];
  }
  if (pattern && !matchesPattern(pattern, value)) {
    return [invalid(path, value, inBody(path, `should match '${pattern}'`))];
  }
  return [];
}

/** Patterns are RE2's; one that cannot be read refuses everything. */
function matchesPattern(pattern: string, value: string): boolean {
  const regex = regexOf(pattern);
  return !(regex instanceof CelError) && regex.test(value);
}

function checkFormat(value: string, format: string, path: string): FieldError[] {
  if (matchesFormat(format, value)) return [];
  const text = inBody(path, `must be of type ${format}: ${JSON.stringify(value)}`);
  return [typeInvalid(path, value, text)];
}

function checkNumber(value: number | bigint, schema: SchemaProps, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const { type, format, multipleOf, minimum, maximum } = schema;
  if (type === 'integer') {
    const limit = format === 'int32' ? INT32 : INT64;
    if (!isInteger(value) || value < -limit || value >= limit) {
      const wanted = format ? `with format ${format}` : '(default format)';
      errors.push(general(`Checked value must be of type integer ${wanted} in ${path}`));
    }
  }
  const refuse = (text: string): void => {
    errors.push(invalid(path, value, inBody(path, text)));
  };
  if (multipleOf !== undefined && !isMultiple(Number(value), multipleOf)) {
    refuse(`should be a multiple of ${multipleOf}`);
  }
  if (minimum !== undefined) {
    if (schema.exclusiveMinimum && value <= minimum) refuse(`should be greater than ${minimum}`);
    else if (value < minimum) refuse(`should be greater than or equal to ${minimum}`);
  }
  if (maximum !== undefined) {
    if (schema.exclusiveMaximum && value >= maximum) refuse(`should be less than ${maximum}`);
    else if (value > maximum) refuse(`should be less than or equal to ${maximum}`);
  }
  return errors;
}

function isMultiple(value: number, of: number): boolean {
  const times = of < 1 ? (1 / of) * value : value / of;
  return Number.isInteger(times);
}

function checkEnum(value: unknown, schema: SchemaProps, path: string): FieldError[] {
  const { enum: allowed } = schema;
  if (!allowed?.length || allowed.some((one) => equalJson(one, value))) return [];
  const shown = allowed.map((one) => (typeof one === 'string' ? one : JSON.stringify(one)));
  return [notSupported(path === '' ? NO_PATH : path, value as string, shown)];
}

function checkList(
  value: readonly unknown[],
  schema: SchemaProps,
  path: string,
  old: Correlated,
): FieldError[] {
  const errors: FieldError[] = [];
  const items = itemSchema(schema);
  if (items) {
    const before = itemsBefore(schema, old);
    for (const [i, item] of value.entries()) {
      errors.push(...check(item, items, `${path}[${i}]`, before(item)).errors);
    }
  }
  const { minItems, maxItems } = schema;
  if (minItems !== undefined && value.length < minItems) {
    const text = inBody(path, `should have at least ${minItems} items`);
    errors.push(invalid(path, value.length, text));
  }
  if (maxItems !== undefined && value.length > maxItems) {
    errors.push(tooMany(path, value.length, maxItems));
  }
  return errors;
}

/** How an item of a map list is found in the stored list; items of other lists are all new. */
export function itemsBefore(schema: SchemaProps, old: Correlated): (item: unknown) => Correlated {
  const keys = schema['x-kubernetes-list-map-keys'];
  if (!old || schema['x-kubernetes-list-type'] !== 'map' || !keys || !Array.isArray(old.value)) {
    return () => undefined;
  }
  const stored = new Map<string, unknown>();
  for (const item of old.value as unknown[]) {
    const key = keyOf(item, keys);
    if (key !== undefined && !stored.has(key)) stored.set(key, item);
  }
  return (item) => {
    const key = keyOf(item, keys);
    return key !== undefined && stored.has(key) ? { value: stored.get(key) } : undefined;
  };
}

const keyOf = (item: unknown, keys: readonly string[]): string | undefined =>
  isPlainObject(item) ? JSON.stringify(keys.map((key) => item[key] ?? null)) : undefined;

/** The stored value of a member. */
export function memberBefore(old: Correlated, key: string): Correlated {
  if (!old || !isPlainObject(old.value) || !Object.hasOwn(old.value, key)) return undefined;
  return { value: old.value[key] };
}

function checkObject(
  value: { [member: string]: unknown },
  schema: SchemaProps,
  path: string,
  old: Correlated,
): Outcome {
  const { minProperties, maxProperties, properties = {}, additionalProperties } = schema;
  const outcome: Outcome = { errors: [], matches: 0 };
  const count = Object.keys(value).length;
  if (minProperties !== undefined && count < minProperties) {
    const text = inBody(path, `should have at least ${minProperties} properties`);
    return { errors: [invalid(path, count, text)], matches: 0 };
  }
  if (maxProperties !== undefined && count > maxProperties) {
    return { errors: [tooMany(path, count, maxProperties)], matches: 0 };
  }
  const visit = (key: string, inner: SchemaProps): void => {
    const at = path === '' ? key : `${path}.${key}`;
    const { errors, matches } = check(value[key], inner, at, memberBefore(old, key));
    outcome.errors.push(...errors);
    outcome.matches += matches;
  };
  const values = valueSchema(schema);
  for (const key of Object.keys(value)) {
    if (Object.hasOwn(properties, key)) continue;
    if (values) visit(key, values);
    else if (additionalProperties === false) {
      const text = inBody(path, `is a forbidden property`);
      outcome.errors.push(invalid(path === '' ? key : `${path}.${key}`, '', text));
    }
  }
  for (const key of Object.keys(properties)) {
    const inner = properties[key];
    if (inner && Object.hasOwn(value, key)) visit(key, inner);
  }
  for (const key of schema.required ?? []) {
    if (Object.hasOwn(value, key) || properties[key]?.default !== undefined) continue;
    outcome.errors.push(required(path === '' ? key : `${path}.${key}`));
  }
  return outcome;
}
