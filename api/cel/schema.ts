import { BOOL, type CelType, DOUBLE, INT, type ObjectType, STRING } from '#api/cel/types.ts';
import { type Definitions, resolve, type Schema } from '#api/schema.ts';

/** No request is larger: it bounds every value that a schema leaves unbounded. Source: upstream. */
const MAX_REQUEST_BYTES = 3 * 1024 * 1024;

const SIZES = { date: 12, dateTime: 21, maxDateTime: 32, duration: 3, maxDuration: 32 } as const;

const RESERVED = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return var void while'.split(
    ' ',
  ),
);

const ESCAPES: Readonly<Record<string, string>> = {
  __: '__underscores__',
  '.': '__dot__',
  '-': '__dash__',
  '/': '__slash__',
};

/** The name of a property in expressions; null when it has none. Source: Kubernetes CEL docs. */
export function escapeName(name: string): string | null {
  if (!/^[a-zA-Z_.\-/][a-zA-Z0-9_.\-/]*$/.test(name)) return null;
  if (RESERVED.has(name)) return `__${name}__`;
  return name.replaceAll(/__|[.\-/]/g, (found) => ESCAPES[found] ?? found);
}

const NO_DEFINITIONS: Definitions = new Map();

export type SchemaTypeOptions = {
  /** The root of a resource: apiVersion, kind, metadata.name and metadata.generateName are there. */
  root?: boolean;
  definitions?: Definitions;
  /** What object types are called in messages. */
  name?: string;
};

/**
 * The type that expressions see of values of a schema; null where they see nothing of it.
 * Source: Kubernetes "Common Expression Language in Kubernetes", "Schema type integration".
 */
export function schemaType(schema: Schema, options: SchemaTypeOptions = {}): CelType | null {
  return convert(schema, options.root ?? false, {
    definitions: options.definitions ?? NO_DEFINITIONS,
    name: options.name ?? 'object',
    open: [],
  });
}

type Context = { definitions: Definitions; name: string; open: readonly Schema[] };

function convert(given: Schema, root: boolean, context: Context): CelType | null {
  const schema = resolve(given, context.definitions);
  if (schema['x-kubernetes-int-or-string']) {
    const maxElements =
      schema.maxLength === undefined ? MAX_REQUEST_BYTES - 2 : bound(schema.maxLength) * 4;
    return { kind: 'dyn', maxElements, minSize: 1 };
  }
  // A schema that contains itself ends here.
  if (context.open.includes(schema)) return { kind: 'dyn' };
  const inner = { ...context, open: [...context.open, schema] };
  switch (schema.type ?? (root ? 'object' : undefined)) {
    case 'array':
      return listType(schema, inner);
    case 'object':
      return typeof schema.additionalProperties === 'object' && !root
        ? mapType(schema, schema.additionalProperties, inner)
        : objectTypeOf(schema, root, inner);
    case 'string':
      return textType(schema);
    case 'boolean':
      return BOOL;
    case 'number':
      return DOUBLE;
    case 'integer':
      return INT;
    default:
      return null;
  }
}

const bound = (limit: number): number => Math.max(limit, 0);

function isEmbedded(schema: Schema): boolean {
  return schema['x-kubernetes-embedded-resource'] === true;
}

const minSizeOf = (type: CelType): number => ('minSize' in type ? (type.minSize ?? 0) : 0);

function listType(schema: Schema, context: Context): CelType | null {
  if (!schema.items) return null;
  const name = `${context.name}.@idx`;
  const element = convert(schema.items, isEmbedded(schema.items), { ...context, name });
  if (!element) return null;
  const maxElements =
    schema.maxItems === undefined
      ? Math.floor((MAX_REQUEST_BYTES - 2) / (minSizeOf(element) + 1))
      : bound(schema.maxItems);
  const listKind = schema['x-kubernetes-list-type'];
  const mapKeys = schema['x-kubernetes-list-map-keys'];
  return {
    kind: 'list',
    element,
    maxElements,
    minSize: 2,
    ...(listKind === 'set' || listKind === 'map' ? { listType: listKind } : {}),
    ...(listKind === 'map' && mapKeys ? { mapKeys } : {}),
  };
}

function mapType(schema: Schema, values: Schema, context: Context): CelType | null {
  const name = `${context.name}.@elem`;
  const value = convert(values, isEmbedded(values), { ...context, name });
  if (!value) return null;
  const maxElements =
    schema.maxProperties === undefined
      ? Math.floor((MAX_REQUEST_BYTES - 2) / (minSizeOf(value) + 6))
      : bound(schema.maxProperties);
  return { kind: 'map', key: STRING, value, maxElements, minSize: 2 };
}

const ROOT_PROPERTIES: Readonly<Record<string, Schema>> = {
  kind: { type: 'string' },
  apiVersion: { type: 'string' },
  metadata: {
    type: 'object',
    properties: { name: { type: 'string' }, generateName: { type: 'string' } },
  },
};

function objectTypeOf(schema: Schema, root: boolean, context: Context): ObjectType {
  const properties = root
    ? { ...schema.properties, ...ROOT_PROPERTIES }
    : (schema.properties ?? {});
  const fields = new Map<string, CelType>();
  const jsonNames = new Map<string, string>();
  const required = new Set(schema.required ?? []);
  let minSize = 2;
  for (const [property, given] of Object.entries(properties)) {
    const name = escapeName(property);
    const type = convert(given, isEmbedded(given), {
      ...context,
      name: `${context.name}.${property}`,
    });
    if (!type) continue;
    if (name !== null) {
      fields.set(name, type);
      if (name !== property) jsonNames.set(name, property);
    }
    if (required.has(property) && given.default === undefined) {
      minSize += property.length + minSizeOf(type) + 4;
    }
  }
  const names = jsonNames.size > 0 ? { jsonNames } : {};
  return { kind: 'object', name: context.name, fields, minSize, ...names };
}

function textType(schema: Schema): CelType {
  switch (schema.format) {
    case 'byte':
      return {
        kind: 'bytes',
        minSize: 2,
        maxElements:
          schema.maxLength === undefined ? MAX_REQUEST_BYTES - 2 : bound(schema.maxLength),
      };
    case 'duration':
      return { kind: 'duration', minSize: SIZES.duration, maxElements: SIZES.maxDuration };
    case 'date':
      return { kind: 'timestamp', minSize: SIZES.date, maxElements: SIZES.date };
    case 'date-time':
      return { kind: 'timestamp', minSize: SIZES.dateTime, maxElements: SIZES.maxDateTime };
    default:
      return { kind: 'string', minSize: 2, maxElements: longestText(schema) };
  }
}

/** In bytes: a character takes up to four. */
function longestText(schema: Schema): number {
  if (schema.maxLength !== undefined) return bound(schema.maxLength) * 4;
  if (!schema.enum?.length) return MAX_REQUEST_BYTES - 2;
  return Math.max(
    0,
    ...schema.enum.map((one) => (typeof one === 'string' ? Buffer.byteLength(one) : 0)),
  );
}
