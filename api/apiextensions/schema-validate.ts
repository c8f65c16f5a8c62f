import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import { validateDefaults } from '#api/apiextensions/schema-defaults.ts';
import { checkListType, checkMapType } from '#api/apiextensions/schema-lists.ts';
import { RuleContext } from '#api/apiextensions/schema-rules-context.ts';
import { checkRules } from '#api/apiextensions/schema-rules.ts';
import { unsupportedKeyword, validateStructural } from '#api/apiextensions/schema-structural.ts';
import type { FieldError } from '#api/field-error.ts';
import { forbidden, invalid, notSupported } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';

export type SchemaOptions = {
  /** The version's schema is as it is stored: its rules may cost what they cost. */
  unchanged: boolean;
  /** Expressions that were taken before. */
  stored: ReadonlySet<string>;
};

/** Errors of the schema itself, and of its rules, which are told after all others. */
type Found = { schema: Errors; rules: Errors };

type Context = {
  options: SchemaOptions;
  allowDefaults: boolean;
  /** Why defaults are not allowed here. */
  noDefaults: string;
  insideMeta: boolean;
  /** The place above which old and new values cannot be matched; '' = they can. */
  uncorrelated: string;
};

/** A whole schema of a definition, in upstream's order. Source: as schema-structural.ts. */
export function checkSchema(
  schema: SchemaProps,
  path: string,
  options: SchemaOptions,
): FieldError[] {
  const errors: Errors = [];
  let rules: RuleContext | undefined;
  const isConvertible = !hasUnsupported(schema);
  if (isConvertible) {
    const structural = validateStructural(schema, path);
    const defaults = structural.length > 0 ? [] : validateDefaults(schema, path);
    errors.push(...structural, ...defaults);
    if (errors.length === 0) rules = new RuleContext(schema);
  }
  const found = checkNode(schema, path, true, rules, {
    options,
    allowDefaults: true,
    noDefaults: '',
    insideMeta: false,
    uncorrelated: '',
  });
  errors.push(...found.schema, ...found.rules);
  if (rules) errors.push(...rules.totalErrors(path));
  return errors;
}

function hasUnsupported(schema: SchemaProps): boolean {
  if (unsupportedKeyword(schema) !== undefined) return true;
  const values = valueSchema(schema);
  const items = itemSchema(schema);
  const inner = [
    ...Object.values(schema.properties ?? {}),
    ...(schema.allOf ?? []),
    ...(schema.anyOf ?? []),
    ...(schema.oneOf ?? []),
    ...(schema.not ? [schema.not] : []),
    ...(values ? [values] : []),
    ...(items ? [items] : []),
  ];
  return inner.some(hasUnsupported);
}

const META_FIELDS = new Set(['metadata', 'kind', 'apiVersion']);

function checkNode(
  schema: SchemaProps,
  path: string,
  isRoot: boolean,
  rules: RuleContext | undefined,
  context: Context,
): Found {
  const found: Found = { schema: [], rules: [] };
  const visit = (
    inner: SchemaProps,
    at: string,
    inside: RuleContext | undefined,
    changed: Partial<Context> = {},
  ): void => {
    const result = checkNode(inner, at, false, inside, { ...context, ...changed });
    found.schema.push(...result.schema);
    found.rules.push(...result.rules);
  };
  checkKeywords(found.schema, schema, path, context);
  if (schema.uniqueItems) {
    const text = 'uniqueItems cannot be set to true since the runtime complexity becomes quadratic';
    found.schema.push(forbidden(`${path}.uniqueItems`, text));
  }
  const values = valueSchema(schema);
  if (schema.additionalProperties !== undefined) {
    const at = `${path}.additionalProperties`;
    const hasProperties = Object.keys(schema.properties ?? {}).length > 0;
    if (hasProperties && schema.additionalProperties !== true) {
      found.schema.push(forbidden(at, 'additionalProperties and properties are mutual exclusive'));
    }
    const noDefaults = 'inside additionalProperties applying to object metadata';
    const changed = context.insideMeta ? { allowDefaults: false, noDefaults } : {};
    if (values) visit(values, at, rules?.value(values), changed);
  }
  const correlates = ['granular', 'atomic', undefined].includes(schema['x-kubernetes-map-type']);
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    const isMeta =
      (isRoot || schema['x-kubernetes-embedded-resource'] === true) && META_FIELDS.has(name);
    visit(inner, `${path}.properties[${name}]`, rules?.property(name, inner), {
      ...(correlates ? {} : { uncorrelated: context.uncorrelated || path }),
      ...(isMeta ? { insideMeta: true } : {}),
      ...(isMeta && isRoot ? { allowDefaults: false, noDefaults: `in top-level ${name}` } : {}),
    });
  }
  if (schema.not) visit(schema.not, `${path}.not`, undefined);
  for (const keyword of ['allOf', 'oneOf', 'anyOf'] as const) {
    for (const [i, inner] of (schema[keyword] ?? []).entries()) {
      visit(inner, `${path}.${keyword}[${i}]`, undefined);
    }
  }
  visitItems(schema, path, rules, context, visit);
  checkExtensions(found.schema, schema, path);
  const invalidRules = checkRules(schema, path, {
    rules,
    uncorrelated: context.uncorrelated,
    options: context.options,
    hasErrors: () => found.schema.length > 0,
  });
  found.schema.push(...invalidRules.schema);
  found.rules.push(...invalidRules.rules);
  return found;
}

type Visit = (
  inner: SchemaProps,
  at: string,
  inside: RuleContext | undefined,
  changed?: Partial<Context>,
) => void;

function visitItems(
  schema: SchemaProps,
  path: string,
  rules: RuleContext | undefined,
  context: Context,
  visit: Visit,
): void {
  if (schema.items === undefined) return;
  const isMap = schema['x-kubernetes-list-type'] === 'map';
  const changed = isMap ? {} : { uncorrelated: context.uncorrelated || path };
  const items = itemSchema(schema);
  if (items) visit(items, `${path}.items`, rules?.item(items), changed);
  else {
    for (const [i, inner] of (schema.items as readonly SchemaProps[]).entries()) {
      visit(inner, `${path}.items[${i}]`, undefined, changed);
    }
  }
}

const TYPES = ['array', 'boolean', 'integer', 'number', 'object', 'string'];

const UNSUPPORTED: readonly (keyof SchemaProps)[] = [
  'id',
  'additionalItems',
  'patternProperties',
  'definitions',
  'dependencies',
  '$ref',
];

function checkKeywords(errors: Errors, schema: SchemaProps, path: string, context: Context): void {
  const { type = '' } = schema;
  if (type !== '' && !TYPES.includes(type)) {
    errors.push(notSupported(`${path}.type`, type, TYPES));
  }
  if (schema.default !== undefined && !context.allowDefaults) {
    const detail = `must not be set${context.noDefaults ? ` ${context.noDefaults}` : ''}`;
    errors.push(forbidden(`${path}.default`, detail));
  }
  for (const keyword of UNSUPPORTED) {
    const value = schema[keyword];
    const isEmpty =
      value === undefined ||
      value === '' ||
      (typeof value === 'object' && Object.keys(value as object).length === 0);
    if (!isEmpty) errors.push(forbidden(`${path}.${keyword}`, `${keyword} is not supported`));
  }
  if (type === 'null') {
    const text = 'type cannot be set to null, use nullable as an alternative';
    errors.push(forbidden(`${path}.type`, text));
  }
  if (Array.isArray(schema.items) && schema.items.length > 0) {
    errors.push(forbidden(`${path}.items`, 'items must be a schema object and not an array'));
  }
  if (context.insideMeta && schema['x-kubernetes-embedded-resource']) {
    const at = `${path}.x-kubernetes-embedded-resource`;
    errors.push(forbidden(at, 'must not be used inside of resource meta'));
  }
}

function checkExtensions(errors: Errors, schema: SchemaProps, path: string): void {
  if (schema['x-kubernetes-preserve-unknown-fields'] === false) {
    const at = `${path}.x-kubernetes-preserve-unknown-fields`;
    errors.push(invalid(at, false, 'must be true or undefined'));
  }
  checkMapType(errors, schema, path);
  checkListType(errors, schema, path);
}
