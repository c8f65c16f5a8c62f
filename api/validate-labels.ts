import { forbidden, invalid, required } from '#api/field-error.ts';
import type { LabelSelector } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkQualifiedName } from '#api/validate.ts';
import { isLabelKey, isLabelValue } from '#api/validate-names.ts';

/** Labels of an object, or a map selector. Source: labels and selectors in the API reference. */
export function checkLabels(
  errors: Errors,
  path: string,
  labels: Readonly<Record<string, string>>,
): void {
  for (const key of Object.keys(labels)) {
    addInvalid(errors, path, key, isLabelKey(key));
    const value = labels[key] ?? '';
    addInvalid(errors, path, value, isLabelValue(value));
  }
}

/**
 * In and NotIn need values, Exists and DoesNotExist take none. False for any other operator, of
 * which the caller knows what it means.
 */
export function checkSelectorValues(
  errors: Errors,
  path: string,
  operator: string | undefined,
  values: readonly string[],
): boolean {
  switch (operator) {
    case 'In':
    case 'NotIn':
      if (values.length === 0) {
        errors.push(
          required(`${path}.values`, "must be specified when `operator` is 'In' or 'NotIn'"),
        );
      }
      return true;
    case 'Exists':
    case 'DoesNotExist':
      if (values.length > 0) {
        errors.push(
          forbidden(
            `${path}.values`,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
          ),
        );
      }
      return true;
    default:
      return false;
  }
}

/** Source: metav1.LabelSelector. */
export function checkLabelSelector(
  errors: Errors,
  path: string,
  selector: LabelSelector | undefined,
): void {
  if (!selector) return;
  if (selector.matchLabels) checkLabels(errors, `${path}.matchLabels`, selector.matchLabels);
  for (const [i, requirement] of (selector.matchExpressions ?? []).entries()) {
    const at = `${path}.matchExpressions[${i}]`;
    const { operator, values = [], key } = requirement;
    if (!checkSelectorValues(errors, at, operator, values)) {
      errors.push(invalid(`${at}.operator`, operator ?? '', 'not a valid selector operator'));
    }
    checkQualifiedName(errors, `${at}.key`, key ?? '');
    for (const [j, value] of values.entries()) {
      addInvalid(errors, `${at}.values[${j}]`, value, isLabelValue(value));
    }
  }
}

export const isEmptySelector = (selector: LabelSelector | undefined): boolean =>
  Object.keys(selector?.matchLabels ?? {}).length + (selector?.matchExpressions?.length ?? 0) === 0;
