import { conform } from '#api/conform.ts';
import type { ParsedJson } from '#api/json.ts';
import { isPlainObject, parseJson, refusePrototypeKeys, unrecognizedError } from '#api/json.ts';
import { keyOrder } from '#api/json-scan.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import type { Definitions, Schema } from '#api/schema.ts';
import { invalid } from '#api/field-error.ts';
import { badRequestError, invalidError } from '#api/status.ts';
import type { KubeObject, ObjectMeta } from '#api/types.ts';
import { yamlToJson } from '#api/yaml.ts';
import { ProtobufError, messageNameOf } from '#proto/kubernetes-messages.ts';
import { decodeMessage, readEnvelope } from '#proto/kubernetes.ts';
import { bodyType, unsupportedMedia } from '#apiserver/negotiate.ts';

/** What happens to unknown and duplicate fields. Source: Kubernetes "Field validation". */
export type FieldValidation = 'Strict' | 'Warn' | 'Ignore';

export type DecodeOptions = {
  contentType: string | undefined;
  fieldValidation: FieldValidation;
  warnings: string[];
};

/** The kinds and schemas a decoder needs of a scheme. */
export type Decodable = { group: string; version: string; kind: string };

/** Reads a body as JSON or YAML. Throws StatusError 400 and 415. */
export function parseBody(
  body: Uint8Array | null,
  contentType: string | undefined,
  options: { findDuplicates: boolean; kind?: string },
): ParsedJson {
  const bytes = body ?? new Uint8Array();
  switch (bodyType(contentType)) {
    case 'json':
      return parseJson(bytes, options);
    case 'yaml':
      return yamlToJson(Buffer.from(bytes).toString('utf8'), options);
    case 'protobuf':
      return { value: protobufObject(bytes, options.kind), duplicates: [] };
  }
}

function protobufObject(bytes: Uint8Array, expected: string | undefined): unknown {
  try {
    const { apiVersion, kind, raw } = readEnvelope(bytes);
    const name = messageNameOf(apiVersion, kind || (expected ?? ''));
    if (name === undefined) {
      throw new ProtobufError(
        `no kind ${JSON.stringify(kind)} is registered for version ${JSON.stringify(apiVersion)}`,
      );
    }
    const object = { apiVersion, kind, ...decodeMessage(raw, name) };
    refusePrototypeKeys(Buffer.from(raw).toString('latin1'), object);
    return object;
  } catch (error) {
    if (!(error instanceof ProtobufError) && !(error instanceof SyntaxError)) throw error;
    throw badRequestError(
      `the object provided is unrecognized (must be of type ${expected}): ${error.message}`,
    );
  }
}

/**
 * Body → object of `kind`: parsed, named, pruned, typed and defaulted.
 * Throws StatusError 400 and 415 in upstream's words.
 */
export function decodeObject(
  scheme: Scheme,
  kind: Kind,
  body: Uint8Array | null,
  options: DecodeOptions,
): KubeObject {
  const findDuplicates = options.fieldValidation !== 'Ignore';
  if (isCustom(kind) && bodyType(options.contentType) === 'protobuf') {
    throw unsupportedMedia('application/json, application/yaml');
  }
  const parsed = parseBody(body, options.contentType, { findDuplicates, kind: kind.kind });
  const object = checkType(kind, parsed.value, body);
  conformObject(kind, object, scheme.schemaOf(kind), scheme.definitions, {
    ...options,
    duplicates: parsed.duplicates,
    // The typed reader of JSON finds both in one pass; those of YAML and custom kinds in two.
    ...(bodyType(options.contentType) === 'json' && !isCustom(kind) && body ? { text: body } : {}),
  });
  (object.metadata as unknown) ??= {};
  kind.defaults?.(object);
  return object;
}

/** Types checked, unknown fields dropped, told of or refused, as the request asks. */
export function conformObject(
  kind: Decodable,
  object: KubeObject,
  schema: Schema,
  definitions: Definitions,
  options: {
    fieldValidation: FieldValidation;
    warnings: string[];
    duplicates: readonly string[];
    /** JSON text in whose order faults are named; unset: duplicates come first. */
    text?: Uint8Array;
  },
): void {
  const { unknown, typeErrors } = conform(object, schema, definitions);
  const [typeError] = typeErrors;
  if (typeError !== undefined) throw unhandled(kind, kind.kind, typeError);
  const faults = strictFaults(unknown, options.duplicates, options.text);
  if (faults.length === 0 || options.fieldValidation === 'Ignore') return;
  if (options.fieldValidation === 'Warn') options.warnings.push(...faults);
  else throw unhandled(kind, kind.kind, `strict decoding error: ${faults.join(', ')}`);
}

export function strictFaults(
  unknown: readonly string[],
  duplicates: readonly string[],
  text?: Uint8Array,
): string[] {
  const faults = [
    ...duplicates.map((path) => `duplicate field ${JSON.stringify(path)}`),
    ...unknown,
  ];
  if (!text || duplicates.length === 0 || unknown.length === 0) return faults;
  const keys = keyOrder(Buffer.from(text).toString('utf8'));
  const places = new Map([...keys].map((key, at) => [key, at]));
  const place = (fault: string): number => places.get(fault.slice(fault.indexOf('"') + 1, -1)) ?? 0;
  return faults.toSorted((a, b) => place(a) - place(b));
}

const unhandled = (kind: Decodable, as: string, why: string): Error =>
  badRequestError(
    `${kind.kind} in version ${JSON.stringify(kind.version)} cannot be handled as a ${as}: ${why}`,
  );

/** Custom kinds have no type to take names from; a ref is a built-in body (TokenRequest). */
export const isCustom = ({ schema }: Kind): boolean =>
  typeof schema !== 'string' && schema.ref === undefined;

/** The body's apiVersion and kind must be the URL's; left out, they are. */
export function checkType(kind: Kind, value: unknown, body: Uint8Array | null): KubeObject {
  const text = () => Buffer.from(body ?? []).toString('utf8');
  if (value === null) return checkType(kind, {}, body);
  if (!isPlainObject(value)) {
    const type = Array.isArray(value) ? 'array' : typeof value;
    throw unrecognizedError(
      kind.kind,
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${type} into Go value of type struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }`,
      text(),
    );
  }
  for (const field of ['apiVersion', 'kind']) {
    const given = value[field];
    if (given === undefined || given === null || typeof given === 'string') continue;
    throw unrecognizedError(
      kind.kind,
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${goTypeOf(given)} into Go struct field .${field} of type string`,
      text(),
    );
  }
  const expected = apiVersionOf(kind);
  const version = (value['apiVersion'] as string | undefined) || expected;
  const named = (value['kind'] as string | undefined) || kind.kind;
  if (version.split('/').length > 2) {
    throw unrecognizedError(kind.kind, `unexpected GroupVersion string: ${version}`, text());
  }
  if (isCustom(kind)) {
    const missing = !value['kind'] ? 'Kind' : !value['apiVersion'] ? 'apiVersion' : '';
    if (missing) {
      throw unrecognizedError(kind.kind, `Object '${missing}' is missing in '${text()}'`, text());
    }
  }
  if (version !== expected) {
    throw badRequestError(
      `the API version in the data (${version}) does not match the expected API version (${expected})`,
    );
  }
  if (named !== kind.kind) {
    if (typeof kind.schema !== 'string' && kind.schema.custom) {
      const { name } = (isPlainObject(value['metadata']) ? value['metadata'] : {}) as ObjectMeta;
      const wrong = invalid('kind', named, `must be ${kind.kind}`);
      throw invalidError({ group: kind.group, kind: named }, name ?? '', [wrong]);
    }
    const internal = kind.group === '' ? 'core' : (kind.group.split('.')[0] ?? '');
    throw unhandled(
      { ...kind, kind: named },
      kind.kind,
      `converting (${kind.version}.${named}) to (${internal}.${kind.kind}): unknown conversion`,
    );
  }
  value['apiVersion'] = expected;
  value['kind'] = kind.kind;
  return value as KubeObject;
}

function goTypeOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  return typeof value === 'boolean' ? 'bool' : typeof value;
}
