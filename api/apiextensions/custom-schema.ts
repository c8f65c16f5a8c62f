import type { SchemaProps } from '#api/apiextensions/definition-types.ts';
import { itemSchema } from '#api/apiextensions/definition-types.ts';
import type { Schema } from '#api/schema.ts';

const OBJECT_META: Schema = { ref: 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta' };
const TEXT: Schema = { type: 'string' };

/** A resource that is kept as it comes: the definition has no schema, or keeps unknown fields. */
const FREE: SchemaProps = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };

/**
 * A definition's schema in the form that all kinds have, for patches, apply, OpenAPI and tables.
 * Without a schema every field is kept.
 */
export function customSchema(props: SchemaProps | undefined, keepsAll: boolean): Schema {
  const custom = keepsAll ? { ...props, ...FREE } : (props ?? FREE);
  return { ...resourceSchema(convert(custom)), custom };
}

/** The members that every resource has, whatever is written about them. */
function resourceSchema(schema: Schema): Schema {
  return {
    ...schema,
    type: 'object',
    properties: {
      apiVersion: TEXT,
      kind: TEXT,
      ...schema.properties,
      metadata: OBJECT_META,
    },
  };
}

/** Keywords without a meaning for Kubernetes are left out; embedded resources get their metadata. */
function convert(props: SchemaProps): Schema {
  const {
    id: _id,
    $schema: _schema,
    $ref: _ref,
    patternProperties: _pattern,
    dependencies: _dependencies,
    additionalItems: _additionalItems,
    definitions: _definitions,
    example: _example,
    externalDocs: _docs,
    items: _items,
    properties,
    additionalProperties,
    allOf,
    anyOf,
    oneOf,
    not,
    ...rest
  } = props;
  const items = itemSchema(props);
  const schema: Schema = {
    ...(rest as Schema),
    ...(properties
      ? {
          properties: Object.fromEntries(
            Object.entries(properties).map(([name, inner]) => [name, convert(inner)]),
          ),
        }
      : {}),
    ...(items ? { items: convert(items) } : {}),
    ...(additionalProperties === undefined
      ? {}
      : {
          additionalProperties:
            typeof additionalProperties === 'object'
              ? convert(additionalProperties)
              : additionalProperties,
        }),
    ...(allOf ? { allOf: allOf.map(convert) } : {}),
    ...(anyOf ? { anyOf: anyOf.map(convert) } : {}),
    ...(oneOf ? { oneOf: oneOf.map(convert) } : {}),
    ...(not ? { not: convert(not) } : {}),
  };
  return props['x-kubernetes-embedded-resource'] ? resourceSchema(schema) : schema;
}
