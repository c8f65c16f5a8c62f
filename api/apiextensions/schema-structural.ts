import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import { regexOf } from '#api/cel/regex.ts';
import { CelError } from '#api/cel/values.ts';
import type { FieldError } from '#api/field-error.ts';
import { forbidden, invalid, required } from '#api/field-error.ts';
import { equalJson } from '#api/json.ts';
import type { Errors } from '#api/validate.ts';

/**
 * Whether a schema is structural: its types can be told without looking at values.
 * Source: Kubernetes "Specifying a structural schema".
 */

type Level = 'root' | 'item' | 'field';

/** What upstream's structural form cannot express; undefined for schemas that have it. */
export function unsupportedKeyword(schema: SchemaProps): string | undefined {
  if (schema.id) return 'id';
  if (schema.$schema) return '$schema';
  if (schema.$ref !== undefined) return '$ref';
  if (schema.patternProperties) return 'patternProperties';
  if (schema.dependencies) return 'dependencies';
  if (schema.additionalItems !== undefined) return 'additionalItems';
  if (schema.definitions) return 'definitions';
  return Array.isArray(schema.items) ? 'items' : undefined;
}

/** Sorted by their texts. */
export function validateStructural(schema: SchemaProps, path: string): FieldError[] {
  const errors: Errors = [];
  checkNode(errors, schema, 'root', path);
  checkCompleteness(errors, schema, schema, path, path);
  const textOf = ({ path: at, message }: FieldError): string => `${at}: ${message}`;
  return errors.sort((a, b) => (textOf(a) < textOf(b) ? -1 : 1));
}

const LEVEL_TEXTS = {
  root: 'must not be empty at the root',
  item: 'must not be empty for specified array items',
  field: 'must not be empty for specified object fields',
} as const;

function checkNode(errors: Errors, schema: SchemaProps, level: Level, path: string): void {
  const { type = '', additionalProperties, properties } = schema;
  const isEmbedded = schema['x-kubernetes-embedded-resource'] === true;
  const isIntOrString = schema['x-kubernetes-int-or-string'] === true;
  const keepsUnknown = schema['x-kubernetes-preserve-unknown-fields'] === true;
  const items = itemSchema(schema);
  if (type === 'array' && !items) errors.push(required(`${path}.items`, 'must be specified'));
  if (items) checkNode(errors, items, 'item', `${path}.items`);
  for (const [name, inner] of Object.entries(properties ?? {})) {
    checkNode(errors, inner, 'field', `${path}.properties[${name}]`);
  }
  if (additionalProperties !== undefined) {
    const at = `${path}.additionalProperties`;
    if (level === 'root') errors.push(forbidden(at, 'must not be used at the root'));
    const values = valueSchema(schema);
    if (values) checkNode(errors, values, 'field', at);
  }
  if (isIntOrString && keepsUnknown) {
    const at = `${path}.x-kubernetes-preserve-unknown-fields`;
    errors.push(invalid(at, true, 'must be false if x-kubernetes-int-or-string is true'));
  }
  if (isIntOrString && isEmbedded) {
    const at = `${path}.x-kubernetes-embedded-resource`;
    errors.push(invalid(at, true, 'must be false if x-kubernetes-int-or-string is true'));
  }
  checkValues(errors, schema, path, {
    skipAnyOf: isIntOrStringList(schema.anyOf),
    skipFirstAllOf: isIntOrStringList(schema.allOf?.[0]?.anyOf),
  });
  if (isEmbedded && type !== 'object') {
    const text = 'must be object if x-kubernetes-embedded-resource is true';
    errors.push(type === '' ? required(`${path}.type`, text) : invalid(`${path}.type`, type, text));
  } else if (type === '' && !isIntOrString && !keepsUnknown) {
    errors.push(required(`${path}.type`, LEVEL_TEXTS[level]));
  }
  if (isEmbedded && additionalProperties !== undefined) {
    const text = 'must not be used if x-kubernetes-embedded-resource is set';
    errors.push(forbidden(`${path}.additionalProperties`, text));
  }
  if (level === 'root' && type !== '' && type !== 'object') {
    errors.push(invalid(`${path}.type`, type, 'must be object at the root'));
  }
  checkMetaFields(errors, schema, level, path);
  if (isEmbedded && !keepsUnknown && Object.keys(properties ?? {}).length === 0) {
    const text =
      'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields';
    errors.push(required(`${path}.properties`, text));
  }
}

/** kind and apiVersion are strings, and metadata says little, where they are a resource's. */
function checkMetaFields(errors: Errors, schema: SchemaProps, level: Level, path: string): void {
  const { properties } = schema;
  const isResource = level === 'root' || schema['x-kubernetes-embedded-resource'] === true;
  for (const name of ['kind', 'apiVersion']) {
    const inner = properties?.[name];
    if (!isResource || !inner || inner.type === 'string') continue;
    const at = `${path}.properties[${name}].type`;
    errors.push(invalid(at, inner.type ?? '', 'must be string'));
  }
  const metadata = properties?.['metadata'];
  if (!metadata) return;
  const at = `${path}.properties[metadata]`;
  if (isResource && metadata.type !== 'object') {
    errors.push(invalid(`${at}.type`, metadata.type ?? '', 'must be object'));
  }
  if (level !== 'root') return;
  const { type: _type, default: _default, properties: inner = {}, ...rest } = metadata;
  const known = Object.keys(inner).every((name) => name === 'name' || name === 'generateName');
  const others = Object.values(rest).some((value) => value !== undefined && value !== false);
  if (known && !others) return;
  const text =
    'must not specify anything other than name and generateName, but metadata is implicitly specified';
  errors.push(forbidden(at, text));
}

const INT_OR_STRING = [{ type: 'integer' }, { type: 'string' }];

const isIntOrStringList = (list: readonly SchemaProps[] | undefined): boolean =>
  list?.length === 2 && equalJson(list, INT_OR_STRING);

type Skips = { skipAnyOf: boolean; skipFirstAllOf: boolean };
const NO_SKIPS: Skips = { skipAnyOf: false, skipFirstAllOf: false };

/** The logical parts of a schema, which say nothing of structure. */
function checkValues(errors: Errors, schema: SchemaProps, path: string, skips: Skips): void {
  if (!skips.skipAnyOf) {
    for (const [i, inner] of (schema.anyOf ?? []).entries()) {
      checkNested(errors, inner, `${path}.anyOf[${i}]`, false);
    }
  }
  for (const [i, inner] of (schema.allOf ?? []).entries()) {
    checkNested(errors, inner, `${path}.allOf[${i}]`, skips.skipFirstAllOf && i === 0);
  }
  for (const [i, inner] of (schema.oneOf ?? []).entries()) {
    checkNested(errors, inner, `${path}.oneOf[${i}]`, false);
  }
  if (schema.not) checkNested(errors, schema.not, `${path}.not`, false);
  if (!schema.pattern) return;
  const regex = regexOf(schema.pattern);
  if (!(regex instanceof CelError)) return;
  const text = `must be a valid regular expression, but isn't: ${regex.message}`;
  errors.push(invalid(`${path}.pattern`, schema.pattern, text));
}

/** Keywords of structure, which stand outside of logic only. */
const FORBIDDEN: readonly [field: keyof SchemaProps, text: string][] = [
  ['type', 'must be empty to be structural'],
  ['additionalProperties', 'must be undefined to be structural'],
  ['default', 'must be undefined to be structural'],
  ['title', 'must be empty to be structural'],
  ['description', 'must be empty to be structural'],
  ['nullable', 'must be false to be structural'],
  ['x-kubernetes-preserve-unknown-fields', 'must be false to be structural'],
  ['x-kubernetes-embedded-resource', 'must be false to be structural'],
  ['x-kubernetes-int-or-string', 'must be false to be structural'],
  ['x-kubernetes-list-map-keys', 'must be empty to be structural'],
  ['x-kubernetes-list-type', 'must be undefined to be structural'],
  ['x-kubernetes-map-type', 'must be undefined to be structural'],
  ['x-kubernetes-validations', 'must be empty to be structural'],
];

const isSaid = (field: keyof SchemaProps, value: unknown): boolean => {
  if (value === undefined) return false;
  if (field === 'default' || field === 'additionalProperties') return true;
  if (Array.isArray(value)) return value.length > 0;
  return value !== '' && value !== false;
};

function checkNested(errors: Errors, schema: SchemaProps, path: string, skipAnyOf: boolean): void {
  checkValues(errors, schema, path, { ...NO_SKIPS, skipAnyOf });
  const items = itemSchema(schema);
  if (items) checkNested(errors, items, `${path}.items`, false);
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    checkNested(errors, inner, `${path}.properties[${name}]`, false);
  }
  for (const [field, text] of FORBIDDEN) {
    if (isSaid(field, schema[field])) errors.push(forbidden(`${path}.${field}`, text));
  }
  if (schema.properties?.['metadata']) {
    const at = `${path}.properties[metadata]`;
    errors.push(forbidden(at, 'must not be specified in a nested context'));
  }
}

/** Whatever logic speaks of exists in the structure. `at` is the place there, `path` in logic. */
function checkCompleteness(
  errors: Errors,
  logic: SchemaProps,
  structure: SchemaProps,
  at: string,
  path: string,
): void {
  const visit = (inner: SchemaProps, step: string): void =>
    checkNestedCompleteness(errors, inner, structure, at, `${path}.${step}`);
  if (logic.not) visit(logic.not, 'not');
  for (const [i, inner] of (logic.allOf ?? []).entries()) visit(inner, `allOf[${i}]`);
  for (const [i, inner] of (logic.anyOf ?? []).entries()) visit(inner, `anyOf[${i}]`);
  for (const [i, inner] of (logic.oneOf ?? []).entries()) visit(inner, `oneOf[${i}]`);
}

function checkNestedCompleteness(
  errors: Errors,
  logic: SchemaProps,
  structure: SchemaProps,
  at: string,
  path: string,
): void {
  checkCompleteness(errors, logic, structure, at, path);
  const items = itemSchema(logic);
  if (items) {
    const own = itemSchema(structure);
    const [inner, outer] = [`${at}.items`, `${path}.items`];
    if (own) checkNestedCompleteness(errors, items, own, inner, outer);
    else errors.push(required(inner, `because it is defined in ${outer}`));
  }
  for (const [name, property] of Object.entries(logic.properties ?? {})) {
    const own = structure.properties?.[name];
    const [inner, outer] = [`${at}.properties[${name}]`, `${path}.properties[${name}]`];
    if (own) checkNestedCompleteness(errors, property, own, inner, outer);
    else errors.push(required(inner, `because it is defined in ${outer}`));
  }
}
