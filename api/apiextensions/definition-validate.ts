import { APPROVAL_PATH, approvalOf, approvalText } from '#api/apiextensions/definition-approval.ts';
import { anySchema } from '#api/apiextensions/definition-defaults.ts';
import { hoist, shownVersions } from '#api/apiextensions/definition-internal.ts';
import type { HoistedSpec } from '#api/apiextensions/definition-internal.ts';
import {
  checkColumns,
  checkConversion,
  checkNames,
  checkSelectableFields,
  checkSubresources,
} from '#api/apiextensions/definition-parts-validate.ts';
import type {
  CustomResourceDefinition,
  DefinitionVersion,
  SchemaProps,
} from '#api/apiextensions/definition-types.ts';
import { isTrue } from '#api/apiextensions/definition-types.ts';
import { checkSchema } from '#api/apiextensions/schema-validate.ts';
import type { SchemaOptions } from '#api/apiextensions/schema-validate.ts';
import type { FieldError } from '#api/field-error.ts';
import { forbidden, invalid, required } from '#api/field-error.ts';
import { equalJson } from '#api/json.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkRequiredEnum } from '#api/validate.ts';
import { isDns1035Label, isDns1123Subdomain } from '#api/validate-names.ts';

const SCOPES = ['Cluster', 'Namespaced'];
const MAX_WARNING = 256;

/** A new definition, in upstream's order. Source: apiextensions.k8s.io/v1, field by field. */
export function validateDefinition(object: CustomResourceDefinition): FieldError[] {
  const { metadata, spec } = object;
  const errors: Errors = [];
  if (metadata.name && metadata.name !== `${spec.names?.plural ?? ''}.${spec.group ?? ''}`) {
    const text = 'must be spec.names.plural+"."+spec.group';
    errors.push(invalid('metadata.name', metadata.name, text));
  }
  checkSpec(errors, object, undefined);
  checkStatus(errors, object);
  const approval = approvalOf(object);
  if (approval?.state === 'missing') errors.push(required(APPROVAL_PATH, approval.message));
  if (approval?.state === 'invalid') {
    errors.push(invalid(APPROVAL_PATH, approvalText(object), approval.message));
  }
  checkKeepsUnknown(errors, object);
  return errors;
}

/** What a definition may become; what is wrong already may stay so. */
export function validateDefinitionUpdate(
  object: CustomResourceDefinition,
  old: CustomResourceDefinition,
): FieldError[] {
  const errors: Errors = [];
  const { spec } = object;
  const before = old.spec;
  checkSpec(errors, object, old);
  if (isTrue(old, 'Established')) {
    checkImmutable(errors, 'spec.scope', spec.scope, before.scope);
    checkImmutable(errors, 'spec.names.kind', spec.names.kind, before.names.kind);
  }
  checkImmutable(errors, 'spec.group', spec.group, before.group);
  checkImmutable(errors, 'spec.names.plural', spec.names.plural, before.names.plural);
  checkStatus(errors, object);
  const approval = approvalOf(object);
  if (approval && approval.state !== approvalOf(old)?.state) {
    if (approval.state === 'missing') errors.push(required(APPROVAL_PATH, approval.message));
    if (approval.state === 'invalid') {
      errors.push(invalid(APPROVAL_PATH, approvalText(object), approval.message));
    }
  }
  if (!before.preserveUnknownFields) checkKeepsUnknown(errors, object);
  return errors;
}

export function validateDefinitionStatus(object: CustomResourceDefinition): FieldError[] {
  const errors: Errors = [];
  const names = object.status?.acceptedNames;
  if (names) checkNames(errors, 'status.acceptedNames', names);
  return errors;
}

function checkKeepsUnknown(errors: Errors, { spec }: CustomResourceDefinition): void {
  if (!spec.preserveUnknownFields) return;
  const text =
    'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead';
  errors.push(invalid('spec.preserveUnknownFields', true, text));
}

function checkStatus(errors: Errors, object: CustomResourceDefinition): void {
  errors.push(...validateDefinitionStatus(object));
  const stored = object.status?.storedVersions ?? [];
  const path = 'status.storedVersions';
  if (stored.length === 0) {
    errors.push(invalid(path, null, 'must have at least one stored version'));
    return;
  }
  const { versions } = object.spec;
  for (const { name, storage } of versions) {
    if (storage && !stored.includes(name)) {
      errors.push(invalid(path, stored, `must have the storage version ${name}`));
    }
  }
  for (const [i, name] of stored.entries()) {
    if (versions.some((version) => version.name === name)) continue;
    const text = `missing from spec.versions; ${name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ${name} and removes ${name} from status.storedVersions`;
    errors.push(invalid(`${path}[${i}]`, name, text));
  }
}

function checkSpec(
  errors: Errors,
  object: CustomResourceDefinition,
  old: CustomResourceDefinition | undefined,
): void {
  const { spec } = object;
  const hoisted = hoist(object);
  checkGroup(errors, spec.group ?? '');
  checkRequiredEnum(errors, 'spec.scope', spec.scope, SCOPES);
  checkSchemasPresent(errors, hoisted, spec.preserveUnknownFields === true, old);
  const options = (version: string): SchemaOptions => ({
    unchanged: old !== undefined && isUnchanged(object, old, version),
    stored: old ? expressionsOf(old) : new Set(),
  });
  checkVersions(errors, hoisted, options);
  const { names } = spec;
  for (const field of ['plural', 'singular', 'kind', 'listKind'] as const) {
    if (!names?.[field]) errors.push(required(`spec.names.${field}`));
  }
  if (names) checkNames(errors, 'spec.names', names);
  const hasStatus = [hoisted.subresources, ...hoisted.versions.map((one) => one.subresources)].some(
    (subresources) => subresources?.status !== undefined,
  );
  checkValidation(
    errors,
    'spec.validation',
    hoisted.validation,
    hasStatus,
    options(hoisted.version),
  );
  checkSubresources(errors, 'spec.subresources', hoisted.subresources);
  checkColumns(errors, 'spec.additionalPrinterColumns', hoisted.columns);
  if (hoisted.selectableFields.length > 0) {
    const schema = hoisted.validation?.openAPIV3Schema;
    if (schema) {
      checkSelectableFields(errors, 'spec.selectableFields', hoisted.selectableFields, schema);
    } else {
      const text = 'may only be set when validations.schema is included';
      errors.push(invalid('spec.selectableFields', '', text));
    }
  }
  checkConversion(errors, object, old);
}

function checkGroup(errors: Errors, group: string): void {
  const wrong = isDns1123Subdomain(group);
  if (group === '') errors.push(required('spec.group'));
  else if (wrong.length > 0) errors.push(invalid('spec.group', group, wrong.join(',')));
  else if (!group.includes('.')) {
    errors.push(invalid('spec.group', group, 'should be a domain with at least one dot'));
  }
}

function checkSchemasPresent(
  errors: Errors,
  { validation, versions }: HoistedSpec,
  keepsUnknown: boolean,
  old: CustomResourceDefinition | undefined,
): void {
  if (validation?.openAPIV3Schema) return;
  const hadAll = old?.spec.versions.every(({ schema }) => schema?.openAPIV3Schema) ?? true;
  for (const [i, { schema, served }] of versions.entries()) {
    if (schema?.openAPIV3Schema) continue;
    const path = `spec.versions[${i}].schema.openAPIV3Schema`;
    if (hadAll) errors.push(required(path));
    else if (!keepsUnknown && served) {
      errors.push(required(path, 'because otherwise all fields are pruned'));
    }
  }
}

function checkVersions(
  errors: Errors,
  hoisted: HoistedSpec,
  options: (version: string) => SchemaOptions,
): void {
  const { versions } = hoisted;
  const names = new Set<string>();
  for (const [i, version] of versions.entries()) {
    names.add(version.name);
    const path = `spec.versions[${i}]`;
    const wrong = isDns1035Label(version.name ?? '');
    if (wrong.length > 0) errors.push(invalid(`${path}.name`, version.name, wrong.join(',')));
    const subresources = hoisted.subresources ?? version.subresources;
    checkVersion(errors, path, version, subresources?.status !== undefined, options(version.name));
  }
  const refuse = (text: string): void => {
    errors.push(invalid('spec.versions', shownVersions(versions), text));
  };
  if (names.size < versions.length) refuse('must contain unique version names');
  if (versions.filter(({ storage }) => storage).length !== 1) {
    refuse('must have exactly one version marked as storage version');
  }
  const { version } = hoisted;
  const wrong = version === '' ? [] : isDns1035Label(version);
  if (wrong.length > 0) errors.push(invalid('spec.version', version, wrong.join(',')));
}

function checkVersion(
  errors: Errors,
  path: string,
  version: DefinitionVersion,
  hasStatus: boolean,
  options: SchemaOptions,
): void {
  for (const text of deprecationFaults(version)) {
    errors.push(invalid(`${path}.deprecationWarning`, version.deprecationWarning, text));
  }
  checkValidation(errors, `${path}.schema`, version.schema, hasStatus, options);
  checkSubresources(errors, `${path}.subresources`, version.subresources);
  checkColumns(errors, `${path}.additionalPrinterColumns`, version.additionalPrinterColumns ?? []);
  const fields = version.selectableFields ?? [];
  if (fields.length === 0) return;
  const schema = version.schema?.openAPIV3Schema;
  if (schema) checkSelectableFields(errors, `${path}.selectableFields`, fields, schema);
  else {
    const text = 'may only be set when `version.schema.openAPIV3Schema` is not included';
    errors.push(invalid(`${path}.selectableFields`, '', text));
  }
}

function deprecationFaults({ deprecated, deprecationWarning }: DefinitionVersion): string[] {
  if (deprecationWarning === undefined) return [];
  if (!deprecated) return ['can only be set for deprecated versions'];
  const faults: string[] = [];
  if (Buffer.byteLength(deprecationWarning) > MAX_WARNING) {
    faults.push(`must be <= ${MAX_WARNING} characters long`);
  }
  if (deprecationWarning === '') faults.push('must not be an empty string');
  const odd = /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/u.exec(deprecationWarning);
  if (odd) {
    const index = Buffer.byteLength(deprecationWarning.slice(0, odd.index));
    faults.push(
      `must only contain printable UTF-8 characters; non-printable character found at index ${index}`,
    );
  }
  return faults;
}

function checkValidation(
  errors: Errors,
  path: string,
  validation: { openAPIV3Schema?: SchemaProps } | undefined,
  hasStatus: boolean,
  options: SchemaOptions,
): void {
  const schema = validation?.openAPIV3Schema;
  if (!schema) return;
  const at = `${path}.openAPIV3Schema`;
  if (hasStatus) checkRoot(errors, at, schema);
  if (schema.nullable) {
    errors.push(forbidden(`${at}.nullable`, 'nullable cannot be true at the root'));
  }
  errors.push(...checkSchema(schema, at, options));
}

/** With a status subresource the root says nothing that a status by itself would lose. */
const ROOT_FIELDS: readonly [field: keyof SchemaProps, name: string][] = [
  ['description', 'Description'],
  ['type', 'Type'],
  ['format', 'Format'],
  ['title', 'Title'],
  ['maximum', 'Maximum'],
  ['exclusiveMaximum', 'ExclusiveMaximum'],
  ['minimum', 'Minimum'],
  ['exclusiveMinimum', 'ExclusiveMinimum'],
  ['maxLength', 'MaxLength'],
  ['minLength', 'MinLength'],
  ['pattern', 'Pattern'],
  ['maxItems', 'MaxItems'],
  ['minItems', 'MinItems'],
  ['uniqueItems', 'UniqueItems'],
  ['multipleOf', 'MultipleOf'],
  ['required', 'Required'],
  ['items', 'Items'],
  ['properties', 'Properties'],
  ['externalDocs', 'ExternalDocs'],
  ['example', 'Example'],
  ['x-kubernetes-preserve-unknown-fields', 'XPreserveUnknownFields'],
  ['x-kubernetes-validations', 'XValidations'],
];
const ALLOWED_AT_ROOT = new Set<string>(ROOT_FIELDS.map(([field]) => field));

function checkRoot(errors: Errors, path: string, schema: SchemaProps): void {
  if (schema.type && schema.type !== 'object') {
    const text =
      'only "object" is allowed as the type at the root of the schema if the status subresource is enabled';
    errors.push(invalid(`${path}.type`, schema.type, text));
    return;
  }
  const odd = Object.entries(schema).some(
    ([field, value]) => value !== undefined && value !== false && !ALLOWED_AT_ROOT.has(field),
  );
  if (!odd) return;
  const names = ROOT_FIELDS.map(([, name]) => name).join(' ');
  const text = `only [${names}] fields are allowed at the root of the schema if the status subresource is enabled`;
  errors.push(invalid(path, schema, text));
}

const schemaOf = (object: CustomResourceDefinition, name: string): SchemaProps | undefined =>
  object.spec.versions.find((version) => version.name === name)?.schema?.openAPIV3Schema;

function isUnchanged(
  object: CustomResourceDefinition,
  old: CustomResourceDefinition,
  version: string,
): boolean {
  const before = schemaOf(old, version);
  return before !== undefined && equalJson(before, schemaOf(object, version));
}

/** Expressions that were taken already. */
function expressionsOf({ spec }: CustomResourceDefinition): Set<string> {
  const found = new Set<string>();
  for (const { schema } of spec.versions) {
    if (!schema?.openAPIV3Schema) continue;
    anySchema(schema.openAPIV3Schema, (one) => {
      for (const { rule, messageExpression } of one['x-kubernetes-validations'] ?? []) {
        found.add(rule);
        if (messageExpression) found.add(messageExpression);
      }
      return false;
    });
  }
  return found;
}
