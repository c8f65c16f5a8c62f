import type {
  CustomResourceDefinition,
  DefinitionCondition,
  SchemaProps,
} from '#api/apiextensions/definition-types.ts';
import { CLEANUP_FINALIZER, storageVersion } from '#api/apiextensions/definition-types.ts';
import { isPlainObject } from '#api/json.ts';
import { keepStatus } from '#api/meta/status-part.ts';

const WEBHOOK_PORT = 443;

/** What users may leave out. Source: defaults of apiextensions.k8s.io/v1. */
export function defaultDefinition(object: CustomResourceDefinition): void {
  // What is missing is refused later, by its name.
  const spec = (object.spec ??= {} as CustomResourceDefinition['spec']);
  spec.versions ??= [];
  const names = (spec.names ??= {} as typeof spec.names);
  if (!names.singular) names.singular = (names.kind ?? '').toLowerCase();
  if (!names.singular) delete names.singular;
  if (!names.listKind && names.kind) names.listKind = `${names.kind}List`;
  spec.conversion ??= { strategy: 'None' };
  const service = spec.conversion.webhook?.clientConfig?.service;
  if (service) service.port ??= WEBHOOK_PORT;
  for (const version of spec.versions ?? []) {
    if (version.schema?.openAPIV3Schema) dropNullValues(version.schema.openAPIV3Schema);
  }
  const status = (object.status ??= {});
  if (!status.storedVersions?.length) addStoredVersion(object);
}

/** A default or example of null is none. */
function dropNullValues(schema: SchemaProps): void {
  if (schema.default === null) delete schema.default;
  if (schema.example === null) delete schema.example;
  for (const inner of subschemas(schema)) dropNullValues(inner);
}

/** Every schema directly inside a schema. */
export function* subschemas(schema: SchemaProps): Generator<SchemaProps> {
  const { items, allOf, anyOf, oneOf, not, additionalProperties, additionalItems } = schema;
  if (Array.isArray(items)) yield* items as SchemaProps[];
  else if (isPlainObject(items)) yield items as SchemaProps;
  for (const list of [allOf, anyOf, oneOf]) if (list) yield* list;
  if (not) yield not;
  for (const map of [schema.properties, schema.patternProperties, schema.definitions]) {
    if (map) yield* Object.values(map);
  }
  if (isPlainObject(additionalProperties)) yield additionalProperties as SchemaProps;
  if (isPlainObject(additionalItems)) yield additionalItems as SchemaProps;
  for (const value of Object.values(schema.dependencies ?? {})) {
    if (!Array.isArray(value)) yield value as SchemaProps;
  }
}

/** True when `holds` for the schema or any inside it. */
export function anySchema(schema: SchemaProps, holds: (schema: SchemaProps) => boolean): boolean {
  if (holds(schema)) return true;
  for (const inner of subschemas(schema)) if (anySchema(inner, holds)) return true;
  return false;
}

function addStoredVersion(object: CustomResourceDefinition): void {
  const version = storageVersion(object);
  const status = (object.status ??= {});
  const stored = status.storedVersions ?? [];
  if (version === '' || stored.includes(version)) return;
  status.storedVersions = [...stored, version];
}

/** A new definition has no status but the version that its objects will be stored in. */
export function prepareNewDefinition(object: CustomResourceDefinition): void {
  object.status = { acceptedNames: { plural: '', kind: '' }, conditions: null };
  addStoredVersion(object);
}

/** Status is not the user's; a new storage version joins the stored ones. */
export function prepareChangedDefinition(
  object: CustomResourceDefinition,
  old: CustomResourceDefinition,
): void {
  keepStatus(object, old);
  addStoredVersion(object);
}

/** The first delete marks it: its objects have to go before it. */
export function prepareDefinitionDeletion(object: CustomResourceDefinition): void {
  const { metadata } = object;
  if (object.status?.conditions?.some(({ type }) => type === 'Terminating')) return;
  metadata.finalizers = [
    ...(metadata.finalizers ?? []).filter((name) => name !== CLEANUP_FINALIZER),
    CLEANUP_FINALIZER,
  ];
  setCondition(object, String(metadata.deletionTimestamp), {
    type: 'Terminating',
    status: 'True',
    reason: 'InstanceDeletionPending',
    message:
      'CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon',
  });
}

/** Adds or changes a condition; its time is kept while its status stays. Changes `object`. */
export function setCondition(
  object: CustomResourceDefinition,
  now: string,
  wanted: DefinitionCondition,
): void {
  const status = (object.status ??= {});
  const conditions = status.conditions ?? [];
  const known = conditions.find(({ type }) => type === wanted.type);
  const time = known?.status === wanted.status ? (known.lastTransitionTime ?? now) : now;
  const { type, ...rest } = wanted;
  const condition = { type, ...rest, lastTransitionTime: time };
  status.conditions = known
    ? conditions.map((other) => (other === known ? condition : other))
    : [...conditions, condition];
}
