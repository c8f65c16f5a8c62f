import { type CelType, parametersOf, parseType, splitTypes } from '#api/cel/types.ts';
import type { Value } from '#api/cel/values.ts';

/** One way to call a function. */
export type Overload = {
  name: string;
  /** Called as `a.f(b)`: the receiver is the first argument. */
  member: boolean;
  args: readonly CelType[];
  result: CelType;
  /** Names of the type parameters. */
  parameters: readonly string[];
  /** Errors are returned as values. `args` fit the types. */
  run(...args: Value[]): Value;
  /** Which formula of upstream's cost tables applies; see cel-cost.ts. */
  cost?: string;
};

/**
 * Declares a way to call a function, in short notation: `(int, int) int`, and for those called on
 * a value `string.(string) bool`. Single capital letters are type parameters.
 */
export function overload(
  name: string,
  signature: string,
  run: (...args: never[]) => Value,
  cost?: string,
): Overload {
  const open = signature.indexOf('(');
  const close = signature.lastIndexOf(')');
  const receiver = signature.slice(0, open).replace(/\.$/, '');
  const args = splitTypes(signature.slice(open + 1, close)).map(parseType);
  if (receiver) args.unshift(parseType(receiver));
  const result = parseType(signature.slice(close + 1).trim());
  const parameters = new Set<string>();
  for (const type of [...args, result]) collectParameters(type, parameters);
  return {
    name,
    member: receiver !== '',
    args,
    result,
    parameters: [...parameters],
    run: run as (...values: Value[]) => Value,
    ...(cost ? { cost } : {}),
  };
}

function collectParameters(type: CelType, found: Set<string>): void {
  if (type.kind === 'param') found.add(type.name);
  for (const part of parametersOf(type)) collectParameters(part, found);
}

/** Functions by name. */
export type Functions = ReadonlyMap<string, readonly Overload[]>;

export function functionTable(...libraries: readonly (readonly Overload[])[]): Functions {
  const table = new Map<string, Overload[]>();
  for (const one of libraries.flat()) {
    const known = table.get(one.name);
    if (known) known.push(one);
    else table.set(one.name, [one]);
  }
  return table;
}
