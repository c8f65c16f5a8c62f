/**
 * JSONPath as printer columns, selectable fields and `kubectl -o jsonpath` use it: `.a.b`,
 * `['a.b']`, `[0]`, `[-1]`, `[0:2]`, `[*]`, `..a`, `[?(@.type=="Ready")]`.
 * Source: Kubernetes "JSONPath Support".
 */

type Step =
  | { type: 'field'; name: string }
  | { type: 'index'; from: number | undefined; to: number | undefined; step: number }
  | { type: 'wildcard' }
  | { type: 'recursive' }
  | { type: 'union'; names: readonly string[] }
  | { type: 'filter'; left: Operand; operator: string; right: Operand | undefined };

type Operand = { literal: unknown } | { path: readonly Step[] };

export type JsonPath = { steps: readonly Step[] };

export class JsonPathError extends Error {}

/** Throws JsonPathError for text that is no path. */
export function parseJsonPath(text: string): JsonPath {
  const cursor = { text: text.replace(/^\$/, ''), at: 0 };
  const steps = parseSteps(cursor);
  if (cursor.at < cursor.text.length) {
    throw new JsonPathError(`unrecognized character in ${text} at ${cursor.at}`);
  }
  return { steps };
}

type Cursor = { text: string; at: number };

const NAME = /(?:\\.|[^.[\]()\s=<>!&|])+/y;

function parseSteps(cursor: Cursor): Step[] {
  const steps: Step[] = [];
  for (;;) {
    const { text } = cursor;
    if (text.startsWith('..', cursor.at)) {
      steps.push({ type: 'recursive' });
      cursor.at += 2;
      if (/[^[.]/.test(text[cursor.at] ?? '.')) steps.push(nameStep(readName(cursor)));
    } else if (text[cursor.at] === '.') {
      cursor.at++;
      if (text[cursor.at] === '[' || cursor.at >= text.length) continue;
      steps.push(nameStep(readName(cursor)));
    } else if (text[cursor.at] === '[') {
      steps.push(parseBracket(cursor));
    } else if (steps.length === 0 && cursor.at === 0 && /[\w]/.test(text[0] ?? '')) {
      steps.push(nameStep(readName(cursor)));
    } else return steps;
  }
}

const nameStep = (name: string): Step =>
  name === '*' ? { type: 'wildcard' } : { type: 'field', name };

function readName(cursor: Cursor): string {
  NAME.lastIndex = cursor.at;
  const match = NAME.exec(cursor.text);
  if (!match) throw new JsonPathError(`unexpected character at ${cursor.at} of ${cursor.text}`);
  cursor.at = NAME.lastIndex;
  return match[0].replace(/\\(.)/g, '$1');
}

/** The text up to the bracket that closes the one at the cursor; quotes may hold brackets. */
function readBracket(cursor: Cursor): string {
  const start = cursor.at + 1;
  let depth = 0;
  let quote = '';
  for (let i = cursor.at; i < cursor.text.length; i++) {
    const char = cursor.text[i] ?? '';
    if (quote !== '') {
      if (char === '\\') i++;
      else if (char === quote) quote = '';
    } else if (char === "'" || char === '"') quote = char;
    else if (char === '[') depth++;
    else if (char === ']' && --depth === 0) {
      cursor.at = i + 1;
      return cursor.text.slice(start, i).trim();
    }
  }
  throw new JsonPathError(`unterminated array in ${cursor.text}`);
}

function parseBracket(cursor: Cursor): Step {
  const inner = readBracket(cursor);
  if (inner === '*') return { type: 'wildcard' };
  const filter = /^\?\(([\s\S]*)\)$/.exec(inner);
  if (filter) return parseFilter(filter[1] ?? '');
  if (/^['"]/.test(inner)) {
    const names = [...inner.matchAll(/'((?:\\.|[^'])*)'|"((?:\\.|[^"])*)"/g)].map((match) =>
      (match[1] ?? match[2] ?? '').replace(/\\(.)/g, '$1'),
    );
    return names.length === 1 ? { type: 'field', name: names[0] ?? '' } : { type: 'union', names };
  }
  const slice = /^(-?\d*)(?:(:)(-?\d*)(?::(-?\d*))?)?$/.exec(inner);
  if (!slice || inner === '') throw new JsonPathError(`invalid array index ${inner}`);
  const numberOf = (part: string | undefined) =>
    part === undefined || part === '' ? undefined : Number(part);
  const from = numberOf(slice[1]);
  if (slice[2] !== undefined) {
    return { type: 'index', from, to: numberOf(slice[3]), step: numberOf(slice[4]) ?? 1 };
  }
  const at = from ?? 0;
  return { type: 'index', from: at, to: at === -1 ? undefined : at + 1, step: 1 };
}

function parseFilter(text: string): Step {
  const cursor = { text, at: 0 };
  const left = parseOperand(cursor);
  const match = /^\s*(==|!=|<=|>=|<|>)\s*/.exec(text.slice(cursor.at));
  if (!match) return { type: 'filter', left, operator: 'exists', right: undefined };
  cursor.at += match[0].length;
  return { type: 'filter', left, operator: match[1] ?? '', right: parseOperand(cursor) };
}

function parseOperand(cursor: Cursor): Operand {
  const rest = cursor.text.slice(cursor.at);
  const space = /^\s*/.exec(rest)?.[0].length ?? 0;
  cursor.at += space;
  const trimmed = rest.slice(space);
  if (trimmed.startsWith('@')) {
    const inner = { text: trimmed.slice(1), at: 0 };
    const path = parseSteps(inner);
    cursor.at += 1 + inner.at;
    return { path };
  }
  const quoted = /^(?:'((?:\\.|[^'])*)'|"((?:\\.|[^"])*)")/.exec(trimmed);
  if (quoted) {
    cursor.at += quoted[0].length;
    return { literal: (quoted[1] ?? quoted[2] ?? '').replace(/\\(.)/g, '$1') };
  }
  const word = /^[-+\w.]+/.exec(trimmed);
  if (!word) throw new JsonPathError(`unrecognized filter in ${cursor.text}`);
  cursor.at += word[0].length;
  if (word[0] === 'true' || word[0] === 'false') return { literal: word[0] === 'true' };
  return { literal: Number(word[0]) };
}

/** Everything the path leads to; nothing where a member is missing. */
export function findJsonPath({ steps }: JsonPath, root: unknown): unknown[] {
  return follow(steps, root);
}

function follow(steps: readonly Step[], root: unknown): unknown[] {
  let found: unknown[] = [root];
  for (const step of steps) {
    found = found.flatMap((value) => take(step, value));
    if (found.length === 0) return found;
  }
  return found;
}

function take(step: Step, value: unknown): unknown[] {
  switch (step.type) {
    case 'field':
      return member(value, step.name);
    case 'union':
      return step.names.flatMap((name) => member(value, name));
    case 'wildcard':
      return typeof value === 'object' && value !== null ? Object.values(value) : [];
    case 'recursive':
      return descendants(value);
    case 'index':
      return Array.isArray(value) ? sliceOf(value, step) : [];
    case 'filter':
      return Array.isArray(value) ? value.filter((item) => holds(step, item)) : [];
  }
}

function member(value: unknown, name: string): unknown[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
  return Object.hasOwn(value, name) ? [(value as { [member: string]: unknown })[name]] : [];
}

function descendants(value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  return [value, ...Object.values(value).flatMap(descendants)];
}

function sliceOf(
  list: readonly unknown[],
  { from, to, step }: Step & { type: 'index' },
): unknown[] {
  const place = (at: number): number => (at < 0 ? at + list.length : at);
  const start = place(from ?? 0);
  const end = to === undefined ? list.length : place(to);
  const found: unknown[] = [];
  for (let i = Math.max(0, start); i < Math.min(end, list.length); i += Math.max(1, step)) {
    found.push(list[i]);
  }
  return found;
}

function holds({ left, operator, right }: Step & { type: 'filter' }, item: unknown): boolean {
  const a = valueOf(left, item);
  if (operator === 'exists') return a !== undefined;
  const b = right && valueOf(right, item);
  if (a === undefined || b === undefined || b === null || a === null) return false;
  switch (operator) {
    case '==':
      return a === b;
    case '!=':
      return a !== b;
    case '<':
      return a < b;
    case '<=':
      return a <= b;
    case '>':
      return a > b;
    case '>=':
      return a >= b;
    default:
      return false;
  }
}

const valueOf = (operand: Operand, item: unknown): unknown =>
  'literal' in operand ? operand.literal : follow(operand.path, item)[0];
