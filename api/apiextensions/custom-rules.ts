import { evaluateRules } from '#api/apiextensions/custom-expressions.ts';
import { validateLists } from '#api/apiextensions/custom-lists.ts';
import { hasRules } from '#api/apiextensions/custom-programs.ts';
import { NO_PATH, memberBefore, validateValue } from '#api/apiextensions/custom-validate.ts';
import { eachEmbedded } from '#api/apiextensions/custom-values.ts';
import type { ScalePaths, SchemaProps } from '#api/apiextensions/definition-types.ts';
import type { FieldError } from '#api/field-error.ts';
import { invalid, required } from '#api/field-error.ts';
import { isPlainObject } from '#api/json.ts';
import type { KubeObject, ObjectMeta } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { MAX_INT32 } from '#api/validate.ts';
import { validateObjectMeta } from '#api/validate-meta.ts';
import { isDns1035Label, isPathSegment, isQualifiedName } from '#api/validate-names.ts';

/** What a version of a definition says about its objects. */
export type CustomRules = {
  schema: SchemaProps;
  scale: ScalePaths | undefined;
};

/** Rules of a new custom resource, its metadata apart. */
export function validateCustomCreate(object: KubeObject, rules: CustomRules): FieldError[] {
  const { schema, scale } = rules;
  const errors = [
    ...validateValue(object, schema),
    ...validateScaleSpec(object, scale),
    ...validateScaleStatus(object, scale),
    ...validateEmbedded(object, schema),
    ...validateLists(object, schema),
  ];
  return [...errors, ...expressions(errors, object, undefined, schema)];
}

/** The same of a changed one: what was stored so and stays so is not complained of. */
export function validateCustomUpdate(
  object: KubeObject,
  old: KubeObject,
  rules: CustomRules,
): FieldError[] {
  const { schema, scale } = rules;
  const isOldUnique = validateLists(old, schema).length === 0;
  const errors = [
    ...validateValue(object, schema, { old: { value: old } }),
    ...validateScaleSpec(object, scale),
    ...validateScaleStatus(object, scale),
    ...validateEmbedded(object, schema),
    ...(isOldUnique ? validateLists(object, schema) : []),
  ];
  return [...errors, ...expressions(errors, object, old, schema)];
}

/** The same through the status subresource. */
export function validateCustomStatus(
  object: KubeObject,
  old: KubeObject,
  rules: CustomRules,
): FieldError[] {
  const { schema, scale } = rules;
  const status = schema.properties?.['status'];
  const errors: FieldError[] = [];
  if (status && object['status'] !== undefined) {
    const before = memberBefore({ value: old }, 'status');
    errors.push(...validateValue(object['status'], status, { path: 'status', old: before }));
  }
  errors.push(...validateScaleStatus(object, scale));
  if (validateLists(old, schema).length === 0) errors.push(...validateLists(object, schema));
  return [...errors, ...expressions(errors, object, old, schema)];
}

const BLOCKING = new Set<FieldError['reason']>([
  'FieldValueNotSupported',
  'FieldValueRequired',
  'FieldValueTooLong',
  'FieldValueTooMany',
  'FieldValueTypeInvalid',
]);

const NOT_CHECKED: FieldError = invalid(
  NO_PATH,
  null,
  'some validation rules were not checked because the object was invalid; correct the existing errors to complete validation',
);

/** Expressions are not asked about an object that is not what they were written for. */
function expressions(
  errors: readonly FieldError[],
  object: KubeObject,
  old: KubeObject | undefined,
  schema: SchemaProps,
): FieldError[] {
  if (!hasRules(schema)) return [];
  if (errors.some(({ reason }) => BLOCKING.has(reason))) return [NOT_CHECKED];
  return evaluateRules(object, old && { value: old }, schema, { isRoot: true });
}

type Nested = { value: unknown; wrong: string | undefined };

/** Follows a dotted path; `wrong` says why it cannot be followed. */
function nested(object: KubeObject, path: string): Nested {
  const fields = path.replace(/^\./, '').split('.');
  let value: unknown = object;
  for (const [i, field] of fields.entries()) {
    if (value === undefined || value === null) return { value: undefined, wrong: undefined };
    if (!isPlainObject(value)) {
      const at = fields.slice(0, i + 1).join('.');
      const type = goType(value);
      const wrong = `.${at} accessor error: ${shown(value)} is of the type ${type}, expected map[string]interface{}`;
      return { value: undefined, wrong };
    }
    value = value[field];
  }
  return { value, wrong: undefined };
}

const shown = (value: unknown): string =>
  typeof value === 'string' ? value : JSON.stringify(value);

function goType(value: unknown): string {
  if (value === null) return '<nil>';
  if (Array.isArray(value)) return '[]interface {}';
  switch (typeof value) {
    case 'number':
      return Number.isInteger(value) ? 'int64' : 'float64';
    case 'boolean':
      return 'bool';
    case 'string':
      return 'string';
    default:
      return 'map[string]interface {}';
  }
}

function checkCount(errors: Errors, object: KubeObject, path: string): void {
  const { value, wrong } = nested(object, path);
  const refuse = (shownValue: number, text: string): void => {
    errors.push(invalid(path, shownValue, text));
  };
  if (wrong !== undefined) refuse(0, wrong);
  else if (value === undefined) return;
  else if (typeof value !== 'number' || !Number.isInteger(value)) {
    const at = path.startsWith('.') ? path : `.${path}`;
    const type = goType(value);
    refuse(0, `${at} accessor error: ${shown(value)} is of the type ${type}, expected int64`);
  } else if (value < 0) refuse(value, 'should be a non-negative integer');
  else if (value > MAX_INT32) refuse(value, `should be less than or equal to ${MAX_INT32}`);
}

function validateScaleSpec(object: KubeObject, scale: ScalePaths | undefined): FieldError[] {
  const errors: Errors = [];
  if (scale) checkCount(errors, object, scale.specReplicasPath);
  return errors;
}

function validateScaleStatus(object: KubeObject, scale: ScalePaths | undefined): FieldError[] {
  const errors: Errors = [];
  if (!scale) return errors;
  checkCount(errors, object, scale.statusReplicasPath);
  const { labelSelectorPath } = scale;
  if (!labelSelectorPath) return errors;
  const { value, wrong } = nested(object, labelSelectorPath);
  const isText = value === undefined || typeof value === 'string';
  if (wrong !== undefined) errors.push(invalid(labelSelectorPath, '', wrong));
  else if (!isText) {
    const text = `${labelSelectorPath} accessor error: ${shown(value)} is of the type ${goType(value)}, expected string`;
    errors.push(invalid(labelSelectorPath, '', text));
  }
  return errors;
}

/** Embedded resources have an apiVersion, a kind and well-formed metadata. */
function validateEmbedded(object: KubeObject, schema: SchemaProps): FieldError[] {
  const errors: Errors = [];
  eachEmbedded(object, schema, (resource, path) => {
    const { apiVersion, kind } = resource;
    if (apiVersion === undefined) errors.push(required(`${path}.apiVersion`));
    if (kind === undefined) errors.push(required(`${path}.kind`));
    if (typeof apiVersion === 'string') checkApiVersion(errors, `${path}.apiVersion`, apiVersion);
    if (typeof kind === 'string') checkKind(errors, `${path}.kind`, kind);
    if (!isPlainObject(resource['metadata'])) return;
    const metadata = resource['metadata'] as ObjectMeta;
    const named = { metadata: { ...metadata, name: metadata.name || 'fakename' } };
    const found = validateObjectMeta(named, {
      group: '',
      scope: metadata.namespace ? 'Namespaced' : 'Cluster',
      validateName: (name, prefix) => isPathSegment(name, prefix),
    });
    for (const error of found) errors.push({ ...error, path: `${path}.${error.path}` });
  });
  return errors;
}

function checkApiVersion(errors: Errors, path: string, apiVersion: string): void {
  if (apiVersion === '') errors.push(invalid(path, apiVersion, 'must not be empty'));
  else if (apiVersion.split('/').length > 2) {
    errors.push(invalid(path, apiVersion, `unexpected GroupVersion string: ${apiVersion}`));
  }
}

function checkKind(errors: Errors, path: string, kind: string): void {
  if (kind === '') {
    errors.push(invalid(path, kind, 'must not be empty'));
    return;
  }
  const wrong = isDns1035Label(kind.toLowerCase());
  if (wrong.length === 0) return;
  const text = `may have mixed case, but should otherwise match: ${wrong.join(',')}`;
  errors.push(invalid(path, kind, text));
}

const STANDARD_FINALIZERS = new Set(['orphan', 'foregroundDeletion', 'kubernetes']);

/** New finalizers whose names may clash with others'. */
export function finalizerWarnings(object: KubeObject, old: KubeObject | undefined): string[] {
  const known = new Set(old?.metadata.finalizers ?? []);
  const added = (object.metadata.finalizers ?? []).filter((name) => !known.has(name));
  return [...new Set(added)].sort().flatMap((name) => {
    const at = `metadata.finalizers: ${JSON.stringify(name)}: `;
    const warnings = isQualifiedName(name).map((text) => at + text);
    if (name.includes('/') || STANDARD_FINALIZERS.has(name)) return warnings;
    const path = name.includes('.') ? ' including a path (/)' : '';
    return [
      ...warnings,
      `${at}prefer a domain-qualified finalizer name${path} to avoid accidental conflicts with other finalizer writers`,
    ];
  });
}
