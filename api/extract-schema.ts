import { mkdirSync, readFileSync, readdirSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { betterText, locateDocs, readDocs } from '#api/extract-docs.ts';
import type { Schema } from '#api/schema.ts';

/**
 * Reads field names, types, required marks and documentation of the stable Kubernetes types out of
 * the installed @kubernetes/client-node package, and more documentation out of kubernetes-types. `node api/extract-schema.ts` writes the result to
 * `.generated/models.json`, so that a server's start only parses one file.
 */

/** The extracted models under their published names; `names` leads from `V1Pod` there. */
export type Models = {
  /** What the file was made from; another value means it has to be made again. */
  source: string;
  names: Readonly<Record<string, string>>;
  definitions: Readonly<Record<string, Schema>>;
};

/** Rises whenever this file would write something else for the same package. */
const EXTRACTION = 2;

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const CORE = 'io.k8s.api.core.v1';
const QUANTITY = 'io.k8s.apimachinery.pkg.api.resource.Quantity';
const INT_OR_STRING = 'io.k8s.apimachinery.pkg.util.intstr.IntOrString';
const RAW_EXTENSION = 'io.k8s.apimachinery.pkg.runtime.RawExtension';
const EXTENSIONS = 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1';

/** Types of apimachinery, which every group shares. */
const META_MODELS = (
  'APIGroup APIGroupList APIResource APIResourceList APIVersions Condition DeleteOptions ' +
  'FieldSelectorRequirement GroupVersionForDiscovery LabelSelector LabelSelectorRequirement ' +
  'ListMeta ManagedFieldsEntry ObjectMeta OwnerReference Preconditions ' +
  'ServerAddressByClientCIDR ShardInfo Status StatusCause StatusDetails WatchEvent'
).split(' ');

/** Types served under several groups' paths, or reached only through another group's types. */
const HOMES: Readonly<Record<string, string>> = {
  V1Scale: 'io.k8s.api.autoscaling.v1',
  V1Eviction: 'io.k8s.api.policy.v1',
  AuthenticationV1TokenRequest: 'io.k8s.api.authentication.v1',
  V1Overhead: 'io.k8s.api.node.v1',
  V1TopologySelectorTerm: CORE,
  V1TypedObjectReference: CORE,
  VersionInfo: 'io.k8s.apimachinery.pkg.version',
};

/** Names that the generator changed beyond the group prefix. */
const PREFIX =
  /^(Admissionregistration|Apiextensions|Apiregistration|Authentication|Core|Discovery|Events|Flowcontrol|Rbac|Resource|Storage)?V\d+/;

/** The models call a quantity a string. `{}` marks maps and `[]` lists of quantities. */
const QUANTITIES: ReadonlySet<string> = new Set(
  (
    'V1CSIStorageCapacity.capacity V1CSIStorageCapacity.maximumVolumeSize ' +
    'V1CapacityRequestPolicy.default V1CapacityRequestPolicy.validValues[] ' +
    'V1CapacityRequestPolicyRange.max V1CapacityRequestPolicyRange.min ' +
    'V1CapacityRequestPolicyRange.step V1CapacityRequirements.requests{} ' +
    'V1ContainerStatus.allocatedResources{} V1Counter.value V1DeviceCapacity.value ' +
    'V1DeviceRequestAllocationResult.consumedCapacity{} V1EmptyDirVolumeSource.sizeLimit ' +
    'V1LimitRangeItem.default{} V1LimitRangeItem.defaultRequest{} V1LimitRangeItem.max{} ' +
    'V1LimitRangeItem.maxLimitRequestRatio{} V1LimitRangeItem.min{} ' +
    'V1NodeAllocatableResourceClaimStatus.resources{} ' +
    'V1NodeAllocatableResourceMapping.allocationMultiplier V1NodeStatus.allocatable{} ' +
    'V1NodeStatus.capacity{} V1Overhead.podFixed{} V1PersistentVolumeClaimStatus.capacity{} ' +
    'V1PersistentVolumeClaimStatus.allocatedResources{} V1PersistentVolumeSpec.capacity{} ' +
    'V1PodSpec.overhead{} V1PodStatus.allocatedResources{} V1ResourceFieldSelector.divisor ' +
    'V1ResourceQuotaSpec.hard{} V1ResourceQuotaStatus.hard{} V1ResourceQuotaStatus.used{} ' +
    'V1ResourceRequirements.limits{} V1ResourceRequirements.requests{} ' +
    'V1VolumeResourceRequirements.limits{} V1VolumeResourceRequirements.requests{} ' +
    'V2HPAScalingRules.tolerance V2MetricTarget.averageValue V2MetricTarget.value ' +
    'V2MetricValueStatus.averageValue V2MetricValueStatus.value'
  ).split(' '),
);

/** What the models' `any` stands for. */
const ANY: Readonly<Record<string, string>> = {
  'V1AllocatedDeviceStatus.data': RAW_EXTENSION,
  'V1ControllerRevision.data': RAW_EXTENSION,
  'V1OpaqueDeviceConfiguration.parameters': RAW_EXTENSION,
  'V1WatchEvent.object': RAW_EXTENSION,
  'V1ManagedFieldsEntry.fieldsV1': `${META}.FieldsV1`,
  'V1CustomResourceSubresources.status': `${EXTENSIONS}.CustomResourceSubresourceStatus`,
  'V1JSONSchemaProps.additionalItems': `${EXTENSIONS}.JSONSchemaPropsOrBool`,
  'V1JSONSchemaProps.additionalProperties': `${EXTENSIONS}.JSONSchemaPropsOrBool`,
  'V1JSONSchemaProps.default': `${EXTENSIONS}.JSON`,
  'V1JSONSchemaProps.example': `${EXTENSIONS}.JSON`,
  'V1JSONSchemaProps.enum[]': `${EXTENSIONS}.JSON`,
  'V1JSONSchemaProps.items': `${EXTENSIONS}.JSONSchemaPropsOrArray`,
  'V1JSONSchemaProps.dependencies{}': `${EXTENSIONS}.JSONSchemaPropsOrStringArray`,
};

/** Definitions without a model class. The words are ours; the shapes are upstream's. */
const SCALARS: Readonly<Record<string, Schema>> = {
  [QUANTITY]: {
    description:
      'A fixed-point number with an optional suffix: decimal (n u m k M G T P E), binary (Ki Mi Gi Ti Pi Ei) or an exponent (1e3). Examples: 500m, 1.5Gi, 2. It is stored in canonical form: no fraction, the largest fitting suffix.',
    oneOf: [{ type: 'string' }, { type: 'number' }],
  },
  [INT_OR_STRING]: {
    description: 'A whole number, or a string such as a port name or a percentage.',
    format: 'int-or-string',
    oneOf: [{ type: 'integer' }, { type: 'string' }],
  },
  [RAW_EXTENSION]: { description: 'An object of any kind, kept as it is.', type: 'object' },
  [`${META}.Time`]: {
    description: 'A moment in RFC 3339 form, to the second.',
    type: 'string',
    format: 'date-time',
  },
  [`${META}.MicroTime`]: {
    description: 'A moment in RFC 3339 form, to the microsecond.',
    type: 'string',
    format: 'date-time',
  },
  [`${META}.FieldsV1`]: {
    description:
      'A set of fields as a tree: `f:<name>` is a field, `k:<keys>` a list item by its keys, `v:<value>` one by its value, `i:<index>` one by its place, and `.` the item itself.',
    type: 'object',
  },
  [`${META}.Patch`]: {
    description: 'The body of a PATCH request; the content type says which form it has.',
    type: 'object',
  },
  [`${EXTENSIONS}.CustomResourceSubresourceStatus`]: {
    description: 'Switches on the /status subresource of a custom resource.',
    type: 'object',
  },
  [`${EXTENSIONS}.JSON`]: { description: 'Any JSON value.' },
  [`${EXTENSIONS}.JSONSchemaPropsOrArray`]: { description: 'A schema, or a list of schemas.' },
  [`${EXTENSIONS}.JSONSchemaPropsOrBool`]: { description: 'A schema, or true or false.' },
  [`${EXTENSIONS}.JSONSchemaPropsOrStringArray`]: {
    description: 'A schema, or a list of property names.',
  },
};

type Attribute = { baseName: string; type: string; format: string };
type Model = {
  name: string;
  description: string;
  attributes: Attribute[];
  docs: Map<string, string>;
  required: Set<string>;
};

/** Where the installed package keeps its generated sources, and its version. */
function locatePackage(): { folder: string; version: string } {
  const entry = createRequire(import.meta.url).resolve('@kubernetes/client-node');
  const root = entry.slice(0, entry.lastIndexOf('client-node') + 'client-node'.length);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    version: string;
  };
  return { folder: join(root, 'dist', 'gen'), version };
}

/** Only stable versions: alpha and beta types are not served. */
const isStable = (model: string): boolean => !/V\d+(alpha|beta)\d/.test(model);

function readModels(folder: string): Map<string, Model> {
  const models = new Map<string, Model>();
  for (const file of readdirSync(folder)) {
    const name = file.slice(0, -'.d.ts'.length);
    if (!file.endsWith('.d.ts') || !isStable(name)) continue;
    const code = readFileSync(join(folder, `${name}.js`), 'utf8');
    const table = /\.attributeTypeMap = (\[[\s\S]*?\]);/.exec(code)?.[1];
    if (!table || !/^([A-Z][a-z]+)?V\d|^VersionInfo$/.test(name)) continue;
    const declaration = readFileSync(join(folder, file), 'utf8');
    models.set(name, readModel(name, JSON.parse(table) as Attribute[], declaration));
  }
  return models;
}

const plainDoc = (text: string): string =>
  text
    .replaceAll(/\n\s*\*\s?/g, '\n')
    .replaceAll(/\\(['"`])/g, '$1')
    .trim();

function readModel(name: string, attributes: Attribute[], declaration: string): Model {
  const [head = '', body = ''] = declaration.split('export declare class');
  const docs = new Map<string, string>();
  const required = new Set<string>();
  const field = /(?:\/\*\*\n\s*\*\s?((?:(?!\*\/)[\s\S])*?)\s*\*\/\s*)?\n\s{4}'([^']+)'(\??):/g;
  for (const [, doc, escaped = '', optional] of body.matchAll(field)) {
    const base = escaped.replace(/^_/, '').replaceAll('_', '-');
    const real = attributes.find((a) => a.baseName === base || a.baseName === escaped)?.baseName;
    if (real === undefined) continue;
    if (doc) docs.set(real, plainDoc(doc));
    if (optional !== '?') required.add(real);
  }
  const blocks = [...head.matchAll(/\/\*\*\n\* ([\s\S]*?)\*\//g)];
  return { name, description: plainDoc(blocks.at(-1)?.[1] ?? ''), attributes, docs, required };
}

/** `Array<V1Pod>` → `V1Pod`, `{ [key: string]: string; }` → `string`. */
const innerType = (type: string): string =>
  /^Array<(.*)>$/.exec(type)?.[1] ?? /^\{ \[key: string\]: (.*); \}$/.exec(type)?.[1] ?? type;

/** Models that each published package serves, read off the paths of its API class. */
function servedModels(folder: string): Map<string, string[]> {
  const served = new Map<string, string[]>();
  for (const file of readdirSync(folder)) {
    if (!/V\d+Api\.d\.ts$/.test(file)) continue;
    const code = readFileSync(join(folder, file.replace('.d.ts', '.js')), 'utf8');
    const path = /localVarPath = '\/(?:api|apis\/([^/']+))\/(v\d+)\//.exec(code);
    if (!path) continue;
    const declaration = readFileSync(join(folder, file), 'utf8');
    const imports = [...declaration.matchAll(/models\/(\w+)\.js'/g)].map((match) => match[1] ?? '');
    served.set(packageName(path[1] ?? '', path[2] ?? ''), imports.filter(isStable));
  }
  return served;
}

/** `rbac.authorization.k8s.io`, `v1` → `io.k8s.api.rbac.v1`: where a group's types are published. */
export function packageName(group: string, version: string): string {
  if (group === '') return `io.k8s.api.core.${version}`;
  if (group === 'apiextensions.k8s.io') {
    return `io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.${version}`;
  }
  if (group === 'apiregistration.k8s.io') {
    return `io.k8s.kube-aggregator.pkg.apis.apiregistration.${version}`;
  }
  return `io.k8s.api.${group.split('.')[0] ?? group}.${version}`;
}

/** Gives each model the package that publishes it: by table, else by who reaches it, core first. */
function findHomes(models: Map<string, Model>, served: Map<string, string[]>): Map<string, string> {
  const homes = new Map<string, string>();
  for (const model of META_MODELS) homes.set(`V1${model}`, META);
  for (const [model, home] of Object.entries(HOMES)) homes.set(model, home);
  const claim = (name: string, home: string, force: boolean): void => {
    const model = models.get(name);
    const known = homes.get(name);
    if (!model || (known !== undefined && !force) || (force && known && known !== home)) return;
    homes.set(name, home);
    for (const attribute of model.attributes) claim(innerType(attribute.type), home, false);
  };
  for (const [name, home] of Object.entries(HOMES)) claim(name, home, true);
  const packages = [...served].sort(([a], [b]) => Number(b === CORE) - Number(a === CORE));
  // Later packages may refer to what an earlier one serves, so what is served comes first.
  for (const [home, names] of packages) {
    for (const name of names) if (!homes.has(name)) homes.set(name, home);
  }
  for (const [home, names] of packages) {
    for (const name of names) if (homes.get(name) === home) claim(name, home, true);
  }
  return homes;
}

/** The client's generator puts these types' words in place of their members'. */
const LOST: ReadonlySet<string> = new Set([INT_OR_STRING, QUANTITY, `${META}.MicroTime`]);

function schemaOf(
  model: Model,
  names: Readonly<Record<string, string>>,
  texts: ReadonlyMap<string, string>,
): Schema {
  const published = names[model.name] ?? '';
  const properties: Record<string, Schema> = {};
  for (const attribute of model.attributes) {
    const schema = fieldSchema(`${model.name}.${attribute.baseName}`, attribute, names);
    const lost = LOST.has(schema.ref ?? '');
    const said = lost ? undefined : model.docs.get(attribute.baseName);
    const description = betterText(said, texts.get(`${published}#${attribute.baseName}`));
    properties[attribute.baseName] = { ...(description ? { description } : {}), ...schema };
  }
  const required = [...model.required].sort();
  const description = betterText(model.description || undefined, texts.get(published));
  return {
    ...(description ? { description } : {}),
    type: 'object',
    ...(Object.keys(properties).length > 0 ? { properties } : {}),
    ...(required.length > 0 ? { required } : {}),
  };
}

function fieldSchema(
  path: string,
  { type, format }: Attribute,
  names: Readonly<Record<string, string>>,
): Schema {
  const inner = innerType(type);
  if (type.startsWith('Array<')) {
    return { type: 'array', items: valueSchema(`${path}[]`, inner, format, names) };
  }
  if (type.startsWith('{')) {
    return {
      type: 'object',
      additionalProperties:
        inner.startsWith('Array<') || inner.startsWith('{')
          ? fieldSchema(`${path}{}`, { baseName: '', type: inner, format }, names)
          : valueSchema(`${path}{}`, inner, format, names),
    };
  }
  return valueSchema(path, type, format, names);
}

function valueSchema(
  path: string,
  type: string,
  format: string,
  names: Readonly<Record<string, string>>,
): Schema {
  if (QUANTITIES.has(path)) return { ref: QUANTITY };
  switch (type) {
    case 'string':
      return format ? { type: 'string', format } : { type: 'string' };
    case 'boolean':
      return { type: 'boolean' };
    case 'number':
      return format.startsWith('int') ? { type: 'integer', format } : { type: 'number', format };
    case 'Date':
      return { ref: `${META}.Time` };
    case 'V1MicroTime':
      return { ref: `${META}.MicroTime` };
    case 'IntOrString':
      return { ref: INT_OR_STRING };
    case 'any': {
      const ref = ANY[path];
      if (!ref) throw new Error(`the type of ${path} is not known: add it to ANY`);
      return { ref };
    }
    default: {
      const ref = names[type];
      if (!ref) throw new Error(`${path} refers to ${type}, which has no published name`);
      return { ref };
    }
  }
}

/** The packages and this file: what the extracted models depend on. */
const source = (): string =>
  [locatePackage().version, locateDocs()?.version ?? '', EXTRACTION].join('/');

/** Reads the packages. Takes some 200 ms; throws when the package has a shape we do not know. */
export function extractModels(): Models {
  const { folder } = locatePackage();
  const docs = readDocs();
  const models = readModels(join(folder, 'models'));
  const homes = findHomes(models, servedModels(join(folder, 'apis')));
  const names: Record<string, string> = {};
  for (const [name, home] of homes) {
    if (!models.has(name)) continue;
    const short = name === 'VersionInfo' ? 'Info' : name.replace(PREFIX, '');
    names[name] = `${home}.${short}`;
  }
  const definitions: Record<string, Schema> = { ...SCALARS };
  for (const [name, published] of Object.entries(names)) {
    const model = models.get(name);
    if (model) definitions[published] = schemaOf(model, names, docs.texts);
  }
  return { source: source(), names, definitions };
}

/** Where `make setup` leaves the extracted models; ignored by git. */
export const MODELS_FILE: string = join(dirname(import.meta.dirname), '.generated', 'models.json');

/** True when the file had to be written. */
export function writeModels(): boolean {
  const known = readModelsFile();
  if (known?.source === source()) {
    // The date tells `make setup` that it has been looked at.
    utimesSync(MODELS_FILE, new Date(), new Date());
    return false;
  }
  mkdirSync(dirname(MODELS_FILE), { recursive: true });
  writeFileSync(MODELS_FILE, JSON.stringify(extractModels()));
  return true;
}

/** The extracted file, or undefined while there is none. */
export function readModelsFile(): Models | undefined {
  let text: string;
  try {
    text = readFileSync(MODELS_FILE, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return JSON.parse(text) as Models;
}

if (import.meta.main) writeModels();
