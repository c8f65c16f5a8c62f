import type { Expr, MapEntry, Problem, StructField } from '#api/cel/ast.ts';
import { escapeText, type Token, tokenize } from '#api/cel/lex.ts';
import { intLiteral, stringLiteral, uintLiteral } from '#api/cel/literal.ts';
import { expandMacro } from '#api/cel/macros.ts';

/** Nested deeper than this an expression is refused: what walks it recurses. */
const MAX_DEPTH = 250;
/** Longer expressions are refused unread. */
const MAX_CODE_POINTS = 100_000;

/** The order in which messages list what they expected. */
const TOKEN_ORDER =
  "'==' '!=' 'in' '<' '<=' '>=' '>' '&&' '||' '[' ']' '{' '}' '(' ')' '.' ',' '-' '!' '?' ':' '+' '*' '/' '%' 'true' 'false' 'null' NUM_FLOAT NUM_INT NUM_UINT STRING BYTES IDENTIFIER ESC_IDENTIFIER"
    .split(' ')
    .map((name) => name.replaceAll("'", ''));

const EXPRESSION_START =
  '[ { ( . - ! true false null NUM_FLOAT NUM_INT NUM_UINT STRING BYTES IDENTIFIER'.split(' ');

const RELATIONS = ['<', '<=', '>=', '>', '==', '!=', 'in'];

const RESERVED = new Set(
  'as break const continue else for function if import let loop package namespace return var void while'.split(
    ' ',
  ),
);

export type Parsed = { expr: Expr; problems: Problem[] };

/** Reads an expression and expands its macros. Source: CEL language definition, "Syntax". */
export function parseCel(source: string): Parsed {
  const nothing: Expr = { kind: 'literal', value: null, at: 0 };
  const length = source.length > MAX_CODE_POINTS ? [...source].length : source.length;
  if (length > MAX_CODE_POINTS) {
    const message = `expression code point size exceeds limit: size: ${length}, limit ${MAX_CODE_POINTS}`;
    return { expr: nothing, problems: [{ at: -1, message }] };
  }
  const { tokens, problems } = tokenize(source);
  const parser = new Parser(source, tokens, problems);
  try {
    const expr = parser.start();
    problems.sort((a, b) => a.at - b.at);
    return { expr, problems };
  } catch (error) {
    if (!(error instanceof SyntaxProblem)) throw error;
    problems.push({ at: error.at, message: error.message });
    problems.sort((a, b) => a.at - b.at);
    return { expr: nothing, problems };
  }
}

/** Ends parsing: what follows cannot be made sense of. */
class SyntaxProblem extends Error {
  at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

class Parser {
  #source: readonly string[];
  #tokens: readonly Token[];
  #problems: Problem[];
  #next = 0;
  #depth = 0;

  constructor(source: string, tokens: readonly Token[], problems: Problem[]) {
    this.#source = [...source];
    this.#tokens = tokens;
    this.#problems = problems;
  }

  start(): Expr {
    const expr = this.#expression();
    this.#expect('EOF', []);
    return expr;
  }

  #peek(ahead = 0): Token {
    const last = this.#tokens.length - 1;
    return this.#tokens[Math.min(this.#next + ahead, last)] as Token;
  }

  #take(): Token {
    const token = this.#peek();
    this.#next++;
    return token;
  }

  #accept(kind: string): Token | null {
    return this.#peek().kind === kind ? this.#take() : null;
  }

  #report(at: number, message: string): void {
    this.#problems.push({ at, message });
  }

  /** The one token that must come; one wrong token before it, or its lack, is only reported. */
  #expect(kind: string, follow: readonly string[]): Token {
    const token = this.#peek();
    if (token.kind === kind) return this.#take();
    const wanted = describe([kind]);
    const text = escapeText(token.text);
    if (this.#peek(1).kind === kind && token.kind !== 'EOF') {
      this.#report(token.at, `Syntax error: extraneous input '${text}' expecting ${wanted}`);
      this.#take();
      return this.#take();
    }
    if (follow.includes(token.kind)) {
      this.#report(token.at, `Syntax error: missing ${wanted} at '${text}'`);
      return token;
    }
    throw this.#mismatch([kind]);
  }

  #mismatch(expected: readonly string[]): SyntaxProblem {
    const token = this.#peek();
    return new SyntaxProblem(
      token.at,
      `Syntax error: mismatched input '${escapeText(token.text)}' expecting ${describe(expected)}`,
    );
  }

  /** Before a choice: one wrong token is skipped when what follows fits. */
  #sync(expected: readonly string[]): void {
    const token = this.#peek();
    if (expected.includes(token.kind)) return;
    if (token.kind === 'EOF' || !expected.includes(this.#peek(1).kind)) {
      throw this.#mismatch(expected);
    }
    const text = escapeText(token.text);
    const message = `Syntax error: extraneous input '${text}' expecting ${describe(expected)}`;
    this.#report(token.at, message);
    this.#take();
  }

  #noAlternative(from: Token): SyntaxProblem {
    const token = this.#peek();
    if (from.kind === '.' && ['true', 'false', 'null'].includes(token.kind)) {
      const message = `Syntax error: mismatched input '${token.text}' expecting IDENTIFIER`;
      return new SyntaxProblem(token.at, message);
    }
    const text = escapeText(this.#source.slice(from.at, token.end).join(''));
    return new SyntaxProblem(token.at, `Syntax error: no viable alternative at input '${text}'`);
  }

  #expression(): Expr {
    if (++this.#depth > MAX_DEPTH) {
      throw new SyntaxProblem(-1, `expression recursion limit exceeded: ${MAX_DEPTH}`);
    }
    const condition = this.#logic('||');
    const mark = this.#accept('?');
    let expr = condition;
    if (mark) {
      const yes = this.#logic('||');
      this.#expect(':', EXPRESSION_START);
      expr = call(mark.at, '_?_:_', [condition, yes, this.#expression()]);
    }
    this.#depth--;
    return expr;
  }

  /** Chains become balanced trees, so that long ones do not nest deeply. */
  #logic(operator: '||' | '&&'): Expr {
    const terms = [operator === '||' ? this.#logic('&&') : this.#relation()];
    const marks: Token[] = [];
    for (let mark = this.#accept(operator); mark; mark = this.#accept(operator)) {
      marks.push(mark);
      terms.push(operator === '||' ? this.#logic('&&') : this.#relation());
    }
    const build = (low: number, high: number): Expr => {
      if (low === high) return terms[low] as Expr;
      const middle = (low + high) >> 1;
      const at = (marks[middle] as Token).at;
      return call(at, `_${operator}_`, [build(low, middle), build(middle + 1, high)]);
    };
    return build(0, terms.length - 1);
  }

  #relation(): Expr {
    let left = this.#sum();
    while (RELATIONS.includes(this.#peek().kind)) {
      const mark = this.#take();
      const name = mark.kind === 'in' ? '@in' : `_${mark.kind}_`;
      left = call(mark.at, name, [left, this.#sum()]);
    }
    return left;
  }

  #sum(): Expr {
    let left = this.#product();
    while (['+', '-'].includes(this.#peek().kind)) {
      const mark = this.#take();
      left = call(mark.at, `_${mark.kind}_`, [left, this.#product()]);
    }
    return left;
  }

  #product(): Expr {
    let left = this.#unary();
    while (['*', '/', '%'].includes(this.#peek().kind)) {
      const mark = this.#take();
      left = call(mark.at, `_${mark.kind}_`, [left, this.#unary()]);
    }
    return left;
  }

  #unary(): Expr {
    this.#sync(EXPRESSION_START);
    const { kind, at } = this.#peek();
    const literal = kind === '-' && ['NUM_INT', 'NUM_FLOAT'].includes(this.#peek(1).kind);
    if ((kind !== '!' && kind !== '-') || literal) return this.#member();
    let count = 0;
    while (this.#accept(kind)) count++;
    if (!EXPRESSION_START.includes(this.#peek().kind)) {
      throw this.#mismatch([kind, ...EXPRESSION_START.filter((one) => one !== '!' && one !== '-')]);
    }
    const operand = this.#member();
    return count % 2 === 0 ? operand : call(at, kind === '!' ? '!_' : '-_', [operand]);
  }

  #member(): Expr {
    let expr = this.#primary();
    for (;;) {
      const mark = this.#peek();
      if (mark.kind === '.') expr = this.#dot(expr);
      else if (mark.kind === '[') {
        this.#take();
        const optional = this.#accept('?');
        const index = this.#expression();
        this.#expect(']', AFTER_TERM);
        expr = call(mark.at, optional ? '_[?_]' : '_[_]', [expr, index]);
      } else return expr;
    }
  }

  #dot(operand: Expr): Expr {
    const dot = this.#take();
    const optional = this.#accept('?');
    const token = this.#peek();
    if (token.kind !== 'IDENTIFIER' && token.kind !== 'ESC_IDENTIFIER') {
      if (!optional) throw this.#noAlternative(dot);
      throw this.#mismatch(['IDENTIFIER', 'ESC_IDENTIFIER']);
    }
    this.#take();
    if (token.kind === 'ESC_IDENTIFIER') {
      this.#report(token.at, "unsupported syntax: '`'");
    }
    if (optional) {
      const field: Expr = { kind: 'literal', value: token.text, at: token.at };
      return call(dot.at, '_?._', [operand, field]);
    }
    const open = token.kind === 'IDENTIFIER' ? this.#accept('(') : null;
    if (!open) {
      return { kind: 'select', operand, field: token.text, testOnly: false, at: dot.at };
    }
    return this.#expand(open.at, token.text, operand, this.#arguments());
  }

  #arguments(): Expr[] {
    this.#sync([...EXPRESSION_START, ')']);
    const args: Expr[] = [];
    if (this.#accept(')')) return args;
    do args.push(this.#expression());
    while (this.#accept(','));
    this.#expect(')', AFTER_TERM);
    return args;
  }

  #expand(at: number, name: string, target: Expr | null, args: Expr[]): Expr {
    const expanded = expandMacro(at, name, target, args);
    if (!expanded) return { kind: 'call', name, target, args, at };
    if ('expr' in expanded) return expanded.expr;
    this.#report(expanded.at, expanded.message);
    return { kind: 'literal', value: null, at };
  }

  #primary(): Expr {
    const token = this.#peek();
    const { at } = token;
    switch (token.kind) {
      case '(': {
        this.#take();
        const expr = this.#expression();
        this.#expect(')', AFTER_TERM);
        return expr;
      }
      case '[':
        this.#take();
        return this.#list(at);
      case '{':
        this.#take();
        return this.#map(at);
      case '.':
      case 'IDENTIFIER':
        return this.#name();
      default:
        return this.#literal();
    }
  }

  #name(): Expr {
    const first = this.#take();
    const dot = first.kind === '.' ? '.' : '';
    if (dot && this.#peek().kind !== 'IDENTIFIER') throw this.#noAlternative(first);
    const token = dot ? this.#take() : first;
    const words = this.#structName();
    if (words !== null) {
      const brace = this.#take();
      return this.#struct(brace.at, dot + token.text + words);
    }
    if (RESERVED.has(token.text)) {
      this.#report(first.at, `reserved identifier: ${token.text}`);
    }
    const open = this.#accept('(');
    if (open) return this.#expand(open.at, dot + token.text, null, this.#arguments());
    return { kind: 'ident', name: dot + token.text, at: token.at };
  }

  /** `.b.c` of `a.b.c{`, taken; null when no brace follows. */
  #structName(): string | null {
    let ahead = 0;
    let words = '';
    while (this.#peek(ahead).kind === '.' && this.#peek(ahead + 1).kind === 'IDENTIFIER') {
      words += `.${this.#peek(ahead + 1).text}`;
      ahead += 2;
    }
    if (this.#peek(ahead).kind !== '{') return null;
    this.#next += ahead;
    return words;
  }

  #list(at: number): Expr {
    const elements: Expr[] = [];
    const optional = new Set<number>();
    this.#sync([...EXPRESSION_START, ']', ',', '?']);
    if (!this.#accept(',')) {
      while (this.#peek().kind !== ']') {
        if (this.#accept('?')) optional.add(elements.length);
        elements.push(this.#expression());
        this.#sync([']', ',']);
        if (!this.#accept(',')) break;
      }
    }
    this.#expect(']', AFTER_TERM);
    return { kind: 'list', elements, optional: optional.size > 0 ? optional : null, at };
  }

  #map(at: number): Expr {
    const entries: MapEntry[] = [];
    this.#sync([...EXPRESSION_START, '}', ',', '?']);
    if (!this.#accept(',')) {
      while (this.#peek().kind !== '}') {
        const optional = this.#accept('?') !== null;
        const key = this.#expression();
        const colon = this.#expect(':', EXPRESSION_START);
        entries.push({ key, value: this.#expression(), optional, at: colon.at });
        this.#sync(['}', ',']);
        if (!this.#accept(',')) break;
      }
    }
    this.#expect('}', AFTER_TERM);
    return { kind: 'map', entries, at };
  }

  #struct(at: number, name: string): Expr {
    const fields: StructField[] = [];
    this.#sync(['}', ',', '?', 'IDENTIFIER', 'ESC_IDENTIFIER']);
    if (!this.#accept(',')) {
      while (this.#peek().kind !== '}') {
        const optional = this.#accept('?') !== null;
        this.#sync(['IDENTIFIER', 'ESC_IDENTIFIER']);
        const field = this.#take();
        if (field.kind === 'ESC_IDENTIFIER') this.#report(field.at, "unsupported syntax: '`'");
        const colon = this.#expect(':', EXPRESSION_START);
        const value = this.#expression();
        fields.push({ name: field.text, value, optional, at: colon.at });
        this.#sync(['}', ',']);
        if (!this.#accept(',')) break;
      }
    }
    this.#expect('}', AFTER_TERM);
    return { kind: 'struct', name, fields, at };
  }

  #literal(): Expr {
    const token = this.#take();
    const sign = token.kind === '-' ? '-' : '';
    const { kind, text } = sign ? this.#take() : token;
    const { at } = token;
    const bad = (message: string): Expr => {
      this.#report(at, message);
      return { kind: 'literal', value: null, at };
    };
    const literal = (value: LiteralValue, what: string): Expr =>
      value === null ? bad(`invalid ${what} literal`) : { kind: 'literal', value, at };
    switch (kind) {
      case 'true':
      case 'false':
        return { kind: 'literal', value: kind === 'true', at };
      case 'NUM_INT':
        return literal(intLiteral(sign + text), 'int');
      case 'NUM_UINT':
        return literal(uintLiteral(text), 'uint');
      case 'NUM_FLOAT': {
        const value = Number(sign + text);
        return literal(Number.isFinite(value) ? value : null, 'double');
      }
      case 'STRING': {
        const value = stringLiteral(text, false);
        return value === null ? bad('invalid unicode code point') : { kind: 'literal', value, at };
      }
      case 'BYTES': {
        const value = stringLiteral(text.slice(1), true);
        return value === null ? bad('unable to unescape string') : { kind: 'literal', value, at };
      }
      default:
        return { kind: 'literal', value: null, at };
    }
  }
}

type LiteralValue = Extract<Expr, { kind: 'literal' }>['value'];

/** What may come after a closed bracket: a missing one is only reported before these. */
const AFTER_TERM = [
  'EOF',
  ...TOKEN_ORDER.filter((kind) => !EXPRESSION_START.includes(kind)),
  '-',
  '.',
  '[',
];

const call = (at: number, name: string, args: readonly Expr[]): Expr => ({
  kind: 'call',
  name,
  target: null,
  args,
  at,
});

function describe(kinds: readonly string[]): string {
  const sorted = [...new Set(kinds)].sort(
    (a, b) => TOKEN_ORDER.indexOf(a) - TOKEN_ORDER.indexOf(b),
  );
  const names = sorted.map((kind) => {
    if (kind === 'EOF') return '<EOF>';
    return /^[A-Z_]+$/.test(kind) ? kind : `'${kind}'`;
  });
  return names.length === 1 ? (names[0] as string) : `{${names.join(', ')}}`;
}
