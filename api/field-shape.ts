import { conform } from '#api/conform.ts';
import type { Definitions, Schema } from '#api/schema.ts';

/**
 * How one place of an object is owned: as a whole (scalars, atomic lists and maps), member by
 * member, or item by item. Compiled from the schema once.
 * Source: x-kubernetes-list-type, x-kubernetes-map-type.
 */
export type Shape = {
  kind: 'whole' | 'map' | 'list-map' | 'list-set';
  /** What an atomic place may hold, to tell wrong types: */
  type: 'list' | 'map' | 'string' | 'number' | 'boolean' | 'any';
  /** Members with names of their own. */
  fields: ReadonlyMap<string, Shape>;
  /** Other members of a map, items of a list; undefined where nothing else is allowed. */
  items: Shape | undefined;
  /** Of a list-map, sorted; items are the same when these are. */
  keys: readonly string[];
  /** A key left out has its default. */
  keyDefaults: Readonly<Record<string, unknown>>;
};

const NO_FIELDS: ReadonlyMap<string, Shape> = new Map();
const whole = (type: Shape['type']): Shape => ({
  kind: 'whole',
  type,
  fields: NO_FIELDS,
  items: undefined,
  keys: [],
  keyDefaults: {},
});

const ANY = whole('any');
const STRING = whole('string');
const NUMBER = whole('number');
const BOOLEAN = whole('boolean');

/** Objects that no schema describes: owned member by member. */
const FREE: Shape = { ...whole('any'), kind: 'map', items: undefined };
(FREE as { items: Shape }).items = ANY;

const compiled = new WeakMap<Definitions, Map<string, Shape>>();
const inline = new WeakMap<Schema, Shape>();

export function shapeOf(schema: Schema, definitions: Definitions): Shape {
  if (schema.ref !== undefined) return definitionShape(schema.ref, schema, definitions);
  let shape = inline.get(schema);
  if (!shape) {
    shape = build(schema, definitions);
    inline.set(schema, shape);
  }
  return shape;
}

function definitionShape(name: string, use: Schema, definitions: Definitions): Shape {
  let shapes = compiled.get(definitions);
  if (!shapes) {
    shapes = new Map();
    compiled.set(definitions, shapes);
  }
  // A field may say that it is atomic or granular whatever its type says.
  const mapType = use['x-kubernetes-map-type'];
  const key = mapType ? `${name} ${mapType}` : name;
  const known = shapes.get(key);
  if (known) return known;
  const schema = definitions.get(name);
  if (!schema) throw new Error(`schema reference ${name} cannot be resolved`);
  // Types that contain themselves find this one before it is filled.
  const shape: Shape = { ...ANY };
  shapes.set(key, shape);
  Object.assign(
    shape,
    build(mapType ? { ...schema, 'x-kubernetes-map-type': mapType } : schema, definitions),
  );
  return shape;
}

function build(schema: Schema, definitions: Definitions): Shape {
  if (schema.type === 'array' || schema.items) return listShape(schema, definitions);
  if (schema.properties || typeof schema.additionalProperties === 'object') {
    const shape = mapShape(schema, definitions);
    // What an atomic place may contain is still known, to tell mistakes inside it.
    return schema['x-kubernetes-map-type'] === 'atomic' ? { ...shape, kind: 'whole' } : shape;
  }
  if (schema['x-kubernetes-map-type'] === 'atomic') return whole('map');
  switch (schema.type) {
    case 'string':
      return STRING;
    case 'integer':
    case 'number':
      return NUMBER;
    case 'boolean':
      return BOOLEAN;
    case 'object':
      return schema['x-kubernetes-preserve-unknown-fields'] ? FREE : whole('any');
    default:
      return schema['x-kubernetes-preserve-unknown-fields'] ? FREE : ANY;
  }
}

function mapShape(schema: Schema, definitions: Definitions): Shape {
  const fields = new Map<string, Shape>();
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    // Nobody owns the list of owners, and comparing it would cost more than all the rest.
    if (name === 'managedFields' && 'ownerReferences' in (schema.properties ?? {})) continue;
    fields.set(name, shapeOf(property, definitions));
  }
  const others = schema.additionalProperties;
  const items =
    typeof others === 'object'
      ? shapeOf(others, definitions)
      : others === true || schema['x-kubernetes-preserve-unknown-fields']
        ? ANY
        : undefined;
  return { ...whole('map'), kind: 'map', fields, items };
}

function listShape(schema: Schema, definitions: Definitions): Shape {
  const items = schema.items ? shapeOf(schema.items, definitions) : ANY;
  const listType = schema['x-kubernetes-list-type'];
  if (listType === 'set') return { ...whole('list'), kind: 'list-set', items };
  if (listType !== 'map') return { ...whole('list'), items };
  const keys = [...(schema['x-kubernetes-list-map-keys'] ?? [])].sort();
  const keyDefaults: Record<string, unknown> = {};
  const properties = itemProperties(schema.items, definitions);
  for (const key of keys) {
    const value = properties[key]?.default;
    if (value !== undefined) keyDefaults[key] = value;
  }
  return { ...whole('list'), kind: 'list-map', items, keys, keyDefaults };
}

function itemProperties(
  items: Schema | undefined,
  definitions: Definitions,
): Readonly<Record<string, Schema>> {
  const schema = items?.ref === undefined ? items : definitions.get(items.ref);
  return schema?.properties ?? {};
}

const zeros = new WeakMap<Definitions, Map<string, object>>();

/**
 * An object of this schema before anything is written into it: the members that are always there.
 * Creation is an update of this one, which decides what counts as written. Not to be changed.
 */
export function zeroObject(schema: Schema, definitions: Definitions): object {
  const name = schema.ref;
  if (name === undefined) return {};
  let known = zeros.get(definitions);
  if (!known) {
    known = new Map();
    zeros.set(definitions, known);
  }
  let zero = known.get(name) as Record<string, unknown> | undefined;
  if (!zero) {
    zero = {};
    conform(zero, schema, definitions);
    addNulls(zero, definitions.get(name), definitions);
    known.set(name, zero);
  }
  return zero;
}

/** Before anything is written, lists and maps that are required are null, and metadata is {}. */
function addNulls(
  object: Record<string, unknown>,
  schema: Schema | undefined,
  definitions: Definitions,
): void {
  for (const [name, property] of Object.entries(schema?.properties ?? {})) {
    const value = object[name];
    // A default that says something is written at creation.
    if (property.default && object[name] === property.default) delete object[name];
    else if (value !== undefined) {
      if (property.ref !== undefined && typeof value === 'object' && value !== null) {
        const inner = value as Record<string, unknown>;
        addNulls(inner, definitions.get(property.ref), definitions);
      }
    } else if (property.ref?.endsWith('.ObjectMeta')) {
      object[name] = {};
    } else if (
      schema?.required?.includes(name) &&
      // An empty set is left out although it is required (validationActions).
      property['x-kubernetes-list-type'] !== 'set' &&
      (property.items || property.additionalProperties)
    ) {
      object[name] = null;
    }
  }
}
