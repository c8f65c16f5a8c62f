import type { Report } from '#api/conform-report.ts';
import { arrayOf, mapOf, scalarOf, specialOf } from '#api/conform-values.ts';
import { cloneJson, isPlainObject } from '#api/json.ts';
import type { Definitions, Schema } from '#api/schema.ts';
import { dropsZero, isNullTime, isSilentDefault } from '#api/zero-values.ts';

/**
 * One schema node as a function. It checks a value, reports findings, and returns what shall stand
 * there instead: mostly the value itself, undefined for "nothing".
 */
export type Check = (value: unknown, report: Report) => unknown;

/** A node's function, the type's name for error texts, and what null becomes inside lists and maps. */
export type Node = { check: Check; goType: string; zero(): unknown };

const compiled = new WeakMap<Definitions, Map<string, Node>>();
const inline = new WeakMap<Schema, Check>();

/** Compiled nodes are kept as long as the definitions (or the inline schema) live. */
export function compile(schema: Schema, definitions: Definitions): Check {
  if (schema.ref !== undefined) return definitionNode(schema.ref, definitions).check;
  let check = inline.get(schema);
  if (!check) {
    check = nodeOf(schema, definitions, '').check;
    inline.set(schema, check);
  }
  return check;
}

/** `io.k8s.api.core.v1.Pod` → `v1.Pod`. */
const goName = (definition: string): string => definition.split('.').slice(-2).join('.');
const lastName = (definition: string): string => definition.slice(definition.lastIndexOf('.') + 1);

/** A schema, or a boolean or list in its place. */
const UNION = /\.JSONSchemaPropsOr(?:Array|Bool|StringArray)$/;

function unionNode(name: string, definitions: Definitions): Node {
  const schema = name.replace(/Or[A-Z]\w*$/, '');
  return {
    goType: goName(name),
    zero: () => null,
    check: (value, report) => {
      if (value === null) return undefined;
      return isPlainObject(value)
        ? definitionNode(schema, definitions).check(value, report)
        : value;
    },
  };
}

function definitionNode(name: string, definitions: Definitions): Node {
  let nodes = compiled.get(definitions);
  if (!nodes) {
    nodes = new Map();
    compiled.set(definitions, nodes);
  }
  const known = nodes.get(name);
  if (known) return known;
  const special = UNION.test(name) ? unionNode(name, definitions) : specialOf(name);
  if (special) {
    nodes.set(name, special);
    return special;
  }
  const schema = definitions.get(name);
  if (!schema) throw new Error(`schema reference ${name} cannot be resolved`);
  // Types that contain themselves find this node before its function is ready.
  let check: Check | undefined;
  const node: Node = {
    check: (value, report) => {
      check ??= nodeOf(schema, definitions, name).check;
      return check(value, report);
    },
    goType: goName(name),
    zero: () => ({}),
  };
  nodes.set(name, node);
  check = nodeOf(schema, definitions, name).check;
  node.check = check;
  return node;
}

/** `definition` is the name of the type that this schema is the body of, '' inside other schemas. */
function nodeOf(schema: Schema, definitions: Definitions, definition: string): Node {
  if (schema.ref !== undefined) return definitionNode(schema.ref, definitions);
  if (schema['x-kubernetes-preserve-unknown-fields'] && !schema.properties) return anything;
  if (schema['x-kubernetes-int-or-string']) return anything;
  if (schema.type === 'array' || schema.items) {
    return arrayOf(schema.items ? nodeOf(schema.items, definitions, '') : anything);
  }
  if (schema.properties) return structOf(schema, definitions, definition);
  if (typeof schema.additionalProperties === 'object') {
    return mapOf(nodeOf(schema.additionalProperties, definitions, ''));
  }
  if (schema.type === undefined || schema.additionalProperties === true) return anything;
  if (schema.type === 'object') return structOf(schema, definitions, definition);
  return scalarOf(schema);
}

const anything: Node = { check: (value) => value, goType: 'interface {}', zero: () => null };

type Field = {
  check: Check;
  /** Dropped when empty: an optional list or map. */
  dropEmpty: boolean;
  /** Dropped when false, 0 or ''. */
  dropZero: boolean;
  /** Null while it is not set. */
  keepNull: boolean;
};

/**
 * Lists whose emptiness says something: that all owners are to be forgotten, or, where a list is
 * always shown, that somebody wrote it and owns it.
 */
const KEPT_EMPTY: ReadonlySet<string> = new Set([
  'io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta.managedFields',
  'io.k8s.api.rbac.v1.ClusterRole.rules',
  'io.k8s.api.rbac.v1.Role.rules',
  'io.k8s.api.discovery.v1.EndpointSlice.endpoints',
  'io.k8s.api.discovery.v1.EndpointSlice.ports',
]);

/** Members that upstream always writes, with the value to write. */
type Filler = { name: string; make(report: Report): unknown };

function structOf(schema: Schema, definitions: Definitions, definition: string): Node {
  const fields = new Map<string, Field>();
  const fillers: Filler[] = [];
  const isBuiltin = definition.startsWith('io.k8s.');
  const required = new Set(schema.required);
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const { check } = nodeOf(property, definitions, '');
    const keepNull = isNullTime(definition, name);
    const isSilent = isBuiltin && !required.has(name) && isSilentDefault(definition, name);
    const isOptional =
      isBuiltin && !required.has(name) && (property.default === undefined || isSilent);
    fields.set(name, {
      check,
      keepNull,
      dropEmpty:
        isOptional &&
        (property.type === 'array' || property.type === 'object') &&
        !KEPT_EMPTY.has(`${definition}.${name}`),
      dropZero: isOptional && isScalar(property) && dropsZero(definition, name, property.type),
    });
    if (keepNull) fillers.push({ name, make: () => null });
    const filler = isSilent ? undefined : fillerOf(name, property, check);
    if (filler) fillers.push(filler);
  }
  const owner = definition === '' ? '' : lastName(definition);
  const keepUnknown = schema['x-kubernetes-preserve-unknown-fields'] === true;
  const goType = definition === '' ? 'map[string]interface {}' : goName(definition);
  const check: Check = (value, report) => {
    if (value === null) return undefined;
    if (!isPlainObject(value)) {
      report.mismatch(value, goType);
      return value;
    }
    for (const key in value) {
      const field = fields.get(key);
      if (!field) {
        if (keepUnknown) continue;
        report.unknownField(key);
        if (report.prune) delete value[key];
        continue;
      }
      const before = value[key];
      if (before === null && field.keepNull) continue;
      const count = report.count;
      let after = field.check(before, report);
      if (report.count !== count) report.inField(count, key, owner);
      if (!report.normalize) continue;
      if (field.dropZero && (after === '' || after === false || after === 0)) after = undefined;
      else if (field.dropEmpty && isEmpty(after)) after = undefined;
      if (after === before) continue;
      if (after === undefined) delete value[key];
      else value[key] = after;
    }
    if (report.normalize) {
      for (const filler of fillers) {
        if (value[filler.name] === undefined) value[filler.name] = filler.make(report);
      }
    }
    return value;
  };
  return { check, goType, zero: () => ({}) };
}

const isScalar = (schema: Schema): schema is Schema & { type: string } =>
  schema.type === 'string' ||
  schema.type === 'boolean' ||
  schema.type === 'integer' ||
  schema.type === 'number';

function isEmpty(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value !== 'object' || value === null) return false;
  // Faster than Object.keys for the usual case of a map with members.
  for (const _ in value) return false;
  return true;
}

function fillerOf(name: string, property: Schema, check: Check): Filler | undefined {
  const value = property.default;
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null) return { name, make: () => value };
  // Defaults that are objects have defaults of their own inside.
  return { name, make: (report) => check(cloneJson(value), report) };
}
