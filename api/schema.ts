import type { SchemaProps } from '#api/apiextensions/definition-types.ts';

/**
 * The one schema form of Gantry: OpenAPI v3 structural schema with the x-kubernetes extensions.
 * Built-in kinds get theirs from the extracted models plus their files' rules, custom resources
 * from their definition; everything after that (decode, prune, default, patch, apply, OpenAPI,
 * explain) reads only this. Source: apiextensions.k8s.io/v1 JSONSchemaProps.
 */
export type Schema = {
  type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean';
  format?: string;
  title?: string;
  description?: string;
  nullable?: boolean;
  default?: unknown;
  enum?: readonly unknown[];
  properties?: Readonly<Record<string, Schema>>;
  additionalProperties?: Schema | boolean;
  items?: Schema;
  required?: readonly string[];
  /** Name of a definition (`io.k8s.api.core.v1.PodSpec`); no other key but description beside it. */
  ref?: string;
  pattern?: string;
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: boolean;
  exclusiveMaximum?: boolean;
  multipleOf?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  uniqueItems?: boolean;
  minProperties?: number;
  maxProperties?: number;
  allOf?: readonly Schema[];
  anyOf?: readonly Schema[];
  oneOf?: readonly Schema[];
  not?: Schema;
  'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  'x-kubernetes-list-map-keys'?: readonly string[];
  'x-kubernetes-map-type'?: 'atomic' | 'granular';
  'x-kubernetes-patch-merge-key'?: string;
  'x-kubernetes-patch-strategy'?: string;
  'x-kubernetes-preserve-unknown-fields'?: boolean;
  'x-kubernetes-int-or-string'?: boolean;
  'x-kubernetes-embedded-resource'?: boolean;
  'x-kubernetes-validations'?: readonly Record<string, unknown>[];
  /** At the root of a custom resource: what its definition says. Values are fitted by that. */
  custom?: SchemaProps;
};

/** Named schemas that `ref` points into: `io.k8s.api.core.v1.Pod` → schema. */
export type Definitions = ReadonlyMap<string, Schema>;

/**
 * What the extracted models cannot say about one field, keyed `Model.field` (`V1PodSpec.containers`).
 * `default` is only what the published OpenAPI shows; real defaulting is the kind's `defaults`.
 */
export type FieldRule = {
  listType?: 'atomic' | 'set' | 'map';
  listMapKeys?: readonly string[];
  mapType?: 'atomic' | 'granular';
  /** Key by which strategic merge matches list items. */
  mergeKey?: string;
  patchStrategy?: 'merge' | 'replace' | 'retainKeys' | 'merge,retainKeys' | 'replace,retainKeys';
  default?: unknown;
  enum?: readonly string[];
  required?: boolean;
};

/** A key without a dot (`V1TypedLocalObjectReference`) is a rule for the whole type. */
export type FieldRules = Readonly<Record<string, FieldRule>>;

/** Follows `ref`s; throws when a definition is missing, because that is a broken build. */
export function resolve(schema: Schema, definitions: Definitions): Schema {
  let current = schema;
  for (let depth = 0; current.ref !== undefined; depth++) {
    const next = definitions.get(current.ref);
    if (!next || depth > 16) throw new Error(`schema reference ${current.ref} cannot be resolved`);
    current = next;
  }
  return current;
}
