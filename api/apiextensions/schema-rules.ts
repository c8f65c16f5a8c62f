import { compileRules } from '#api/apiextensions/custom-programs.ts';
import type { RuleProgram } from '#api/apiextensions/custom-programs.ts';
import type { SchemaProps, ValidationRule } from '#api/apiextensions/definition-types.ts';
import { fieldAt } from '#api/apiextensions/schema-path.ts';
import { costText } from '#api/apiextensions/schema-rules-context.ts';
import type { RuleContext } from '#api/apiextensions/schema-rules-context.ts';
import type { SchemaOptions } from '#api/apiextensions/schema-validate.ts';
import type { FieldError } from '#api/field-error.ts';
import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';

/** A single rule may be estimated at this much. Source: StaticEstimatedCostLimit. */
const RULE_LIMIT = 10_000_000;

const REASONS = [
  'FieldValueDuplicate',
  'FieldValueForbidden',
  'FieldValueInvalid',
  'FieldValueRequired',
];

export type RuleChecks = {
  /** Undefined where expressions cannot be compiled, such as inside logic. */
  rules: RuleContext | undefined;
  uncorrelated: string;
  options: SchemaOptions;
  /** Whether the schema has errors here or deeper: then nothing is compiled. */
  hasErrors: () => boolean;
};

/** The rules of one schema: as they are written, then compiled and estimated. */
export function checkRules(
  schema: SchemaProps,
  path: string,
  { rules, uncorrelated, options, hasErrors }: RuleChecks,
): { schema: FieldError[]; rules: FieldError[] } {
  const written: Errors = [];
  const list = schema['x-kubernetes-validations'] ?? [];
  if (list.length === 0) return { schema: [], rules: [] };
  const at = `${path}.x-kubernetes-validations`;
  for (const [i, rule] of list.entries()) checkWritten(written, rule, schema, `${at}[${i}]`);
  if (written.length > 0 || hasErrors() || !rules) return { schema: written, rules: [] };
  const self = rules.self();
  if (!self) {
    const text =
      'internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations';
    const error: FieldError = {
      reason: 'InternalError',
      path: at,
      message: `Internal error: ${text}`,
    };
    return { schema: written, rules: [error] };
  }
  const errors: Errors = [];
  for (const [i, result] of compileRules(schema, self).entries()) {
    checkCost(errors, result, `${at}[${i}]`, rules, options);
    checkCompiled(errors, result, `${at}[${i}]`, uncorrelated);
  }
  return { schema: written, rules: errors };
}

const hasNewlines = (text: string): boolean => /[\n\r]/.test(text);

function checkWritten(
  errors: Errors,
  rule: ValidationRule,
  schema: SchemaProps,
  path: string,
): void {
  const { message = '', messageExpression = '', fieldPath = '', reason } = rule;
  const text = (rule.rule ?? '').trim();
  if (text === '') errors.push(required(`${path}.rule`, 'rule is not specified'));
  else if (message !== '' && message.trim() === '') {
    errors.push(invalid(`${path}.message`, message, 'must be non-empty if specified'));
  } else if (hasNewlines(message.trim())) {
    errors.push(invalid(`${path}.message`, message, 'must not contain line breaks'));
  } else if (hasNewlines(text) && message.trim() === '') {
    const why = 'message must be specified if rule contains line breaks';
    errors.push(required(`${path}.message`, why));
  }
  if (messageExpression !== '' && messageExpression.trim() === '') {
    const why = 'messageExpression must be non-empty if specified';
    errors.push(required(`${path}.messageExpression`, why));
  }
  if (reason !== undefined && !REASONS.includes(reason)) {
    errors.push(notSupported(`${path}.reason`, reason, REASONS));
  }
  if (fieldPath === '') return;
  const at = `${path}.fieldPath`;
  if (fieldPath.trim() === '') {
    errors.push(invalid(at, fieldPath, 'must be non-empty if specified'));
  }
  if (hasNewlines(fieldPath)) {
    errors.push(invalid(at, fieldPath, 'must not contain line breaks'));
  }
  if ('wrong' in fieldAt(fieldPath, schema)) {
    errors.push(invalid(at, fieldPath, 'must be a valid path'));
  }
}

function checkCost(
  errors: Errors,
  { cost, messageCost, mostValues }: RuleProgram,
  path: string,
  rules: RuleContext,
  { unchanged }: SchemaOptions,
): void {
  const total = cost * (rules.cardinality ?? mostValues);
  if (!unchanged && total > RULE_LIMIT) {
    errors.push(forbidden(`${path}.rule`, costText('estimated rule cost', total, RULE_LIMIT)));
  }
  rules.observe(`${path}.rule`, total);
  if (messageCost === 0) return;
  if (!unchanged && messageCost > RULE_LIMIT) {
    const text = costText('estimated messageExpression cost', messageCost, RULE_LIMIT);
    errors.push(forbidden(`${path}.messageExpression`, text));
  }
  rules.observe(`${path}.messageExpression`, messageCost);
}

function checkCompiled(
  errors: Errors,
  { rule, error, messageError, usesOldSelf }: RuleProgram,
  path: string,
  uncorrelated: string,
): void {
  const refuse = (field: string, text: string): void => {
    const message = `Invalid value: ${shownRule(rule)}: ${text}`;
    errors.push({ reason: 'FieldValueInvalid', path: `${path}.${field}`, message });
  };
  if (error !== undefined) refuse('rule', error);
  if (messageError !== undefined) refuse('messageExpression', messageError);
  if (usesOldSelf) {
    if (uncorrelated === '') return;
    const text = `oldSelf cannot be used on the uncorrelatable portion of the schema within ${uncorrelated}`;
    errors.push(invalid(`${path}.rule`, rule.rule, text));
  } else if (rule.optionalOldSelf !== undefined) {
    const text = 'may not be set if oldSelf is not used in rule';
    errors.push(invalid(`${path}.optionalOldSelf`, rule.optionalOldSelf, text));
  }
}

const ESCAPED: Readonly<Record<string, string>> = {
  '<': '\\u003c',
  '>': '\\u003e',
  '&': '\\u0026',
};

/** A rule as upstream prints it: its internal type, in Go's JSON. */
function shownRule(rule: ValidationRule): string {
  const text = JSON.stringify({
    Rule: rule.rule,
    Message: rule.message ?? '',
    MessageExpression: rule.messageExpression ?? '',
    Reason: rule.reason ?? null,
    FieldPath: rule.fieldPath ?? '',
    OptionalOldSelf: rule.optionalOldSelf ?? null,
  });
  return text.replace(/[<>&]/g, (char) => ESCAPED[char] ?? char);
}
