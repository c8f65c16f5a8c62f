import { codePoints } from '#api/cel/cost.ts';
import { formatText } from '#api/cel/format.ts';
import { type Overload, overload } from '#api/cel/function.ts';
import { regexOf } from '#api/cel/regex.ts';
import { CelError, CelList, type Value } from '#api/cel/values.ts';

/** Text. Source: cel-go "Strings" version 2; Kubernetes CEL "regex" library. */

const outOfRange = (index: bigint): CelError => new CelError(`index out of range: ${index}`);

function charAt(text: string, index: bigint): Value {
  const letters = [...text];
  if (index < 0n || index > BigInt(letters.length)) return outOfRange(index);
  return letters[Number(index)] ?? '';
}

/** Positions count code points. */
function indexOf(text: string, part: string, from: bigint): Value {
  const letters = [...text];
  if (from < 0n || (from > BigInt(letters.length) && part !== '')) return outOfRange(from);
  if (part === '') return from;
  const head = letters.slice(0, Number(from)).join('').length;
  const found = text.indexOf(part, head);
  return found < 0 ? -1n : BigInt(codePoints(text.slice(0, found)));
}

function lastIndexOf(text: string, part: string, from: bigint | null): Value {
  const letters = [...text];
  const length = BigInt(letters.length);
  if (part === '') return from ?? length;
  if (from !== null && (from < 0n || from >= length)) return outOfRange(from);
  const head = from === null ? text.length : letters.slice(0, Number(from)).join('').length;
  const found = text.lastIndexOf(part, head);
  return found < 0 ? -1n : BigInt(codePoints(text.slice(0, found)));
}

function substring(text: string, start: bigint, end: bigint | null): Value {
  const letters = [...text];
  const length = BigInt(letters.length);
  const stop = end ?? length;
  if (end !== null && start > end) {
    return new CelError(`invalid substring range. start: ${start}, end: ${end}`);
  }
  if (start < 0n || start > length) return outOfRange(start);
  if (stop < 0n || stop > length) return outOfRange(stop);
  return letters.slice(Number(start), Number(stop)).join('');
}

/** `limit` negative: all. */
function replace(text: string, old: string, fresh: string, limit: bigint): string {
  if (limit < 0n)
    return old === '' ? surround(text, fresh, Infinity) : text.replaceAll(old, () => fresh);
  if (old === '') return surround(text, fresh, Number(limit));
  const parts = text.split(old);
  const count = Math.min(Number(limit), parts.length - 1);
  return [parts.slice(0, count + 1).join(fresh), ...parts.slice(count + 1)].join(old);
}

/** Replacing nothing puts the text before every letter and at the end. */
function surround(text: string, fresh: string, limit: number): string {
  const letters = [...text];
  let result = '';
  for (let i = 0; i <= letters.length; i++) result += (i < limit ? fresh : '') + (letters[i] ?? '');
  return result;
}

function split(text: string, separator: string, limit: bigint): CelList {
  if (limit === 0n) return new CelList([]);
  if (limit === 1n) return new CelList([text]);
  const parts = separator === '' ? [...text] : text.split(separator);
  if (limit < 0n || parts.length <= Number(limit)) return new CelList(parts);
  const kept = parts.slice(0, Number(limit) - 1);
  return new CelList([...kept, parts.slice(Number(limit) - 1).join(separator)]);
}

function join(list: CelList, separator: string): Value {
  const parts: string[] = [];
  for (const item of list) {
    if (typeof item !== 'string')
      return new CelError('join: invalid input: list element is not a string');
    parts.push(item);
  }
  return parts.join(separator);
}

const QUOTES: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
};

const quote = (text: string): string =>
  `"${text.toWellFormed().replaceAll(/[\x07\b\f\n\r\t\v\\"]/g, (letter) => QUOTES[letter] ?? letter)}"`;

const lower = (text: string): string => text.replaceAll(/[A-Z]+/g, (part) => part.toLowerCase());
const upper = (text: string): string => text.replaceAll(/[a-z]+/g, (part) => part.toUpperCase());

function find(text: string, pattern: string): Value {
  const regex = regexOf(pattern);
  return regex instanceof CelError ? illegal(pattern, regex) : regex.find(text);
}

function findAll(text: string, pattern: string, limit: bigint): Value {
  const regex = regexOf(pattern);
  if (regex instanceof CelError) return illegal(pattern, regex);
  return new CelList(limit === 0n ? [] : regex.findAll(text, Number(limit)));
}

const illegal = (pattern: string, error: CelError): CelError =>
  new CelError(`Illegal regex: ${pattern}: ${error.message}`);

export const stringFunctions: readonly Overload[] = [
  overload('charAt', 'string.(int) string', charAt),
  overload('indexOf', 'string.(string) int', (text: string, part: string) =>
    indexOf(text, part, 0n),
  ),
  overload('indexOf', 'string.(string, int) int', indexOf),
  overload('lastIndexOf', 'string.(string) int', (text: string, part: string) =>
    lastIndexOf(text, part, null),
  ),
  overload('lastIndexOf', 'string.(string, int) int', lastIndexOf),
  overload('lowerAscii', 'string.() string', lower),
  overload('upperAscii', 'string.() string', upper),
  overload(
    'replace',
    'string.(string, string) string',
    (text: string, old: string, fresh: string) => replace(text, old, fresh, -1n),
  ),
  overload('replace', 'string.(string, string, int) string', replace),
  overload('split', 'string.(string) list<string>', (text: string, separator: string) =>
    split(text, separator, -1n),
  ),
  overload('split', 'string.(string, int) list<string>', split),
  overload('substring', 'string.(int) string', (text: string, start: bigint) =>
    substring(text, start, null),
  ),
  overload('substring', 'string.(int, int) string', substring),
  overload('trim', 'string.() string', (text: string) =>
    text.replaceAll(/^[\s\x85]+|[\s\x85]+$/g, ''),
  ),
  overload('format', 'string.(list<dyn>) string', formatText),
  overload('strings.quote', '(string) string', quote),
  overload('join', 'list<string>.() string', (list: CelList) => join(list, '')),
  overload('join', 'list<string>.(string) string', join),
  overload('find', 'string.(string) string', find),
  overload('findAll', 'string.(string) list<string>', (text: string, pattern: string) =>
    findAll(text, pattern, -1n),
  ),
  overload('findAll', 'string.(string, int) list<string>', findAll),
  overload('jsonpatch.escapeKey', '(string) string', (key: string) =>
    key.replaceAll('~', '~0').replaceAll('/', '~1'),
  ),
];
