import { badRequestError } from '#api/status.ts';

/** One `field=value` or `field!=value` of a field selector. */
export type FieldTerm = { field: string; equal: boolean; value: string };

export type FieldSelector = {
  readonly terms: readonly FieldTerm[];
  /** `read` gives a field's text; undefined counts as ''. */
  matches(read: (field: string) => string | undefined): boolean;
  /** The value that a field must have, or undefined where the selector leaves it open. */
  exact(field: string): string | undefined;
};

/**
 * `metadata.name=a,status.phase!=Running`; `\` escapes a comma, an equals sign or itself.
 * Throws StatusError 400. Source: Kubernetes "Field Selectors".
 */
export function parseFieldSelector(text: string): FieldSelector {
  const terms: FieldTerm[] = [];
  for (const part of splitTerms(text)) {
    if (part === '') continue;
    const term = parseTerm(part);
    if (!term) throw badRequestError(`invalid selector: '${text}'; can't understand '${part}'`);
    terms.push(term);
  }
  return {
    terms,
    matches: (read) =>
      terms.every(({ field, equal, value }) => ((read(field) ?? '') === value) === equal),
    exact: (field) => terms.find((term) => term.field === field && term.equal)?.value,
  };
}

/** The answer to a field that a kind does not offer for selection. */
export const unsupportedFieldError = (field: string): Error =>
  badRequestError(`field label not supported: ${field}`);

function splitTerms(text: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === ',') {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

function parseTerm(part: string): FieldTerm | undefined {
  for (let i = 0; i < part.length; i++) {
    if (part[i] === '\\') {
      i++;
      continue;
    }
    const sign = ['!=', '==', '='].find((candidate) => part.startsWith(candidate, i));
    if (!sign) continue;
    const value = unescapeValue(part.slice(i + sign.length));
    if (value === undefined) return undefined;
    return { field: part.slice(0, i), equal: sign !== '!=', value };
  }
  return undefined;
}

/** undefined when an escape or a bare separator is not allowed there. */
function unescapeValue(text: string): string | undefined {
  if (!/[\\,=]/.test(text)) return text;
  let value = '';
  for (let i = 0; i < text.length; i++) {
    const char = text[i] ?? '';
    if (char === '\\') {
      const next = text[++i];
      if (next !== '\\' && next !== ',' && next !== '=') return undefined;
      value += next;
    } else if (char === ',' || char === '=') {
      return undefined;
    } else {
      value += char;
    }
  }
  return value;
}
