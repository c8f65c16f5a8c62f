import type { Problem } from '#api/cel/ast.ts';

export type TokenKind =
  | 'IDENTIFIER'
  | 'ESC_IDENTIFIER'
  | 'NUM_INT'
  | 'NUM_UINT'
  | 'NUM_FLOAT'
  | 'STRING'
  | 'BYTES'
  | 'EOF'
  /** Operators, brackets and the words true, false, null, in: the kind is the text itself. */
  | (string & {});

/** `at` is an offset in code points. */
export type Token = { kind: TokenKind; text: string; at: number; end: number };

const PATTERNS: readonly (readonly [TokenKind, RegExp])[] = [
  ['space', /[\t \r\n\f]+|\/\/[^\n]*/y],
  ['BYTES', stringPattern('[bB]')],
  ['STRING', stringPattern('')],
  ['NUM_UINT', /(?:0x[0-9a-fA-F]+|[0-9]+)[uU]/y],
  [
    'NUM_FLOAT',
    /[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?/y,
  ],
  ['NUM_INT', /0x[0-9a-fA-F]+|[0-9]+/y],
  ['IDENTIFIER', /[a-zA-Z_][a-zA-Z0-9_]*/y],
  ['ESC_IDENTIFIER', /`[a-zA-Z0-9_.\-/ ]+`/y],
  ['operator', /==|!=|<=|>=|&&|\|\||[<>[\]{}().,\-!?:+*/%]/y],
];

function stringPattern(prefix: string): RegExp {
  const escape = String.raw`\\(?:[abfnrtv"'\\?\x60]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})`;
  const forms = [
    String.raw`[rR]"""[^]*?"""`,
    String.raw`[rR]'''[^]*?'''`,
    String.raw`[rR]"[^"\n\r]*"`,
    String.raw`[rR]'[^'\n\r]*'`,
    `"""(?:${escape}|[^\\\\])*?"""`,
    `'''(?:${escape}|[^\\\\])*?'''`,
    `"(?:${escape}|[^\\\\"\\n\\r])*"`,
    `'(?:${escape}|[^\\\\'\\n\\r])*'`,
  ];
  return new RegExp(`${prefix}(?:${forms.join('|')})`, 'yu');
}

const WORDS = new Set(['in', 'true', 'false', 'null']);

/** Cuts an expression into tokens; the last is EOF. What fits nowhere is reported and left out. */
export function tokenize(source: string): { tokens: Token[]; problems: Problem[] } {
  const tokens: Token[] = [];
  const problems: Problem[] = [];
  const offsetOf = codePointOffsets(source);
  let position = 0;
  while (position < source.length) {
    const found = longest(source, position);
    if (!found) {
      const letter = String.fromCodePoint(source.codePointAt(position) ?? 0);
      const text = unclosed(source, position) ?? letter;
      problems.push({
        at: offsetOf(position),
        message: `Syntax error: token recognition error at: '${escapeText(text)}'`,
      });
      position += text.length;
      continue;
    }
    const [kind, text] = found;
    const at = offsetOf(position);
    position += text.length;
    if (kind === 'space') continue;
    const literal = kind === 'operator' || (kind === 'IDENTIFIER' && WORDS.has(text));
    tokens.push({ kind: literal ? text : kind, text, at, end: offsetOf(position) });
  }
  const end = offsetOf(source.length);
  tokens.push({ kind: 'EOF', text: '<EOF>', at: end, end });
  return { tokens, problems };
}

/** The longest match wins, the earlier pattern among equals. */
function longest(source: string, position: number): [TokenKind, string] | null {
  let best: [TokenKind, string] | null = null;
  for (const [kind, pattern] of PATTERNS) {
    pattern.lastIndex = position;
    const match = pattern.exec(source);
    if (match && match[0].length > (best?.[1].length ?? 0)) best = [kind, match[0]];
  }
  return best;
}

/** A quote that is never closed spoils the rest of its line; `|` and `&` take what follows. */
function unclosed(source: string, position: number): string | null {
  const letter = source[position];
  if (letter === '"' || letter === "'")
    return /^[^\n\r]*/.exec(source.slice(position))?.[0] ?? null;
  if (letter === '|' || letter === '&' || letter === '=') {
    return source.slice(position, position + 2);
  }
  return null;
}

/** Line ends and tabs as ANTLR shows them. */
export const escapeText = (text: string): string =>
  text.replaceAll('\n', '\\n').replaceAll('\r', '\\r').replaceAll('\t', '\\t');

function codePointOffsets(source: string): (position: number) => number {
  if (!/[\ud800-\udfff]/.test(source)) return (position) => position;
  return (position) => [...source.slice(0, position)].length;
}
