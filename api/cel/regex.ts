import { createRequire } from 'node:module';
import type * as re2 from 're2js';
import { CelError } from '#api/cel/values.ts';

/** A compiled regular expression, matched in time linear in the text. */
export type Regex = {
  test(text: string): boolean;
  /** The first match; '' when there is none. */
  find(text: string): string;
  /** At most `limit` matches; all when it is negative. */
  findAll(text: string, limit: number): string[];
};

/** Expressions are few and used for every write; more than this are compiled anew. */
const MAX_CACHED = 512;
const cache = new Map<string, Regex | CelError>();
let library: typeof re2 | undefined;

/** The pattern in RE2 syntax, or what is wrong with it. Loads the library when first needed. */
export function regexOf(pattern: string): Regex | CelError {
  const known = cache.get(pattern);
  if (known) return known;
  library ??= createRequire(import.meta.url)('re2js') as typeof re2;
  const regex = compile(library, pattern);
  if (cache.size >= MAX_CACHED) cache.clear();
  cache.set(pattern, regex);
  return regex;
}

function compile({ RE2JS }: typeof re2, pattern: string): Regex | CelError {
  try {
    const compiled = RE2JS.compile(pattern);
    return {
      test: (text) => compiled.test(text),
      find: (text) => {
        const matcher = compiled.matcher(text);
        return matcher.find() ? (matcher.group() ?? '') : '';
      },
      findAll: (text, limit) => {
        const found: string[] = [];
        const matcher = compiled.matcher(text);
        while ((limit < 0 || found.length < limit) && matcher.find()) {
          found.push(matcher.group() ?? '');
        }
        return found;
      },
    };
  } catch (error) {
    return new CelError(error instanceof Error ? error.message : String(error));
  }
}
