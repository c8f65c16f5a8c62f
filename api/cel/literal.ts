import { Uint } from '#api/cel/values.ts';

const MIN_INT = -(2n ** 63n);
const MAX_INT = 2n ** 63n - 1n;
const MAX_UINT = 2n ** 64n - 1n;

/** Null when it does not fit 64 bits. */
export function intLiteral(text: string): bigint | null {
  const negative = text.startsWith('-');
  const size = BigInt(negative ? text.slice(1) : text);
  const value = negative ? -size : size;
  return value < MIN_INT || value > MAX_INT ? null : value;
}

export function uintLiteral(text: string): Uint | null {
  const value = BigInt(text.slice(0, -1));
  return value > MAX_UINT ? null : new Uint(value);
}

const SIMPLE: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};

/** The text of a string literal, or the bytes of one after its `b`. Null: an impossible escape. */
export function stringLiteral(token: string, bytes: false): string | null;
export function stringLiteral(token: string, bytes: true): Uint8Array | null;
export function stringLiteral(token: string, bytes: boolean): string | Uint8Array | null {
  const raw = /^[rR]/.test(token);
  const quoted = raw ? token.slice(1) : token;
  const width = quoted.startsWith('"""') || quoted.startsWith("'''") ? 3 : 1;
  const body = quoted.slice(width, -width).replaceAll(/\r\n?/g, '\n');
  if (raw || !body.includes('\\')) return bytes ? new TextEncoder().encode(body) : body;
  return bytes ? escapedBytes(body) : escapedText(body);
}

const ESCAPE =
  /\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([^]))/g;

function escapedText(body: string): string | null {
  let valid = true;
  const text = body.replaceAll(ESCAPE, (_all, hex, short, long, octal, simple: string) => {
    const code = codeOf(hex, short, long, octal);
    if (code === null) return SIMPLE[simple] ?? simple;
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
      valid = false;
      return '';
    }
    return String.fromCodePoint(code);
  });
  return valid ? text : null;
}

function escapedBytes(body: string): Uint8Array | null {
  const parts: Uint8Array[] = [];
  const encoder = new TextEncoder();
  let last = 0;
  for (const match of body.matchAll(ESCAPE)) {
    parts.push(encoder.encode(body.slice(last, match.index)));
    last = match.index + match[0].length;
    const [, hex, short, long, octal, simple = ''] = match;
    // A Unicode escape says a character, which bytes are not made of.
    if (short || long) return null;
    const code = codeOf(hex, undefined, undefined, octal);
    parts.push(code === null ? encoder.encode(SIMPLE[simple] ?? simple) : Uint8Array.of(code));
  }
  parts.push(encoder.encode(body.slice(last)));
  return new Uint8Array(Buffer.concat(parts));
}

function codeOf(hex?: string, short?: string, long?: string, octal?: string): number | null {
  const digits = hex ?? short ?? long;
  if (digits !== undefined) return Number.parseInt(digits, 16);
  return octal === undefined ? null : Number.parseInt(octal, 8);
}
