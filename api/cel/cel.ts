import { type Expr, renderProblem } from '#api/cel/ast.ts';
import { checkCel, type Checked, type Scope } from '#api/cel/check.ts';
import { authorizerFunctions } from '#api/cel/authz.ts';
import { conversionFunctions } from '#api/cel/convert.ts';
import { CostExceeded, planCel, type Step } from '#api/cel/eval.ts';
import { type Functions, functionTable } from '#api/cel/function.ts';
import { listFunctions } from '#api/cel/lists.ts';
import { networkFunctions } from '#api/cel/net.ts';
import { optionalFunctions } from '#api/cel/optional.ts';
import { parseCel } from '#api/cel/parse.ts';
import { operators } from '#api/cel/std.ts';
import { stringFunctions } from '#api/cel/strings.ts';
import { textKindFunctions } from '#api/cel/text-kinds.ts';
import { timeFunctions } from '#api/cel/time.ts';
import { type CelType, formatType, sameType, type StructTypes } from '#api/cel/types.ts';
import { CelError, fromJson, isValue, type Value } from '#api/cel/values.ts';

/**
 * The Common Expression Language as Kubernetes has it: compile once against declared variables,
 * evaluate often against plain JSON, at a bounded cost. Source: CEL language definition;
 * Kubernetes "Common Expression Language in Kubernetes".
 */

export type CelEnvironment = {
  /** Types by name; a name may have dots (`authorizer.requestResource`). */
  variables: Readonly<Record<string, CelType>>;
  /** Default: `kubernetesFunctions`. */
  functions?: Functions;
  /** Object types that expressions may construct: `Object{spec: Object.spec{…}}`. */
  structs?: StructTypes;
};

export type CelProgram = {
  source: string;
  /** What the expression gives. */
  type: CelType;
  /** The variables it reads. */
  uses: ReadonlySet<string>;
  expr: Expr;
  checked: Checked;
  step: Step;
  variables: Readonly<Record<string, CelType>>;
};

export type Compiled = { ok: true; program: CelProgram } | { ok: false; error: string };

export type Evaluated =
  | { value: Value; cost: number }
  /** `exceeded`: the cost limit ended it. */
  | { error: string; cost: number; exceeded: boolean };

/** No single expression may cost more. Source: k8s.io/apiserver/pkg/apis/cel "PerCallLimit". */
export const PER_CALL_LIMIT = 1_000_000;

/** What every expression in Kubernetes 1.36 may call. */
export const kubernetesFunctions: Functions = functionTable(
  operators,
  conversionFunctions,
  timeFunctions,
  optionalFunctions,
  stringFunctions,
  listFunctions,
  networkFunctions,
  textKindFunctions,
  authorizerFunctions,
);

/**
 * Compiles `source`; `expected`, if given, are the types that it may give. The error is upstream's
 * text: one block for each mistake with its line and column, or `must evaluate to bool`.
 */
export function compileCel(source: string, environment: CelEnvironment): Compiled {
  const parsed = parseCel(source);
  if (parsed.problems.length > 0) return failed(source, parsed.problems);
  const scope: Scope = {
    variables: new Map(Object.entries(environment.variables)),
    functions: environment.functions ?? kubernetesFunctions,
    ...(environment.structs ? { structs: environment.structs } : {}),
  };
  const checked = checkCel(parsed.expr, scope);
  if (checked.problems.length > 0) return failed(source, checked.problems);
  const type = checked.types.get(parsed.expr) as CelType;
  const uses = new Set<string>();
  for (const reference of checked.references.values()) {
    if (reference.kind === 'variable') uses.add(reference.name);
  }
  const step = planCel(parsed.expr, checked, environment.structs);
  const { variables } = environment;
  return {
    ok: true,
    program: { source, type, uses, expr: parsed.expr, checked, step, variables },
  };
}

function failed(source: string, problems: readonly { at: number; message: string }[]): Compiled {
  return { ok: false, error: problems.map((one) => renderProblem(source, one)).join('\n') };
}

/** Whether a program gives exactly one of `wanted`; what is only known at run time does not pass. */
export const gives = (program: CelProgram, ...wanted: readonly CelType[]): boolean =>
  wanted.some((one) => sameType(one, program.type));

/** As in `must evaluate to bool but got int`. */
export const resultType = (program: CelProgram): string => formatType(program.type);

/**
 * Runs a program. Bindings are plain JSON, read as the declared type says, or values of CEL, or
 * functions that give one of these when the variable is first read. Nothing is copied.
 */
export function evaluate(
  program: CelProgram,
  bindings: Readonly<Record<string, unknown>>,
  options: { costLimit?: number } = {},
): Evaluated {
  const known = new Map<string, Value>();
  const frame = {
    variable(name: string): Value {
      const seen = known.get(name);
      if (seen !== undefined) return seen;
      if (!Object.hasOwn(bindings, name)) return new CelError(`no such attribute: ${name}`);
      const value = bound(bindings[name], program.variables[name] ?? { kind: 'dyn' });
      known.set(name, value);
      return value;
    },
    locals: [],
    cost: 0,
    limit: Math.min(options.costLimit ?? PER_CALL_LIMIT, PER_CALL_LIMIT),
  };
  try {
    const value = program.step(frame);
    if (value instanceof CelError) {
      return { error: value.message, cost: frame.cost, exceeded: false };
    }
    return { value, cost: frame.cost };
  } catch (error) {
    if (!(error instanceof CostExceeded)) throw error;
    return { error: error.message, cost: frame.cost, exceeded: true };
  }
}

function bound(binding: unknown, type: CelType): Value {
  const raw = typeof binding === 'function' ? (binding as () => unknown)() : binding;
  if (typeof raw === 'object' && raw !== null && isValue(raw)) return raw;
  return typeof raw === 'bigint' ? raw : fromJson(raw, type);
}
