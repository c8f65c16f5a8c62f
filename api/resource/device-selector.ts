import { compileCel, gives, resultType } from '#api/cel/cel.ts';
import { BOOL, DYN, mapOf, objectType, opaque, STRING } from '#api/cel/types.ts';
import { invalid, required, tooLong } from '#api/field-error.ts';
import { checkAtMost } from '#api/resource/device-names.ts';
import type { DeviceSelector } from '#api/resource/resource-types.ts';
import type { Errors } from '#api/validate.ts';

const MAX_SELECTORS = 32;
/** Bytes of one expression. */
const MAX_EXPRESSION = 10 * 1024;

/** What an expression says of a device. Source: resource.k8s.io/v1 CELDeviceSelector. */
const DEVICE = objectType('DRADevice', {
  driver: STRING,
  attributes: mapOf(STRING, mapOf(STRING, DYN)),
  capacity: mapOf(STRING, mapOf(STRING, opaque('kubernetes.Quantity'))),
  allowMultipleAllocations: BOOL,
});

export function checkSelectors(
  errors: Errors,
  path: string,
  selectors: readonly DeviceSelector[],
): void {
  if (!checkAtMost(errors, path, selectors, MAX_SELECTORS)) return;
  for (const [i, { cel }] of selectors.entries()) {
    const at = `${path}[${i}].cel`;
    if (!cel) errors.push(required(at));
    else checkExpression(errors, `${at}.expression`, cel.expression ?? '');
  }
}

function checkExpression(errors: Errors, path: string, expression: string): void {
  if (!expression) {
    errors.push(required(path));
    return;
  }
  if (Buffer.byteLength(expression) > MAX_EXPRESSION) {
    errors.push(tooLong(path, MAX_EXPRESSION));
    return;
  }
  const compiled = compileCel(expression, { variables: { device: DEVICE } });
  if (!compiled.ok) {
    errors.push(invalid(path, expression, `compilation failed: ${compiled.error}`));
  } else if (!gives(compiled.program, BOOL, DYN)) {
    const type = resultType(compiled.program);
    errors.push(
      invalid(path, expression, `must evaluate to bool or the unknown type, not ${type}`),
    );
  }
}
