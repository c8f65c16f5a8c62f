import { validateValue } from '#api/apiextensions/custom-validate.ts';
import { pruneUnknown } from '#api/apiextensions/custom-values.ts';
import { evaluateRules } from '#api/apiextensions/custom-expressions.ts';
import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema } from '#api/apiextensions/definition-types.ts';
import type { FieldError } from '#api/field-error.ts';
import { invalid } from '#api/field-error.ts';
import { cloneJson } from '#api/json.ts';
import type { Errors } from '#api/validate.ts';

/** Defaults have to be what their schema asks of values. Source: Kubernetes "Defaulting". */
export function validateDefaults(schema: SchemaProps, path: string): FieldError[] {
  const errors: Errors = [];
  visit(errors, schema, path, false, true);
  return errors;
}

const META_FIELDS = new Set(['apiVersion', 'kind', 'metadata']);

function visit(
  errors: Errors,
  schema: SchemaProps,
  path: string,
  insideMeta: boolean,
  isRoot: boolean,
): void {
  const isResource = isRoot || schema['x-kubernetes-embedded-resource'] === true;
  const inMeta = insideMeta && !isResource;
  if (schema.default !== undefined) checkDefault(errors, schema, `${path}.default`, inMeta);
  const items = itemSchema(schema);
  if (items) visit(errors, items, `${path}.items`, inMeta, false);
  for (const [name, inner] of Object.entries(schema.properties ?? {})) {
    const meta = inMeta || (isResource && META_FIELDS.has(name));
    visit(errors, inner, `${path}.properties[${name}]`, meta, false);
  }
}

function checkDefault(errors: Errors, schema: SchemaProps, path: string, inMeta: boolean): void {
  const value = schema.default;
  if (!inMeta) {
    const isRoot = schema['x-kubernetes-embedded-resource'] === true;
    if (pruneUnknown(cloneJson(value), schema, { isRoot }).length > 0) {
      errors.push(invalid(path, value, 'must not have unknown fields'));
    }
  }
  const wrong = validateValue(value, schema, { path });
  errors.push(...wrong);
  if (wrong.length === 0) errors.push(...evaluateRules(value, undefined, schema, { path }));
}
