import { hasRules, rulesOf } from '#api/apiextensions/custom-programs.ts';
import type { RuleProgram } from '#api/apiextensions/custom-programs.ts';
import { itemsBefore, memberBefore, NO_PATH } from '#api/apiextensions/custom-validate.ts';
import type { Correlated } from '#api/apiextensions/custom-validate.ts';
import type { SchemaProps, ValidationRule } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import type { CelProgram } from '#api/cel/cel.ts';
import { evaluate } from '#api/cel/cel.ts';
import type { CelType } from '#api/cel/types.ts';
import { fromJson, NONE, Optional } from '#api/cel/values.ts';
import type { FieldError } from '#api/field-error.ts';
import { invalid } from '#api/field-error.ts';
import { equalJson, isPlainObject } from '#api/json.ts';

/** All rules of one object together may cost this much. Source: RuntimeCELCostBudget. */
const COST_BUDGET = 10_000_000;
/** Longer messages of expressions are not used. Source: MaxEvaluatedMessageExpressionSizeBytes. */
const MAX_MESSAGE_BYTES = 5 * 1024;

type Run = { budget: number; errors: FieldError[] };

/**
 * Evaluates the rules of a schema and of all inside it. `old` is what is stored, for rules about
 * changes; an error about what has not changed is not told.
 * Source: Kubernetes "Validation rules", "Transition rules", "Validation ratcheting".
 */
export function evaluateRules(
  value: unknown,
  old: Correlated,
  schema: SchemaProps,
  { path = '', isRoot = false }: { path?: string; isRoot?: boolean } = {},
): FieldError[] {
  if (!hasRules(schema)) return [];
  const run: Run = { budget: COST_BUDGET, errors: [] };
  visit(run, value, schema, { path, isResource: isRoot, old, unchanged: false });
  return run.errors;
}

type Place = {
  path: string;
  isResource: boolean;
  old: Correlated;
  /** The nearest value that has a stored counterpart is as it was. */
  unchanged: boolean;
};

function visit(run: Run, value: unknown, schema: SchemaProps, place: Place): void {
  if (value === null || value === undefined || run.budget < 0 || !hasRules(schema)) return;
  const unchanged = place.old ? equalJson(value, place.old.value) : place.unchanged;
  const here = { ...place, unchanged };
  check(run, value, schema, here);
  if (run.budget < 0) return;
  if (Array.isArray(value)) {
    const items = itemSchema(schema);
    if (!items) return;
    const before = itemsBefore(schema, place.old);
    const isResource = items['x-kubernetes-embedded-resource'] === true;
    for (const [i, item] of value.entries()) {
      visit(run, item, items, {
        path: `${place.path}[${i}]`,
        isResource,
        old: before(item),
        unchanged,
      });
    }
  } else if (isPlainObject(value)) visitMembers(run, value, schema, here);
}

function visitMembers(
  run: Run,
  value: { [member: string]: unknown },
  schema: SchemaProps,
  { path, old, unchanged }: Place,
): void {
  const values = valueSchema(schema);
  const { properties = {} } = schema;
  for (const key of Object.keys(value)) {
    const isNamed = Object.hasOwn(properties, key);
    const inner = isNamed ? properties[key] : values;
    if (!inner) continue;
    visit(run, value[key], inner, {
      path: isNamed ? (path === '' ? key : `${path}.${key}`) : `${path}[${key}]`,
      isResource: inner['x-kubernetes-embedded-resource'] === true,
      old: memberBefore(old, key),
      unchanged,
    });
  }
}

const typed = (path: string, schema: SchemaProps, text: string): FieldError =>
  invalid(path === '' ? NO_PATH : path, schema.type ?? '', text);

function check(run: Run, value: unknown, schema: SchemaProps, place: Place): void {
  if (!schema['x-kubernetes-validations']?.length) return;
  const { self, rules } = rulesOf(schema, place.isResource);
  if (!self) return;
  const current = fromJson(value, self);
  for (const rule of rules) {
    if (rule.error !== undefined) {
      run.errors.push(typed(place.path, schema, `rule compile error: ${rule.error}`));
      continue;
    }
    if (!rule.program) continue;
    const { optionalOldSelf = false } = rule.rule;
    if (rule.usesOldSelf && !hasOld(place.old) && !optionalOldSelf) continue;
    const bindings = { self: current, oldSelf: oldSelfOf(place.old, self, optionalOldSelf) };
    checkRule(run, value, schema, place, { rule, program: rule.program, bindings });
    if (run.budget < 0) return;
  }
}

const hasOld = (old: Correlated): boolean => old !== undefined && old.value !== null;

function oldSelfOf(old: Correlated, self: CelType, optional: boolean): unknown {
  if (!old || !hasOld(old)) return NONE;
  const value = fromJson(old.value, self);
  return optional ? new Optional(value) : value;
}

type RuleRun = {
  rule: RuleProgram;
  program: CelProgram;
  bindings: Readonly<Record<string, unknown>>;
};

function checkRule(
  run: Run,
  value: unknown,
  schema: SchemaProps,
  { path, unchanged }: Place,
  { rule, program, bindings }: RuleRun,
): void {
  const result = evaluate(program, bindings);
  const named = ruleText(rule.rule);
  if (result.cost > run.budget) {
    const text =
      'validation failed due to running out of cost budget, no further validation rules will be run';
    run.errors.push(typed(path, schema, text));
    run.budget = -1;
    return;
  }
  run.budget -= result.cost;
  if ('error' in result) {
    const { error, exceeded } = result;
    if (exceeded) {
      const text = `'${error}': no further validation rules will be run due to call cost exceeds limit for rule: ${named}`;
      run.errors.push(typed(path, schema, text));
      run.budget = -1;
    } else if (error.startsWith('no such overload')) {
      const text = `'${error}': call arguments did not match a supported operator, function or macro signature for rule: ${named}`;
      run.errors.push(typed(path, schema, text));
    } else run.errors.push(typed(path, schema, `${error} evaluating rule: ${named}`));
    return;
  }
  if (result.value === true) return;
  const message = messageOf(run, rule, bindings) ?? defaultMessage(rule.rule);
  // What was so before the rule came may stay so.
  if (!rule.usesOldSelf && unchanged) return;
  const inner = rule.fieldPath;
  const at = inner === '' ? path : path === '' ? inner : `${path}.${inner}`;
  run.errors.push(failed(at === '' ? NO_PATH : at, value, schema, message, rule.rule.reason));
}

const ruleText = ({ rule, message }: ValidationRule): string => (message || rule).trim();

const defaultMessage = (rule: ValidationRule): string =>
  rule.message ? rule.message.trim() : `failed rule: ${rule.rule.trim()}`;

/** What the message expression gives; undefined when that is no use. */
function messageOf(
  run: Run,
  { message }: RuleProgram,
  bindings: Readonly<Record<string, unknown>>,
): string | undefined {
  if (!message) return undefined;
  const result = evaluate(message, bindings);
  run.budget -= Math.min(result.cost, run.budget);
  if ('error' in result || typeof result.value !== 'string') return undefined;
  const text = result.value.trim();
  const usable =
    text !== '' && !text.includes('\n') && Buffer.byteLength(text) <= MAX_MESSAGE_BYTES;
  return usable ? text : undefined;
}

function failed(
  path: string,
  value: unknown,
  schema: SchemaProps,
  detail: string,
  reason: string | undefined,
): FieldError {
  // Whole objects and lists are not shown.
  const isShown = schema.type !== 'object' && schema.type !== 'array';
  switch (reason) {
    case 'FieldValueForbidden':
      return { reason, path, message: `Forbidden: ${detail}` };
    case 'FieldValueRequired':
      return { reason, path, message: `Required value: ${detail}` };
    case 'FieldValueDuplicate': {
      const shown = isShown ? `: ${JSON.stringify(value)}` : '';
      return { reason, path, message: `Duplicate value${shown}` };
    }
    default:
      if (isShown) return invalid(path, value, detail);
      return { reason: 'FieldValueInvalid', path, message: `Invalid value: ${detail}` };
  }
}
