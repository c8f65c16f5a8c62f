/**
 * A strict reader of JSON text that says what JSON.parse cannot: which keys an object has twice, how
 * deep it nests, and where it is broken, in the words that clients know from upstream's decoder.
 * It is slower than JSON.parse and runs only when one of these is asked for. Source: RFC 8259.
 */

/** Objects nest some 20 levels; beyond this a body is an attack on the stack. */
export const MAX_DEPTH = 1000;

/** The first error of a text in upstream's words, or the paths of the keys that come twice. */
export type Scan = { error: string } | { duplicates: string[] };

/** The paths of all keys of a well-formed text, in its order, each where it comes last. */
export function keyOrder(text: string): ReadonlySet<string> {
  const keys = new Set<string>();
  scanText({ text, at: 0, depth: 0, duplicates: [], keys });
  return keys;
}

class SyntaxProblem extends Error {}

type Scanner = {
  text: string;
  at: number;
  depth: number;
  duplicates: string[];
  keys?: Set<string>;
};

export function scanJson(text: string): Scan {
  const scanner: Scanner = { text, at: 0, depth: 0, duplicates: [] };
  try {
    scanText(scanner);
  } catch (error) {
    if (error instanceof SyntaxProblem) return { error: error.message };
    throw error;
  }
  return { duplicates: scanner.duplicates };
}

function scanText(scanner: Scanner): void {
  skipSpace(scanner);
  scanValue(scanner, '');
  skipSpace(scanner);
  if (scanner.at < scanner.text.length) fail(scanner, 'after top-level value');
}

/** Counts nesting without looking at anything else; strings do not count. */
export function isTooDeep(text: string): boolean {
  // Fewer characters than levels cannot nest that deep.
  if (text.length <= MAX_DEPTH) return false;
  let opened = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x7b || code === 0x5b) opened++;
  }
  if (opened <= MAX_DEPTH) return false;
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (quoted) {
      if (code === 0x5c) i++;
      else if (code === 0x22) quoted = false;
    } else if (code === 0x22) quoted = true;
    else if (code === 0x7b || code === 0x5b) {
      if (++depth > MAX_DEPTH) return true;
    } else if (code === 0x7d || code === 0x5d) depth--;
  }
  return false;
}

function fail(scanner: Scanner, where: string): never {
  const char = scanner.text[scanner.at];
  if (char === undefined) throw new SyntaxProblem('unexpected end of JSON input');
  throw new SyntaxProblem(`invalid character ${quoteChar(char)} ${where}`);
}

function quoteChar(char: string): string {
  if (char === "'") return String.raw`'\''`;
  if (char === '"') return `'"'`;
  const named: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };
  const code = char.charCodeAt(0);
  if (named[char]) return `'${named[char]}'`;
  return code < 0x20 ? `'\\x${code.toString(16).padStart(2, '0')}'` : `'${char}'`;
}

function skipSpace(scanner: Scanner): void {
  for (;;) {
    const code = scanner.text.charCodeAt(scanner.at);
    if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return;
    scanner.at++;
  }
}

function scanValue(scanner: Scanner, path: string): void {
  const char = scanner.text[scanner.at];
  if (char === '{') scanObject(scanner, path);
  else if (char === '[') scanArray(scanner, path);
  else if (char === '"') scanString(scanner);
  else if (char === 't') scanLiteral(scanner, 'true');
  else if (char === 'f') scanLiteral(scanner, 'false');
  else if (char === 'n') scanLiteral(scanner, 'null');
  else if (char === '-' || (char !== undefined && char >= '0' && char <= '9')) scanNumber(scanner);
  else fail(scanner, 'looking for beginning of value');
}

function enter(scanner: Scanner): void {
  scanner.at++;
  if (++scanner.depth > MAX_DEPTH) throw new SyntaxProblem('exceeded max depth');
  skipSpace(scanner);
}

function scanObject(scanner: Scanner, path: string): void {
  enter(scanner);
  const seen = new Set<string>();
  if (scanner.text[scanner.at] === '}') return leave(scanner);
  for (;;) {
    if (scanner.text[scanner.at] !== '"')
      fail(scanner, 'looking for beginning of object key string');
    const key = scanString(scanner);
    const name = path === '' ? key : `${path}.${key}`;
    if (seen.has(key)) scanner.duplicates.push(name);
    seen.add(key);
    if (scanner.keys?.delete(name) !== undefined) scanner.keys.add(name);
    skipSpace(scanner);
    if (scanner.text[scanner.at] !== ':') fail(scanner, 'after object key');
    scanner.at++;
    skipSpace(scanner);
    scanValue(scanner, name);
    skipSpace(scanner);
    const next = scanner.text[scanner.at];
    if (next === '}') return leave(scanner);
    if (next !== ',') fail(scanner, 'after object key:value pair');
    scanner.at++;
    skipSpace(scanner);
  }
}

function leave(scanner: Scanner): void {
  scanner.at++;
  scanner.depth--;
}

function scanArray(scanner: Scanner, path: string): void {
  enter(scanner);
  if (scanner.text[scanner.at] === ']') return leave(scanner);
  for (let index = 0; ; index++) {
    scanValue(scanner, `${path}[${index}]`);
    skipSpace(scanner);
    const next = scanner.text[scanner.at];
    if (next === ']') return leave(scanner);
    if (next !== ',') fail(scanner, 'after array element');
    scanner.at++;
    skipSpace(scanner);
  }
}

function scanString(scanner: Scanner): string {
  const start = scanner.at++;
  for (;;) {
    const code = scanner.text.charCodeAt(scanner.at);
    if (code === 0x22) break;
    if (Number.isNaN(code) || code < 0x20) fail(scanner, 'in string literal');
    if (code === 0x5c) scanEscape(scanner);
    scanner.at++;
  }
  scanner.at++;
  return JSON.parse(scanner.text.slice(start, scanner.at)) as string;
}

function scanEscape(scanner: Scanner): void {
  scanner.at++;
  const char = scanner.text[scanner.at];
  if (char === 'u') {
    for (let i = 0; i < 4; i++) {
      scanner.at++;
      if (!/[0-9a-fA-F]/.test(scanner.text[scanner.at] ?? '')) {
        fail(scanner, String.raw`in \u hexadecimal character escape`);
      }
    }
  } else if (char === undefined || !'"\\/bfnrt'.includes(char)) {
    fail(scanner, 'in string escape code');
  }
}

function scanLiteral(scanner: Scanner, word: string): void {
  for (const expected of word) {
    if (scanner.text[scanner.at] !== expected) {
      fail(scanner, `in literal ${word} (expecting '${expected}')`);
    }
    scanner.at++;
  }
}

const isDigit = (char: string | undefined): boolean =>
  char !== undefined && char >= '0' && char <= '9';

function scanDigits(scanner: Scanner, where: string): void {
  if (!isDigit(scanner.text[scanner.at])) fail(scanner, where);
  while (isDigit(scanner.text[scanner.at])) scanner.at++;
}

function scanNumber(scanner: Scanner): void {
  if (scanner.text[scanner.at] === '-') scanner.at++;
  if (scanner.text[scanner.at] === '0') scanner.at++;
  else scanDigits(scanner, 'in numeric literal');
  if (scanner.text[scanner.at] === '.') {
    scanner.at++;
    scanDigits(scanner, 'after decimal point in numeric literal');
  }
  if (scanner.text[scanner.at] === 'e' || scanner.text[scanner.at] === 'E') {
    scanner.at++;
    if (scanner.text[scanner.at] === '+' || scanner.text[scanner.at] === '-') scanner.at++;
    scanDigits(scanner, 'in exponent of numeric literal');
  }
}
