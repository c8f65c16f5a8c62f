import { fieldAt } from '#api/apiextensions/schema-path.ts';
import type { SchemaProps, ValidationRule } from '#api/apiextensions/definition-types.ts';
import { itemSchema, valueSchema } from '#api/apiextensions/definition-types.ts';
import type { CelProgram } from '#api/cel/cel.ts';
import { compileCel } from '#api/cel/cel.ts';
import { estimateCost } from '#api/cel/estimate.ts';
import { schemaType } from '#api/cel/schema.ts';
import type { CelType } from '#api/cel/types.ts';
import { optionalOf } from '#api/cel/types.ts';
import type { Schema } from '#api/schema.ts';

/** The expressions of `x-kubernetes-validations`, compiled. */

export type RuleProgram = {
  rule: ValidationRule;
  program: CelProgram | undefined;
  error: string | undefined;
  message: CelProgram | undefined;
  messageError: string | undefined;
  /** Whether it compares with what was stored. */
  usesOldSelf: boolean;
  /** The most that one evaluation can cost, by the bounds of the schema. */
  cost: number;
  messageCost: number;
  /** Most values of this type that fit into one object. */
  mostValues: number;
  /** Where its errors are shown, from the place of the rule on; '' = there. */
  fieldPath: string;
};

/** What `self` is at a schema; null where expressions see nothing. */
export const selfType = (schema: SchemaProps, isResource: boolean): CelType | null =>
  schemaType(schema as Schema, { root: isResource });

/** No object is larger. Source: MaxRequestSizeBytes. */
const MAX_REQUEST_BYTES = 3 * 1024 * 1024;

const minSizeOf = (type: CelType): number => ('minSize' in type ? (type.minSize ?? 0) : 0);

/** One result for each rule of the schema, those inside it apart. */
export function compileRules(schema: SchemaProps, self: CelType): RuleProgram[] {
  return (schema['x-kubernetes-validations'] ?? []).map((rule) => compileRule(rule, schema, self));
}

function compileRule(rule: ValidationRule, schema: SchemaProps, self: CelType): RuleProgram {
  const result: RuleProgram = {
    rule,
    program: undefined,
    error: undefined,
    message: undefined,
    messageError: undefined,
    usesOldSelf: false,
    cost: 0,
    messageCost: 0,
    mostValues: Math.floor(MAX_REQUEST_BYTES / (minSizeOf(self) + 1)),
    fieldPath: '',
  };
  if (rule.rule.trim() === '') return result;
  const oldSelf = rule.optionalOldSelf ? optionalOf(self) : self;
  const environment = { variables: { self, oldSelf } };
  const compiled = compileCel(rule.rule, environment);
  if (!compiled.ok) return { ...result, error: `compilation failed: ${compiled.error}` };
  const { program } = compiled;
  if (program.type.kind !== 'bool') {
    return { ...result, error: 'cel expression must evaluate to a bool' };
  }
  result.program = program;
  result.cost = estimateCost(program).max;
  result.usesOldSelf = program.uses.has('oldSelf');
  if (rule.messageExpression) {
    const message = compileCel(rule.messageExpression, environment);
    if (!message.ok) {
      result.messageError = `messageExpression compilation failed: ${message.error}`;
    } else if (message.program.type.kind !== 'string') {
      result.messageError = 'messageExpression must evaluate to a string';
    } else {
      result.message = message.program;
      result.messageCost = estimateCost(message.program).max;
    }
  }
  if (rule.fieldPath) {
    const found = fieldAt(rule.fieldPath, schema);
    if (!('wrong' in found)) result.fieldPath = found.path;
  }
  return result;
}

type Compiled = { self: CelType | null; rules: readonly RuleProgram[] };

const asValue = new WeakMap<SchemaProps, Compiled>();
const asResource = new WeakMap<SchemaProps, Compiled>();

/** The same, kept as long as the schema lives. */
export function rulesOf(schema: SchemaProps, isResource: boolean): Compiled {
  const kept = isResource ? asResource : asValue;
  let compiled = kept.get(schema);
  if (!compiled) {
    const self = selfType(schema, isResource);
    compiled = { self, rules: self ? compileRules(schema, self) : [] };
    kept.set(schema, compiled);
  }
  return compiled;
}

const withRules = new WeakMap<SchemaProps, boolean>();

/** Whether a schema or one inside it has rules; most have none. */
export function hasRules(schema: SchemaProps): boolean {
  const known = withRules.get(schema);
  if (known !== undefined) return known;
  const items = itemSchema(schema);
  const values = valueSchema(schema);
  const found =
    (schema['x-kubernetes-validations']?.length ?? 0) > 0 ||
    Object.values(schema.properties ?? {}).some(hasRules) ||
    (items !== undefined && hasRules(items)) ||
    (values !== undefined && hasRules(values));
  withRules.set(schema, found);
  return found;
}
