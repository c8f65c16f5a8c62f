import { packageName } from '#api/extract-schema.ts';
import { gvkKey } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { loadModels, releaseModels } from '#api/models.ts';
import type { Definitions, FieldRule, FieldRules, Schema } from '#api/schema.ts';

/** Every kind a server knows, and the named schemas that their types refer to. Immutable. */
export type Scheme = {
  readonly kinds: readonly Kind[];
  /** Only definitions that a kind, its list or a body of one of its subresources reaches. */
  readonly definitions: Definitions;
  byResource(group: string, version: string, plural: string): Kind | undefined;
  byKind(group: string, version: string, kind: string): Kind | undefined;
  /** Core first, then as the kinds are listed; versions newest first. */
  groups(): readonly SchemeGroup[];
  /** A reference into `definitions`, or the kind's own schema where it carries one. */
  schemaOf(kind: Kind): Schema;
  /** Published name of a kind's type: `io.k8s.api.core.v1.Pod`, `com.example.v1.Widget`. */
  definitionName(kind: Kind): string;
};

export type SchemeGroup = { group: string; versions: readonly string[] };

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';

/** Types that every server's descriptions mention, whatever it serves. */
const ALWAYS: readonly string[] = [
  `${META}.ObjectMeta`,
  `${META}.ListMeta`,
  `${META}.Status`,
  `${META}.DeleteOptions`,
  `${META}.WatchEvent`,
  `${META}.Patch`,
  `${META}.APIGroup`,
  `${META}.APIGroupList`,
  `${META}.APIResourceList`,
  `${META}.APIVersions`,
  'io.k8s.apimachinery.pkg.version.Info',
];

/**
 * Brings kinds and models together. `definitions` are those of an earlier scheme to build upon
 * (when custom kinds come and go); without them the extracted models are read.
 * Throws when two kinds claim one name or a model is missing, because that is a broken build.
 */
export function buildScheme(kinds: readonly Kind[], definitions?: Definitions): Scheme {
  const known = definitions ?? laidOver(kinds);
  const byKind = new Map<string, Kind>();
  const byResource = new Map<string, Kind>();
  const versions = new Map<string, Set<string>>();
  for (const kind of kinds) {
    const resource = `${kind.group}/${kind.version}/${kind.plural}`;
    if (byKind.has(gvkKey(kind)) || byResource.has(resource)) {
      throw new Error(`two kinds claim ${gvkKey(kind)} or the resource ${resource}`);
    }
    byKind.set(gvkKey(kind), kind);
    byResource.set(resource, kind);
    const seen = versions.get(kind.group) ?? new Set();
    versions.set(kind.group, seen.add(kind.version));
  }
  const groups = [...versions]
    .sort(([a], [b]) => Number(b === '') - Number(a === ''))
    .map(([group, all]) => ({ group, versions: [...all].sort(compareVersions) }));
  const names = definitions ? namesOf(kinds, definitions) : modelNames(kinds);
  if (!definitions) releaseModels();
  return {
    kinds,
    definitions: known,
    byResource: (group, version, plural) => byResource.get(`${group}/${version}/${plural}`),
    byKind: (group, version, kind) => byKind.get(gvkKey({ group, version, kind })),
    groups: () => groups,
    schemaOf: (kind) =>
      typeof kind.schema === 'string' ? { ref: names.get(kind) ?? kind.schema } : kind.schema,
    definitionName: (kind) => names.get(kind) ?? customName(kind),
  };
}

/** `stable.example.com`, `v1`, `CronTab` → `com.example.stable.v1.CronTab`. */
function customName({ group, version, kind }: Kind): string {
  return [...group.split('.').reverse(), version, kind].join('.');
}

function modelNames(kinds: readonly Kind[]): Map<Kind, string> {
  const models = loadModels();
  const names = new Map<Kind, string>();
  for (const kind of kinds) {
    if (typeof kind.schema !== 'string') continue;
    const name = models.names[kind.schema];
    if (!name) throw new Error(`${gvkKey(kind)}: @kubernetes/client-node has no ${kind.schema}`);
    names.set(kind, name);
  }
  return names;
}

/** The same without the models: built-in types are published by group, version and kind. */
function namesOf(kinds: readonly Kind[], definitions: Definitions): Map<Kind, string> {
  const names = new Map<Kind, string>();
  for (const kind of kinds) {
    if (typeof kind.schema !== 'string') continue;
    const name = `${packageName(kind.group, kind.version)}.${kind.kind}`;
    if (!definitions.has(name)) throw new Error(`${gvkKey(kind)}: there is no definition ${name}`);
    names.set(kind, name);
  }
  return names;
}

/** The models that the kinds reach, with the kinds' field rules written into them. */
function laidOver(kinds: readonly Kind[]): Map<string, Schema> {
  const models = loadModels();
  const rules = new Map<string, Map<string, FieldRule>>();
  for (const table of new Set(kinds.flatMap((kind) => kind.fieldRules ?? []))) {
    indexRules(table, models.names, rules);
  }
  const reached = new Map<string, Schema>();
  const visit = (name: string): void => {
    if (reached.has(name)) return;
    const model = models.definitions[name];
    if (!model) throw new Error(`the models have no ${name}`);
    const fields = rules.get(name);
    const schema = fields ? withRules(model, fields) : model;
    reached.set(name, schema);
    for (const ref of refsOf(schema)) visit(ref);
  };
  for (const name of ALWAYS) visit(name);
  for (const kind of kinds) {
    for (const root of rootsOf(kind, models.names)) {
      if (root.sure || models.definitions[root.name]) visit(root.name);
    }
    if (typeof kind.schema !== 'string') for (const ref of refsOf(kind.schema)) visit(ref);
  }
  return reached;
}

/** The kind's own type, its list's, and its subresources' bodies. */
function rootsOf(
  kind: Kind,
  names: Readonly<Record<string, string>>,
): { name: string; sure: boolean }[] {
  const roots: { name: string; sure: boolean }[] = [];
  if (typeof kind.schema === 'string') {
    const name = names[kind.schema];
    if (!name) throw new Error(`${gvkKey(kind)}: @kubernetes/client-node has no ${kind.schema}`);
    roots.push({ name, sure: true }, { name: `${name}List`, sure: false });
  }
  for (const subresource of Object.values(kind.subresources ?? {})) {
    if (subresource.type === 'scale') {
      roots.push({ name: 'io.k8s.api.autoscaling.v1.Scale', sure: true });
    } else if (subresource.type === 'handler' && subresource.body) {
      const { group, version, kind: name } = subresource.body;
      roots.push({ name: `${packageName(group, version)}.${name}`, sure: false });
    }
  }
  return roots;
}

function indexRules(
  table: FieldRules,
  names: Readonly<Record<string, string>>,
  into: Map<string, Map<string, FieldRule>>,
): void {
  for (const [key, rule] of Object.entries(table)) {
    const [model = '', ...field] = key.split('.');
    const name = names[model] ?? model;
    const fields = into.get(name) ?? new Map<string, FieldRule>();
    fields.set(field.join('.'), { ...fields.get(field.join('.')), ...rule });
    into.set(name, fields);
  }
}

function withRules(model: Schema, rules: ReadonlyMap<string, FieldRule>): Schema {
  const properties: Record<string, Schema> = { ...model.properties };
  const required = new Set(model.required);
  for (const [field, rule] of rules) {
    if (field === '') continue;
    const schema = properties[field];
    // A rule for a field that this release of the models lacks does no harm.
    if (!schema) continue;
    properties[field] = withRule(schema, rule);
    if (rule.required) required.add(field);
  }
  const type = rules.get('');
  return {
    ...model,
    ...(type?.mapType ? { 'x-kubernetes-map-type': type.mapType } : {}),
    ...(Object.keys(properties).length > 0 ? { properties } : {}),
    ...(required.size > 0 ? { required: [...required].sort() } : {}),
  };
}

function withRule(schema: Schema, rule: FieldRule): Schema {
  const isList = schema.type === 'array';
  return {
    ...schema,
    ...(rule.default === undefined ? {} : { default: rule.default }),
    ...(rule.enum && !isList ? { enum: rule.enum } : {}),
    ...(rule.enum && schema.items ? { items: { ...schema.items, enum: rule.enum } } : {}),
    ...(rule.listType ? { 'x-kubernetes-list-type': rule.listType } : {}),
    ...(rule.listMapKeys ? { 'x-kubernetes-list-map-keys': rule.listMapKeys } : {}),
    ...(rule.mapType ? { 'x-kubernetes-map-type': rule.mapType } : {}),
    ...(rule.mergeKey ? { 'x-kubernetes-patch-merge-key': rule.mergeKey } : {}),
    ...(rule.patchStrategy ? { 'x-kubernetes-patch-strategy': rule.patchStrategy } : {}),
  };
}

/** Names of the definitions that a schema mentions itself. */
export function refsOf(schema: Schema, found: Set<string> = new Set()): Set<string> {
  if (schema.ref) found.add(schema.ref);
  for (const property of Object.values(schema.properties ?? {})) refsOf(property, found);
  if (schema.items) refsOf(schema.items, found);
  if (typeof schema.additionalProperties === 'object') refsOf(schema.additionalProperties, found);
  return found;
}

/**
 * Kubernetes' order of versions, best first: stable, then beta, then alpha, higher numbers first;
 * other names after them by alphabet. Source: CustomResourceDefinition "Version priority".
 */
export function compareVersions(a: string, b: string): number {
  const left = versionRank(a);
  const right = versionRank(b);
  if (!left || !right) return left ? -1 : right ? 1 : a < b ? -1 : a > b ? 1 : 0;
  for (let i = 0; i < left.length; i++) {
    const difference = (right[i] ?? 0) - (left[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function versionRank(version: string): [number, number, number] | undefined {
  const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
  if (!match) return undefined;
  const stage = match[2] === 'alpha' ? 0 : match[2] === 'beta' ? 1 : 2;
  return [stage, Number(match[1]), Number(match[3] ?? 0)];
}
