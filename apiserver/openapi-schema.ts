import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import { refsOf } from '#api/scheme.ts';
import type { Definitions, Schema } from '#api/schema.ts';

/** Schemas as the two versions of OpenAPI write them. Source: OpenAPI 2.0 and 3.0 "Schema Object". */
export type OpenApiVersion = 2 | 3;
export type Json = { [member: string]: unknown };

const INT_OR_STRING = 'io.k8s.apimachinery.pkg.util.intstr.IntOrString';
const QUANTITY = 'io.k8s.apimachinery.pkg.api.resource.Quantity';
const OBJECT_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta';
/** A definition that has what all have. */
const ANY_OBJECT = 'io.k8s.api.core.v1.ConfigMap';
const LIST_META = 'io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta';

export const refTo = (version: OpenApiVersion, name: string): Json => ({
  $ref: `${version === 2 ? '#/definitions/' : '#/components/schemas/'}${name}`,
});

/** Members that both versions and we write alike. */
const PLAIN = [
  'title',
  'description',
  'enum',
  'required',
  'pattern',
  'minimum',
  'maximum',
  'exclusiveMinimum',
  'exclusiveMaximum',
  'multipleOf',
  'minLength',
  'maxLength',
  'minItems',
  'maxItems',
  'uniqueItems',
  'minProperties',
  'maxProperties',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-patch-merge-key',
  'x-kubernetes-patch-strategy',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-int-or-string',
  'x-kubernetes-embedded-resource',
  'x-kubernetes-validations',
] as const;

/** Version 2 has no way to say these. */
const THREE_ONLY = ['anyOf', 'oneOf', 'not', 'nullable'] as const;

export function convertSchema(
  schema: Schema,
  version: OpenApiVersion,
  definitions: Definitions,
): Json {
  const result: Json = {};
  if (schema.ref !== undefined) {
    const ref = refTo(version, schema.ref);
    // Version 3 ignores what stands beside a reference.
    if (version === 3) result['allOf'] = [ref];
    else Object.assign(result, ref);
    // Where nobody has words for a member of a named type, its own say what it is.
    const words = schema.description ?? definitions.get(schema.ref)?.description;
    if (words !== undefined) result['description'] = words;
    if (version === 3 && METADATA.test(schema.ref)) result['default'] = {};
  }
  if (schema.type !== undefined) result['type'] = schema.type;
  if (schema.format !== undefined) result['format'] = schema.format;
  for (const member of PLAIN) if (schema[member] !== undefined) result[member] = schema[member];
  if (schema.default !== undefined && (version === 3 || !isZero(schema.default))) {
    result['default'] = schema.default;
  }
  if (schema.properties) {
    result['properties'] = mapValues(schema.properties, (inner) =>
      convertSchema(inner, version, definitions),
    );
  }
  if (schema.items) result['items'] = convertItem(schema.items, version, definitions);
  if (typeof schema.additionalProperties === 'object') {
    result['additionalProperties'] = convertItem(schema.additionalProperties, version, definitions);
  } else if (schema.additionalProperties !== undefined && version === 3) {
    result['additionalProperties'] = schema.additionalProperties;
  }
  if (version === 3) addThreeOnly(result, schema, definitions);
  else if (schema['x-kubernetes-preserve-unknown-fields'] && !schema.properties) {
    delete result['type'];
  }
  return result;
}

/** Items and values of maps are references and nothing else. */
const convertItem = (schema: Schema, version: OpenApiVersion, definitions: Definitions): Json =>
  schema.ref !== undefined && schema.default === undefined
    ? refTo(version, schema.ref)
    : convertSchema(schema, version, definitions);

function addThreeOnly(result: Json, schema: Schema, definitions: Definitions): void {
  for (const member of THREE_ONLY) {
    const value = schema[member];
    if (value === undefined) continue;
    result[member] = Array.isArray(value)
      ? value.map((inner) => convertSchema(inner as Schema, 3, definitions))
      : typeof value === 'object'
        ? convertSchema(value as Schema, 3, definitions)
        : value;
  }
  if (schema.allOf)
    result['allOf'] = schema.allOf.map((inner) => convertSchema(inner, 3, definitions));
}

/** Metadata is there even when nothing is said of it. */
const METADATA = /\.meta\.v1\.(Object|List)Meta$/;

const isZero = (value: unknown): boolean =>
  value === '' ||
  value === 0 ||
  value === false ||
  (typeof value === 'object' && value !== null && Object.keys(value).length === 0);

function mapValues<T, U>(object: Readonly<Record<string, T>>, change: (value: T) => U) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, change(value)]));
}

/** Group, version and kind by which clients find a definition. */
export const gvkOf = ({
  group,
  version,
  kind,
}: {
  group: string;
  version: string;
  kind: string;
}) => ({
  group,
  kind,
  version,
});

export const listName = (scheme: Scheme, kind: Kind): string =>
  `${scheme.definitionName(kind)}List`;

/** What a kind without a published type gets for its list. */
function listSchema(scheme: Scheme, kind: Kind): Schema {
  return {
    type: 'object',
    description: `A list of ${kind.kind} objects.`,
    required: ['items'],
    properties: {
      apiVersion: { type: 'string', description: 'The version of this form of the list.' },
      items: {
        type: 'array',
        description: `The ${kind.plural}.`,
        items: { ref: scheme.definitionName(kind) },
      },
      kind: { type: 'string', description: 'The kind of the list.' },
      metadata: { ref: LIST_META, description: 'What is true of the list as a whole.' },
    },
  };
}

/** A custom kind's own schema, with the members that every object has, described as everywhere. */
function objectSchema(schema: Schema, scheme: Scheme): Schema {
  const { apiVersion, kind } = scheme.definitions.get(ANY_OBJECT)?.properties ?? {};
  return {
    ...schema,
    properties: {
      ...schema.properties,
      apiVersion: apiVersion ?? { type: 'string' },
      kind: kind ?? { type: 'string' },
      metadata: {
        ref: OBJECT_META,
        description: "Standard object's metadata: name, labels, owners.",
      },
    },
  };
}

/**
 * Converted definitions: those that `roots` reach, with the kinds they belong to written beside.
 * `roots` are names of definitions, of kinds or of kinds' lists.
 */
export function definitionsOf(
  scheme: Scheme,
  roots: Iterable<string>,
  version: OpenApiVersion,
): Json {
  const kinds = kindsByDefinition(scheme);
  const found = new Map<string, Json>();
  const visit = (name: string): void => {
    if (found.has(name)) return;
    const entry = kinds.get(name);
    const schema = scheme.definitions.get(name) ?? entry?.schema;
    if (!schema) return;
    const converted =
      version === 2
        ? (simplified(name, schema) ?? convertSchema(schema, 2, scheme.definitions))
        : convertSchema(schema, 3, scheme.definitions);
    if (entry) converted['x-kubernetes-group-version-kind'] = entry.gvks;
    found.set(name, converted);
    for (const ref of refsOf(schema)) visit(ref);
  };
  for (const root of roots) visit(root);
  return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Version 2 cannot say "one of", so these are strings there. */
function simplified(name: string, schema: Schema): Json | undefined {
  const { description } = schema;
  // Whoever reads version 2 takes the members it names for all there are, so it names none.
  if (schema['x-kubernetes-preserve-unknown-fields']) return { type: 'object' };
  if (name === QUANTITY) return { description, type: 'string' };
  if (name === INT_OR_STRING) return { description, type: 'string', format: 'int-or-string' };
  return undefined;
}

type KindEntry = { gvks: object[]; schema: Schema | undefined };

const sameGvk = (a: object, b: object): boolean => JSON.stringify(a) === JSON.stringify(b);

const byDefinition = new WeakMap<Scheme, Map<string, KindEntry>>();

function kindsByDefinition(scheme: Scheme): Map<string, KindEntry> {
  let entries = byDefinition.get(scheme);
  if (entries) return entries;
  entries = new Map();
  const add = (name: string, gvk: object, schema: Schema | undefined): void => {
    const entry = entries?.get(name);
    if (entry && !entry.gvks.some((known) => sameGvk(known, gvk))) entry.gvks.push(gvk);
    else if (!entry) entries?.set(name, { gvks: [gvk], schema });
  };
  for (const kind of scheme.kinds) {
    const own = typeof kind.schema === 'string' ? undefined : objectSchema(kind.schema, scheme);
    add(scheme.definitionName(kind), gvkOf(kind), own);
    add(
      listName(scheme, kind),
      gvkOf({ ...kind, kind: `${kind.kind}List` }),
      listSchema(scheme, kind),
    );
  }
  addShared(scheme, add);
  byDefinition.set(scheme, entries);
  return entries;
}

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';

/** Types that every group has under its own name, and bodies of subresources. */
function addShared(
  scheme: Scheme,
  add: (name: string, gvk: object, schema: undefined) => void,
): void {
  for (const kind of ['APIGroup', 'APIGroupList', 'APIResourceList', 'APIVersions', 'Status']) {
    add(`${META}.${kind}`, gvkOf({ group: '', version: 'v1', kind }), undefined);
  }
  for (const { group, versions } of scheme.groups()) {
    for (const version of versions) {
      add(`${META}.DeleteOptions`, gvkOf({ group, version, kind: 'DeleteOptions' }), undefined);
      add(`${META}.WatchEvent`, gvkOf({ group, version, kind: 'WatchEvent' }), undefined);
    }
  }
  const scale = { group: 'autoscaling', version: 'v1', kind: 'Scale' };
  add('io.k8s.api.autoscaling.v1.Scale', gvkOf(scale), undefined);
  const eviction = { group: 'policy', version: 'v1', kind: 'Eviction' };
  add('io.k8s.api.policy.v1.Eviction', gvkOf(eviction), undefined);
  const token = { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' };
  add('io.k8s.api.authentication.v1.TokenRequest', gvkOf(token), undefined);
  const binding = { group: '', version: 'v1', kind: 'Binding' };
  add('io.k8s.api.core.v1.Binding', gvkOf(binding), undefined);
}
