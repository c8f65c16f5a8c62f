/**
 * Regular expressions as Go writes them (RE2), made into JavaScript's. What RE2 does not have
 * (lookaround, backreferences) is refused, as there. Source: RE2 "Syntax".
 */

export class PatternError extends Error {}

const POSIX: Readonly<Record<string, string>> = {
  alnum: '0-9A-Za-z',
  alpha: 'A-Za-z',
  ascii: '\\x00-\\x7F',
  blank: '\\t ',
  cntrl: '\\x00-\\x1F\\x7F',
  digit: '0-9',
  graph: '!-~',
  lower: 'a-z',
  print: ' -~',
  punct: '!-\\/:-@\\[-`{-~',
  space: '\\t\\n\\v\\f\\r ',
  upper: 'A-Z',
  word: '0-9A-Za-z_',
  xdigit: '0-9A-Fa-f',
};

/** Kept: definitions use few patterns, and many objects are checked by each. */
const MEMORY = 512;
const compiled = new Map<string, RegExp>();

/** Throws PatternError in upstream's words. */
export function compilePattern(pattern: string): RegExp {
  const known = compiled.get(pattern);
  if (known) return known;
  const { source, flags } = translate(pattern);
  let expression: RegExp;
  try {
    expression = new RegExp(source, `${flags}u`);
  } catch {
    throw new PatternError(`error parsing regexp: ${complaint(pattern)}`);
  }
  if (compiled.size >= MEMORY) compiled.clear();
  compiled.set(pattern, expression);
  return expression;
}

/** What is wrong, as Go names the usual mistakes. */
function complaint(pattern: string): string {
  let open = 0;
  let inClass = -1;
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i];
    if (char === '\\') {
      if (i === pattern.length - 1) return 'trailing backslash at end of expression: ``';
      i++;
    } else if (inClass >= 0) {
      if (char === ']' && i > inClass + 1) inClass = -1;
    } else if (char === '[') inClass = i;
    else if (char === '(') open++;
    else if (char === ')' && --open < 0) return `unexpected ): \`${pattern}\``;
  }
  if (inClass >= 0) return `missing closing ]: \`${pattern.slice(inClass)}\``;
  if (open > 0) return `missing closing ): \`${pattern}\``;
  const repeat = /(?:^|[(|])([*+?])/.exec(pattern);
  if (repeat) return `missing argument to repetition operator: \`${repeat[1]}\``;
  const nested = /[*+?][*+]|[*+?]\?\?/.exec(pattern);
  if (nested) return `invalid nested repetition operator: \`${nested[0]}\``;
  const range = /\[[^\]]*?([^\]\\])-([^\]\\])/.exec(pattern);
  if (range && (range[1] ?? '') > (range[2] ?? '')) {
    return `invalid character class range: \`${range[1]}-${range[2]}\``;
  }
  return `invalid escape sequence: \`${/\\./.exec(pattern)?.[0] ?? pattern}\``;
}

type Translation = { source: string; flags: string };

function translate(pattern: string): Translation {
  let flags = '';
  let at = 0;
  let source = '';
  const leading = /^\(\?([imsU]+)\)/.exec(pattern);
  if (leading) {
    flags = [...new Set((leading[1] ?? '').replace('U', ''))].join('');
    at = leading[0].length;
  }
  while (at < pattern.length) {
    const rest = pattern.slice(at);
    const [text, length] =
      pattern[at] === '\\'
        ? escapeOf(rest, false)
        : pattern[at] === '['
          ? classOf(rest)
          : groupOf(rest, pattern);
    source += text;
    at += length;
  }
  return { source, flags };
}

function groupOf(rest: string, pattern: string): [text: string, length: number] {
  if (!rest.startsWith('(?')) return [literalOf(rest), 1];
  const bad = /^\(\?(?:[=!]|<[=!])/.exec(rest);
  if (bad) {
    const shown = bad[0].startsWith('(?<') ? rest.slice(0, 4) : bad[0];
    throw new PatternError(
      `error parsing regexp: invalid or unsupported Perl syntax: \`${shown}\``,
    );
  }
  if (rest.startsWith('(?P<')) return ['(?<', 4];
  const scoped = /^\(\?([ims]*)(?:-([ims]+))?:/.exec(rest);
  if (scoped) return [scoped[0], scoped[0].length];
  if (rest.startsWith('(?<')) return ['(?<', 3];
  throw new PatternError(
    `error parsing regexp: missing argument to repetition operator: \`?\` in ${pattern}`,
  );
}

/** A brace that opens no repetition is itself. */
function literalOf(rest: string): string {
  const char = rest[0] ?? '';
  if (char === '{' && !/^\{\d+(?:,\d*)?\}/.test(rest)) return '\\{';
  if (char === ']') return '\\]';
  if (char === '}') return '}';
  return char;
}

const KEPT = /^\\(?:[dDwWsSbBtnrvf0]|x[0-9A-Fa-f]{2}|[pP]\{\^?[A-Za-z_]+\}|[pP][A-Z])/;

function escapeOf(rest: string, inClass: boolean): [text: string, length: number] {
  const next = rest[1] ?? '';
  if (next === 'A' && !inClass) return ['(?<![\\s\\S])', 2];
  if (next === 'z' && !inClass) return ['(?![\\s\\S])', 2];
  if (next === 'a') return ['\\x07', 2];
  const wide = /^\\x\{([0-9A-Fa-f]+)\}/.exec(rest);
  if (wide) return [`\\u{${wide[1]}}`, wide[0].length];
  const quoted = /^\\Q([\s\S]*?)(?:\\E|$)/.exec(rest);
  if (quoted && !inClass) return [RegExp.escape(quoted[1] ?? ''), quoted[0].length];
  const short = /^\\([pP])([A-Z])/.exec(rest);
  if (short) return [`\\${short[1]}{${short[2]}}`, 3];
  const kept = KEPT.exec(rest);
  if (kept) return [kept[0].replace('{^', '{'), kept[0].length];
  if (/[1-9A-Za-z]/.test(next)) {
    throw new PatternError(`error parsing regexp: invalid escape sequence: \`\\${next}\``);
  }
  // Punctuation may be escaped anywhere in Go, in JavaScript only where it means something.
  return [/[\^$\\.*+?()[\]{}|/-]/.test(next) && (next !== '-' || inClass) ? `\\${next}` : next, 2];
}

function classOf(rest: string): [text: string, length: number] {
  let at = 1;
  let text = '[';
  if (rest[at] === '^') {
    text += '^';
    at++;
  }
  if (rest[at] === ']') {
    text += '\\]';
    at++;
  }
  while (at < rest.length && rest[at] !== ']') {
    const posix = /^\[:(\^?)([a-z]+):\]/.exec(rest.slice(at));
    if (posix && POSIX[posix[2] ?? ''] !== undefined && posix[1] === '') {
      text += POSIX[posix[2] ?? ''];
      at += posix[0].length;
    } else if (rest[at] === '\\') {
      const [escaped, length] = escapeOf(rest.slice(at), true);
      text += escaped;
      at += length;
    } else {
      const char = rest[at] ?? '';
      text += char === '[' ? '\\[' : char;
      at++;
    }
  }
  return [at < rest.length ? `${text}]` : text, at + 1];
}
