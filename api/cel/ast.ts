import type { Uint } from '#api/cel/values.ts';

/** `at` is the offset, in code points, that messages about the expression point to. */
export type Expr = { at: number } & (
  | { kind: 'literal'; value: Literal }
  | { kind: 'ident'; name: string }
  /** `testOnly` is what has(a.b) becomes. */
  | { kind: 'select'; operand: Expr; field: string; testOnly: boolean }
  | { kind: 'call'; name: string; target: Expr | null; args: readonly Expr[] }
  | { kind: 'list'; elements: readonly Expr[]; optional: ReadonlySet<number> | null }
  | { kind: 'map'; entries: readonly MapEntry[] }
  | { kind: 'struct'; name: string; fields: readonly StructField[] }
  | Fold
);

export type Literal = null | boolean | bigint | number | string | Uint | Uint8Array;

export type MapEntry = { at: number; key: Expr; value: Expr; optional: boolean };
export type StructField = { at: number; name: string; value: Expr; optional: boolean };

/** What all, exists, map, filter and the like become: a loop with an accumulator. */
export type Fold = {
  at: number;
  kind: 'fold';
  range: Expr;
  variable: string;
  /** With two variables the first is the index or key, the second the value. */
  variable2: string | null;
  init: Expr;
  condition: Expr;
  step: Expr;
  result: Expr;
};

/** The accumulator's name, which no expression can spell. */
export const ACCUMULATOR = '@result';

export type Problem = { at: number; message: string };

/** One error as upstream prints it: place, text, the line and a mark below. */
export function renderProblem(source: string, problem: Problem): string {
  const lines = source.split('\n');
  let row = 0;
  let column = Math.max(problem.at, 0);
  while (row < lines.length - 1 && column > [...(lines[row] ?? '')].length) {
    column -= [...(lines[row] ?? '')].length + 1;
    row++;
  }
  const line = [...(lines[row] ?? '').replaceAll('\t', ' ')];
  let mark = '';
  for (let i = 0; i < column && i < line.length; i++) mark += isWide(line[i]) ? '\uff0e' : '.';
  mark += isWide(line[column]) ? '\uff3e' : '^';
  const place = problem.at < 0 ? '-1:0' : `${row + 1}:${column + 1}`;
  const head = `ERROR: <input>:${place}: ${problem.message}`;
  return problem.at < 0 ? head : `${head}\n | ${line.join('')}\n | ${mark}`;
}

const isWide = (letter: string | undefined): boolean => letter !== undefined && letter > '\x7f';
