import { isTooDeep, scanJson } from '#api/json-scan.ts';
import { badRequestError } from '#api/status.ts';
import { parseExact } from '#base/exact-json.ts';

/** `duplicates` are paths such as `spec.replicas`; always empty unless they were asked for. */
export type ParsedJson = { value: unknown; duplicates: string[] };

export type ParseJsonOptions = {
  /** Costs a second, slower pass; strict and warning field validation need it. */
  findDuplicates?: boolean;
  /** Kind that the request is about, for the error text. */
  kind?: string;
};

/**
 * Reads a body. Throws StatusError 400 in upstream's words when the text is no JSON, nests deeper
 * than MAX_DEPTH, or has a member `__proto__` anywhere, which no API type has and which would let a
 * body reach into our objects. As in upstream, the last of duplicate keys wins.
 */
export function parseJson(
  body: Uint8Array | string,
  { findDuplicates = false, kind }: ParseJsonOptions = {},
): ParsedJson {
  const text = typeof body === 'string' ? body : decode(body);
  if (isTooDeep(text)) throw unreadable('exceeded max depth', text, kind);
  let value: unknown;
  try {
    value = parseExact(text);
  } catch (error) {
    const scan = scanJson(text);
    const message = 'error' in scan ? scan.error : (error as Error).message;
    throw unreadable(message, text, kind);
  }
  refusePrototypeKeys(text, value);
  value = wellFormed(text, value);
  if (!findDuplicates) return { value, duplicates: [] };
  const scan = scanJson(text);
  return { value, duplicates: 'duplicates' in scan ? scan.duplicates : [] };
}

/**
 * `value`, which `text` was read to, with halves of surrogate pairs replaced as Go does it: they
 * come from escapes, and no UTF-8 can say them.
 */
export function wellFormed(text: string, value: unknown): unknown {
  return /\\[uU](0000)?[dD][89a-fA-F]/.test(text) ? repaired(value) : value;
}

function repaired(value: unknown): unknown {
  if (typeof value === 'string') return value.toWellFormed();
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(repaired);
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key.toWellFormed(), repaired(item)]),
  );
}

function decode(body: Uint8Array): string {
  return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
}

function unreadable(message: string, text: string, kind: string | undefined): Error {
  if (kind === undefined) {
    return badRequestError(`couldn't get version/kind; json parse error: ${message}`);
  }
  return unrecognizedError(kind, `couldn't get version/kind; json parse error: ${message}`, text);
}

/** Upstream's answer to a body that it cannot even take for an object of some kind. */
export function unrecognizedError(kind: string, why: string, text: string): Error {
  return badRequestError(
    `the object provided is unrecognized (must be of type ${kind}): ${why} (${excerpt(text)})`,
  );
}

/** Up to 30 characters of what looks like JSON, else the first bytes in hexadecimal. */
function excerpt(text: string): string {
  if (text === '') return '<empty>';
  if (text.startsWith('{')) return text.length > 30 ? `${text.slice(0, 30)} ...` : text;
  const bytes = Buffer.from(text, 'utf8');
  const hex = bytes.subarray(0, 30).toString('hex');
  return bytes.length > 30 ? `${hex} ...` : hex;
}

/** Throws StatusError 400 when a member of `value`, which `text` was read to, is `__proto__`. */
export function refusePrototypeKeys(text: string, value: unknown): void {
  if (mayHavePrototype(text) && hasPrototypeKey(value)) {
    throw badRequestError('the body has a member named "__proto__", which is not allowed');
  }
}

/** Also true for escaped spellings of the underscore; the walk below then looks closely. */
const mayHavePrototype = (text: string): boolean =>
  text.includes('__proto__') || text.includes('\\u005') || text.includes('\\x5');

function hasPrototypeKey(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (Array.isArray(value)) return value.some(hasPrototypeKey);
  if (Object.hasOwn(value, '__proto__')) return true;
  return Object.values(value).some(hasPrototypeKey);
}

export type PlainObject = { [member: string]: unknown };

/** Neither an array nor null. */
export const isPlainObject = (value: unknown): value is PlainObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A deep copy of a JSON value; several times faster than structuredClone. */
export function cloneJson<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(cloneJson) as T;
  const copy: PlainObject = {};
  for (const key in value) copy[key] = cloneJson(value[key]);
  return copy as T;
}

/** Equality of JSON values; the order of members does not count, undefined members are absent. */
export function equalJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!equalJson(a[i], b[i])) return false;
    return true;
  }
  if (Array.isArray(b)) return false;
  const left = a as PlainObject;
  const right = b as PlainObject;
  let members = 0;
  for (const key in left) {
    if (left[key] === undefined) continue;
    members++;
    if (right[key] === undefined || !equalJson(left[key], right[key])) return false;
  }
  for (const key in right) if (right[key] !== undefined) members--;
  return members === 0;
}
