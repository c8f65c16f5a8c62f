import { elementOf } from '#api/field-compare.ts';
import type { Shape } from '#api/field-shape.ts';
import { isPlainObject } from '#api/json.ts';
import type { PlainObject } from '#api/json.ts';
import { apiVersionOf } from '#api/kind.ts';
import { goText } from '#api/patch-strategic.ts';
import { StatusError, badRequestError, failure } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { parseYaml } from '#api/yaml.ts';

/** Reading and checking what somebody applies. */

type Gvk = { group: string; version: string; kind: string };

/** `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`: as upstream prints kinds. */
const gvkText = (apiVersion: string, kind: string): string =>
  `${apiVersion.includes('/') ? '' : '/'}${apiVersion}, Kind=${kind}`;

/**
 * The body of an apply: one YAML or JSON object of the URL's kind, without managedFields.
 * `strict` refuses keys that come twice. Throws StatusError 400 in upstream's words.
 */
export function readApplied(body: Uint8Array, kind: Gvk, { strict = false } = {}): KubeObject {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
  const document = readYaml(text);
  if (strict && document && document.duplicates.length > 0) {
    const lines = document.duplicates.map(
      ({ path, line }) => `  line ${line}: key "${path.replace(/^.*\./, '')}" already set in map`,
    );
    throw badRequestError(
      `error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n${lines.join('\n')}`,
    );
  }
  const value = document?.value ?? {};
  if (!isPlainObject(value)) {
    throw badRequestError(
      `error decoding YAML: json: cannot unmarshal ${Array.isArray(value) ? 'array' : typeof value} into Go value of type map[string]interface {}`,
    );
  }
  const { apiVersion = '', kind: name = '', metadata } = value;
  if (apiVersion !== apiVersionOf(kind) || name !== kind.kind) {
    throw badRequestError(`invalid object type: ${gvkText(String(apiVersion), String(name))}`);
  }
  const meta = isPlainObject(metadata) ? metadata : {};
  if (Array.isArray(meta['managedFields']) && meta['managedFields'].length > 0) {
    throw badRequestError('metadata.managedFields must be nil');
  }
  return { ...value, metadata: meta } as KubeObject;
}

function readYaml(text: string) {
  try {
    return parseYaml(text)[0];
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    const place = /^yaml:(\d+):\d+: ([\s\S]*)$/.exec(error.message);
    const why = place ? `line ${place[1]}: ${place[2]}` : error.message;
    throw badRequestError(`error decoding YAML: error converting YAML to JSON: yaml: ${why}`);
  }
}

/** Throws StatusError 500, as upstream does, when a value has no place in the schema. */
export function refuseMisfits(applied: KubeObject, shape: Shape, kind: Gvk): void {
  const errors: string[] = [];
  check(applied, shape, '', errors);
  if (errors.length === 0) return;
  const { namespace = '', name = '' } = applied.metadata;
  const text =
    errors.length === 1 ? errors[0] : `errors:\n${errors.map((e) => `  ${e}`).join('\n')}`;
  throw failure(
    500,
    '',
    `failed to create typed patch object (${namespace}/${name}; ${gvkText(apiVersionOf(kind), kind.kind)}): ${text}`,
  );
}

/** Whether everything in a value has a place in the shape. */
export function fits(value: unknown, shape: Shape): boolean {
  const errors: string[] = [];
  check(value, shape, '', errors);
  return errors.length === 0;
}

function check(value: unknown, shape: Shape, path: string, errors: string[]): void {
  if (value === null || value === undefined) return;
  switch (shape.type) {
    case 'any':
      return;
    case 'map':
      if (isPlainObject(value)) checkMembers(value, shape, path, errors);
      else errors.push(`${path}: expected map, got &{${goText(value)}}`);
      return;
    case 'list':
      if (Array.isArray(value)) checkItems(value, shape, path, errors);
      else errors.push(`${path}: expected list, got &{${goText(value)}}`);
      return;
    case 'number':
      if (typeof value === 'number' || typeof value === 'bigint') return;
      errors.push(`${path}: expected numeric (int or float), got ${goType(value)}`);
      return;
    case 'string':
    case 'boolean':
      if (typeof value === shape.type) return;
      errors.push(
        `${path}: expected ${shape.type}, got &value.valueUnstructured{Value:${goText(value)}}`,
      );
      return;
  }
}

function goType(value: unknown): string {
  if (typeof value === 'string') return 'string';
  if (typeof value === 'boolean') return 'bool';
  return Array.isArray(value) ? '[]interface {}' : 'map[string]interface {}';
}

function checkMembers(value: PlainObject, shape: Shape, path: string, errors: string[]): void {
  for (const [name, inner] of Object.entries(value)) {
    const member = shape.fields.get(name) ?? shape.items;
    // Owners are not part of the shape; that they are absent has been checked.
    if (name === 'managedFields' && !member) continue;
    if (member) check(inner, member, `${path}.${name}`, errors);
    else if (shape.fields.size > 0) errors.push(`${path}.${name}: field not declared in schema`);
  }
}

function checkItems(list: unknown[], shape: Shape, path: string, errors: string[]): void {
  const seen = new Set<string>();
  for (const [index, item] of list.entries()) {
    const element = shape.kind === 'whole' ? `[${index}]` : printed(item, shape);
    if (shape.kind !== 'whole' && seen.has(element)) {
      errors.push(`${path}: duplicate entries for key ${element}`);
    }
    seen.add(element);
    if (shape.items) check(item, shape.items, `${path}${element}`, errors);
  }
}

/** `[containerPort=80,protocol="TCP"]`, `[="x"]` */
function printed(item: unknown, shape: Shape): string {
  const element = elementOf(item, shape);
  if (element.startsWith('v:')) return `[=${element.slice(2)}]`;
  const keys = JSON.parse(element.slice(2)) as Record<string, unknown>;
  return `[${Object.entries(keys)
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join(',')}]`;
}
