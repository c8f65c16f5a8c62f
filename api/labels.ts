import { badRequestError } from '#api/status.ts';
import type { LabelSelector } from '#api/types.ts';
import { isLabelValue, isQualifiedName } from '#api/validate-names.ts';

/** Label selectors: the text form of queries and the object form inside specs. */

export type Labels = Readonly<Record<string, string>>;

export type LabelRequirement = {
  key: string;
  operator: '=' | '!=' | 'in' | 'notin' | 'exists' | '!' | 'gt' | 'lt';
  values: readonly string[];
};

export type LabelSelectorMatcher = {
  /** All of them have to hold; none for the empty selector. */
  requirements: readonly LabelRequirement[];
  matches(labels: Labels | undefined): boolean;
};

/** Matches every object. */
export const everyLabel: LabelSelectorMatcher = { requirements: [], matches: () => true };

/**
 * `app=web,tier in (a, b),!canary,n>3`. Throws StatusError 400 with upstream's text.
 * Source: Kubernetes "Labels and Selectors".
 */
export function parseLabelSelector(text: string): LabelSelectorMatcher {
  if (text.trim() === '') return everyLabel;
  return matcherOf(parseRequirements({ tokens: tokensOf(text), at: 0 }));
}

function matcherOf(requirements: readonly LabelRequirement[]): LabelSelectorMatcher {
  return {
    requirements,
    matches: (labels) => {
      for (const requirement of requirements) {
        if (!holds(requirement, labels)) return false;
      }
      return true;
    },
  };
}

function holds({ key, operator, values }: LabelRequirement, labels: Labels | undefined): boolean {
  const value = labels && Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case '=':
      return value !== undefined && value === values[0];
    case '!=':
      return value !== values[0];
    case 'in':
      return value !== undefined && values.includes(value);
    case 'notin':
      return value === undefined || !values.includes(value);
    case 'exists':
      return value !== undefined;
    case '!':
      return value === undefined;
    case 'gt':
    case 'lt': {
      if (value === undefined || !isInteger(value)) return false;
      const [have, bound] = [BigInt(value), BigInt(values[0] ?? '0')];
      return operator === 'gt' ? have > bound : have < bound;
    }
  }
}

const isInteger = (text: string): boolean => /^[+-]?\d{1,19}$/.test(text);

type Token = { type: 'word' | 'sign' | 'end'; text: string };
type Cursor = { tokens: Token[]; at: number };

const SPECIAL = new Set(['!', '=', '>', '<', '(', ')', ',']);

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length; ) {
    const char = text[at] ?? '';
    if (/\s/.test(char)) {
      at++;
    } else if (SPECIAL.has(char)) {
      const two = text.slice(at, at + 2);
      const sign = two === '==' || two === '!=' ? two : char;
      tokens.push({ type: 'sign', text: sign });
      at += sign.length;
    } else {
      let end = at;
      while (end < text.length && !SPECIAL.has(text[end] ?? '') && !/\s/.test(text[end] ?? '')) {
        end++;
      }
      tokens.push({ type: 'word', text: text.slice(at, end) });
      at = end;
    }
  }
  tokens.push({ type: 'end', text: '' });
  return tokens;
}

const END: Token = { type: 'end', text: '' };
const look = (cursor: Cursor): Token => cursor.tokens[cursor.at] ?? END;
const take = (cursor: Cursor): Token => cursor.tokens[cursor.at++] ?? END;

function parseRequirements(cursor: Cursor): LabelRequirement[] {
  const requirements: LabelRequirement[] = [];
  for (;;) {
    const next = look(cursor);
    if (next.type === 'end') return requirements;
    if (next.type !== 'word' && next.text !== '!') {
      throw badRequestError(`found '${next.text}', expected: !, identifier, or 'end of string'`);
    }
    requirements.push(parseRequirement(cursor));
    const after = take(cursor);
    if (after.type === 'end') return requirements;
    if (after.text !== ',') {
      throw badRequestError(`found '${after.text}', expected: ',' or 'end of string'`);
    }
    const following = look(cursor);
    if (following.type !== 'word' && following.text !== '!') {
      throw badRequestError(`found '${following.text}', expected: identifier after ','`);
    }
  }
}

const refuse = (why: string): never => {
  throw badRequestError(`unable to parse requirement: ${why}`);
};

function parseRequirement(cursor: Cursor): LabelRequirement {
  const isNegated = look(cursor).text === '!';
  if (isNegated) take(cursor);
  const name = take(cursor);
  if (name.type !== 'word') refuse(`found '${name.text}', expected: identifier`);
  const key = name.text;
  const wrong = isQualifiedName(key);
  if (wrong.length > 0) refuse(`<nil>: Invalid value: "${key}": ${wrong.join('; ')}`);
  const next = look(cursor);
  if (isNegated) return { key, operator: '!', values: [] };
  if (next.type === 'end' || next.text === ',') return { key, operator: 'exists', values: [] };
  const operator = operatorOf(take(cursor).text);
  const values =
    operator === 'in' || operator === 'notin' ? parseValues(cursor) : [parseExactValue(cursor)];
  checkValues(key, operator, values);
  return { key, operator, values };
}

function operatorOf(sign: string): LabelRequirement['operator'] {
  switch (sign) {
    case '=':
    case '==':
      return '=';
    case '!=':
    case 'in':
    case 'notin':
      return sign;
    case '>':
      return 'gt';
    case '<':
      return 'lt';
    default:
      return refuse(`found '${sign}', expected: in, notin, =, ==, !=, gt, lt`);
  }
}

/** `(a, b)`. An empty place between commas is the empty value. */
function parseValues(cursor: Cursor): string[] {
  const open = take(cursor);
  if (open.text !== '(') refuse(`found '${open.text}' expected: '('`);
  const values: string[] = [];
  for (;;) {
    const next = take(cursor);
    if (next.type === 'word') {
      values.push(next.text);
      const after = take(cursor);
      if (after.text === ')') return sortedSet(values);
      if (after.text !== ',') refuse(`found '${after.text}', expected: ',' or ')'`);
      if (look(cursor).text === ')') values.push('');
    } else if (next.text === ',') {
      values.push('');
    } else if (next.text === ')') {
      if (values.length === 0) values.push('');
      return sortedSet(values);
    } else {
      refuse(`found '${next.text}', expected: ',', ')' or identifier`);
    }
  }
}

const sortedSet = (values: string[]): string[] => [...new Set(values)].sort();

function parseExactValue(cursor: Cursor): string {
  const next = look(cursor);
  if (next.type === 'end' || next.text === ',') return '';
  const value = take(cursor);
  if (value.type !== 'word') refuse(`found '${value.text}', expected: identifier`);
  return value.text;
}

function checkValues(
  key: string,
  operator: LabelRequirement['operator'],
  values: readonly string[],
): void {
  for (const [index, value] of values.entries()) {
    if (operator === 'gt' || operator === 'lt') {
      if (!isInteger(value)) {
        refuse(
          `values[${index}]: Invalid value: "${value}": for 'Gt', 'Lt' operators, the value must be an integer`,
        );
      }
    }
    const wrong = isLabelValue(value);
    if (wrong.length > 0) {
      refuse(`values[${index}][${key}]: Invalid value: "${value}": ${wrong.join('; ')}`);
    }
  }
}

/** The text form, as upstream prints selectors (scale.status.selector): sorted by key. */
export function formatLabelSelector({ requirements }: LabelSelectorMatcher): string {
  return requirements
    .map(({ key, operator, values }) => {
      switch (operator) {
        case 'exists':
          return key;
        case '!':
          return `!${key}`;
        case 'in':
        case 'notin':
          return `${key} ${operator} (${values.join(',')})`;
        case 'gt':
          return `${key}>${values[0]}`;
        case 'lt':
          return `${key}<${values[0]}`;
        case '=':
        case '!=':
          return `${key}${operator}${values[0]}`;
      }
    })
    .join(',');
}

const OPERATORS: Readonly<Record<string, LabelRequirement['operator']>> = {
  In: 'in',
  NotIn: 'notin',
  Exists: 'exists',
  DoesNotExist: '!',
};

/** The object form; requirements are sorted by key. An unknown operator matches nothing. */
export function compileLabelSelector(selector: LabelSelector): LabelSelectorMatcher {
  const requirements: LabelRequirement[] = [];
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    requirements.push({ key, operator: '=', values: [value] });
  }
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const known = OPERATORS[operator];
    if (!known) return { requirements: [], matches: () => false };
    requirements.push({ key, operator: known, values: sortedSet(values ?? []) });
  }
  requirements.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return matcherOf(requirements);
}

/** No selector matches nothing; an empty one matches everything. Source: metav1.LabelSelector. */
export function matchesLabels(
  selector: LabelSelector | null | undefined,
  labels: Labels | undefined,
): boolean {
  if (!selector) return false;
  for (const key in selector.matchLabels) {
    if (!labels || labels[key] !== selector.matchLabels[key]) return false;
  }
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const known = OPERATORS[operator];
    if (!known || !holds({ key, operator: known, values: values ?? [] }, labels)) return false;
  }
  return true;
}

export { parseFieldSelector } from '#api/field-selector.ts';
