import {
  compileExpression,
  type PolicyScope,
  RESULTS,
} from '#api/admissionregistration/policy-scope.ts';
import {
  checkPolicyHead,
  type PolicySpec,
  reportExpression,
} from '#api/admissionregistration/policy-validate.ts';
import { duplicate, invalid, notSupported, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import { checkQualifiedName, type Errors } from '#api/validate.ts';

export type Validation = {
  expression?: string;
  message?: string;
  messageExpression?: string;
  reason?: string;
};
export type AuditAnnotation = { key?: string; valueExpression?: string };

export type ValidatingPolicySpec = PolicySpec & {
  validations?: Validation[];
  auditAnnotations?: AuditAnnotation[];
};

const REASONS = ['Forbidden', 'Invalid', 'RequestEntityTooLarge'];
const MAX_ANNOTATIONS = 20;
const MAX_VALUE_EXPRESSION_BYTES = 5 * 1024;
const ONE_NEEDED = 'validations or auditAnnotations must contain at least one item';

/** `conditions`: whether match conditions are checked; an update that keeps them leaves them be. */
export function checkValidatingPolicy(
  errors: Errors,
  name: string,
  spec: ValidatingPolicySpec,
  conditions: boolean,
): void {
  const scope = checkPolicyHead(errors, spec, conditions);
  const { validations = [], auditAnnotations = [] } = spec;
  if (validations.length === 0 && auditAnnotations.length === 0) {
    errors.push(required('spec.validations', ONE_NEEDED));
    errors.push(required('spec.auditAnnotations', ONE_NEEDED));
    return;
  }
  for (const [i, validation] of validations.entries()) {
    checkValidation(errors, `spec.validations[${i}]`, validation, scope);
  }
  checkAnnotations(errors, name, auditAnnotations, scope);
}

function checkValidation(
  errors: Errors,
  path: string,
  validation: Validation,
  scope: PolicyScope,
): void {
  const { expression = '', message = '', messageExpression = '', reason } = validation;
  if (expression.trim() === '') {
    errors.push(required(`${path}.expression`, 'expression is not specified'));
  } else {
    const compiled = compileExpression(expression, scope, RESULTS.condition);
    reportExpression(errors, `${path}.expression`, expression, compiled);
  }
  if (messageExpression && messageExpression.trim() === '') {
    const text = 'must be non-empty if specified';
    errors.push(invalid(`${path}.messageExpression`, messageExpression, text));
  } else if (messageExpression) {
    const compiled = compileExpression(
      messageExpression,
      { ...scope, authorizer: false },
      RESULTS.message,
    );
    reportExpression(errors, `${path}.messageExpression`, messageExpression, compiled);
  }
  if (message && message.trim() === '') {
    errors.push(invalid(`${path}.message`, message, 'message must be non-empty if specified'));
  } else if (/[\n\r]/.test(message.trim())) {
    errors.push(invalid(`${path}.message`, message, 'message must not contain line breaks'));
  }
  if (reason !== undefined && !REASONS.includes(reason)) {
    errors.push(notSupported(`${path}.reason`, reason, REASONS));
  }
}

function checkAnnotations(
  errors: Errors,
  name: string,
  annotations: readonly AuditAnnotation[],
  scope: PolicyScope,
): void {
  if (annotations.length > MAX_ANNOTATIONS) {
    const text = `must not have more than ${MAX_ANNOTATIONS} auditAnnotations`;
    errors.push(
      invalid('spec.auditAnnotations', internalForm('AuditAnnotation', annotations), text),
    );
  }
  const keys = new Set<string>();
  for (const [i, { key = '', valueExpression = '' }] of annotations.entries()) {
    const at = `spec.auditAnnotations[${i}]`;
    if (name === '') errors.push(invalid(`${at}.key`, key, 'requires metadata.name be non-empty'));
    else checkQualifiedName(errors, `${at}.key`, `${name}/${key}`);
    const source = valueExpression.trim();
    if (source === '') {
      errors.push(required(`${at}.valueExpression`, 'valueExpression is not specified'));
    } else if (Buffer.byteLength(source) > MAX_VALUE_EXPRESSION_BYTES) {
      const text = `must not exceed ${MAX_VALUE_EXPRESSION_BYTES} bytes in length`;
      errors.push(required(`${at}.valueExpression`, text));
    } else {
      const compiled = compileExpression(source, scope, RESULTS.annotation);
      reportExpression(errors, `${at}.valueExpression`, valueExpression, compiled);
    }
    if (keys.has(key)) errors.push(duplicate(`${at}.key`, key));
    keys.add(key);
  }
}
