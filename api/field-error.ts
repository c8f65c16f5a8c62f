/**
 * One broken rule of one field. Messages and ordering follow upstream's field.Error, because
 * clients print and match them. Source: metav1.StatusCause, field validation of the API reference.
 */
export type FieldError = {
  reason:
    | 'FieldValueRequired'
    | 'FieldValueInvalid'
    | 'FieldValueNotSupported'
    | 'FieldValueDuplicate'
    | 'FieldValueNotFound'
    | 'FieldValueForbidden'
    | 'FieldValueTooLong'
    | 'FieldValueTooMany'
    | 'FieldValueTypeInvalid'
    | 'InternalError';
  /** Path with upstream's spelling: `spec.containers[0].name`, `metadata.labels[a/b]`. */
  path: string;
  /** What follows the path: `Required value: ...`. */
  message: string;
};

/** How upstream prints an offending value: strings quoted, numbers bare, objects as JSON. */
export function printValue(value: unknown): string {
  if (value === undefined || value === null) return 'null';
  if (typeof value === 'string') return quoted(value);
  // Go's JSON is safe inside HTML.
  return JSON.stringify(value).replaceAll(/[<>&\u2028\u2029]/g, (char) => unicodeEscape(char));
}

const unicodeEscape = (char: string): string =>
  `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** A text as Go's `%q` shows it, which differs from JSON in characters that nobody can see. */
const quoted = (text: string): string =>
  JSON.stringify(text).replaceAll(/\\\\|\\u00([0-9a-f]{2})|\u007f/g, (found, hex = '7f') =>
    found === '\\\\' ? found : (GO_ESCAPES[hex as string] ?? `\\x${hex}`),
  );
const GO_ESCAPES: Readonly<Record<string, string>> = { '07': '\\a', '0b': '\\v' };

const withDetail = (head: string, detail: string): string => (detail ? `${head}: ${detail}` : head);

export const required = (path: string, detail = ''): FieldError => ({
  reason: 'FieldValueRequired',
  path,
  message: withDetail('Required value', detail),
});

export const invalid = (path: string, value: unknown, detail: string): FieldError => ({
  reason: 'FieldValueInvalid',
  path,
  message: withDetail(`Invalid value: ${printValue(value)}`, detail),
});

/** `supported` keeps the caller's order; upstream sorts most such lists alphabetically. */
export const notSupported = (
  path: string,
  value: unknown,
  supported: readonly string[],
): FieldError => ({
  reason: 'FieldValueNotSupported',
  path,
  message: withDetail(
    `Unsupported value: ${printValue(value)}`,
    supported.length ? `supported values: ${supported.map(printValue).join(', ')}` : '',
  ),
});

export const duplicate = (path: string, value: unknown): FieldError => ({
  reason: 'FieldValueDuplicate',
  path,
  message: `Duplicate value: ${printValue(value)}`,
});

export const notFound = (path: string, value: unknown): FieldError => ({
  reason: 'FieldValueNotFound',
  path,
  message: `Not found: ${printValue(value)}`,
});

export const forbidden = (path: string, detail: string): FieldError => ({
  reason: 'FieldValueForbidden',
  path,
  message: withDetail('Forbidden', detail),
});

/** `maxLength` counts bytes or characters, as the rule says. */
export const tooLong = (path: string, maxLength: number): FieldError => ({
  reason: 'FieldValueTooLong',
  path,
  message: `Too long: may not be more than ${maxLength} bytes`,
});

export const tooMany = (path: string, actual: number, maxItems: number): FieldError => ({
  reason: 'FieldValueTooMany',
  path,
  message: `Too many: ${actual}: must have at most ${maxItems} items`,
});

export const typeInvalid = (path: string, value: unknown, detail: string): FieldError => ({
  reason: 'FieldValueTypeInvalid',
  path,
  message: withDetail(`Invalid value: ${printValue(value)}`, detail),
});
