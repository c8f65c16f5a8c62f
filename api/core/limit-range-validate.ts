import {
  checkContainerResourceName,
  checkResourceName,
  mayOvercommit,
} from '#api/core/resource-names.ts';
import { duplicate, forbidden, invalid, required } from '#api/field-error.ts';
import type { Quantity } from '#api/quantity.ts';
import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import type { LimitRange } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkQualifiedName } from '#api/validate.ts';
import { isQualifiedName } from '#api/validate-names.ts';

type Limit = NonNullable<LimitRange['spec']>['limits'][number];
type ListName = 'max' | 'min' | 'default' | 'defaultRequest' | 'maxLimitRequestRatio';

const TYPES = ['Pod', 'Container', 'PersistentVolumeClaim'];
const NOT_FOR_POD = "may not be specified when `type` is 'Pod'";
const ONE = parseQuantity('1');

/** Source: core/v1 LimitRangeItem. */
export function validateLimitRange(object: LimitRange): Errors {
  const errors: Errors = [];
  const seen = new Set<string>();
  for (const [i, limit] of (object.spec?.limits ?? []).entries()) {
    const at = `spec.limits[${i}]`;
    checkType(errors, `${at}.type`, limit.type ?? '');
    if (seen.has(limit.type)) errors.push(duplicate(`${at}.type`, limit.type));
    seen.add(limit.type);
    checkLimit(errors, at, limit);
  }
  return errors;
}

function checkType(errors: Errors, path: string, type: string): void {
  checkQualifiedName(errors, path, type);
  if (isQualifiedName(type).length > 0 || type.includes('/') || TYPES.includes(type)) return;
  errors.push(invalid(path, type, 'must be a standard limit type or fully qualified'));
}

function checkLimit(errors: Errors, at: string, limit: Limit): void {
  const names = new Set<string>();
  const check = (list: ListName): void => {
    for (const name of Object.keys(limit[list] ?? {})) {
      const path = `${at}.${list}[${name}]`;
      if (limit.type === 'Pod' || limit.type === 'Container') {
        checkContainerResourceName(errors, path, name);
      } else checkResourceName(errors, path, name);
      names.add(name);
    }
  };
  check('max');
  check('min');
  if (limit.type === 'Pod') {
    for (const list of ['default', 'defaultRequest'] as const) {
      if (Object.keys(limit[list] ?? {}).length > 0) {
        errors.push(forbidden(`${at}.${list}`, NOT_FOR_POD));
      }
    }
  } else {
    check('default');
    check('defaultRequest');
  }
  if (
    limit.type === 'PersistentVolumeClaim' &&
    limit.min?.['storage'] === undefined &&
    limit.max?.['storage'] === undefined
  ) {
    const rule = 'either minimum or maximum storage value is required, but neither was provided';
    errors.push(required(`${at}.limits`, rule));
  }
  check('maxLimitRequestRatio');
  for (const name of names) checkOrder(errors, at, limit, name);
}

type Amount = { text: string; value: Quantity };

/** min ≤ defaultRequest ≤ default ≤ max, and the ratio between what min and max allow. */
function checkOrder(errors: Errors, at: string, limit: Limit, name: string): void {
  const amount = (list: ListName): Amount | undefined => {
    if (limit.type === 'Pod' && (list === 'default' || list === 'defaultRequest')) return undefined;
    const text = limit[list]?.[name];
    return text === undefined ? undefined : { text, value: parseQuantity(text) };
  };
  const min = amount('min');
  const max = amount('max');
  const standard = amount('default');
  const request = amount('defaultRequest');
  const complain = (list: ListName, shown: Amount, rule: string): void => {
    errors.push(invalid(`${at}.${list}[${name}]`, shown.text, rule));
  };
  const above = (a: Amount | undefined, b: Amount | undefined): a is Amount =>
    a !== undefined && b !== undefined && compareQuantity(a.value, b.value) > 0;
  if (above(min, max)) {
    complain('min', min, `min value ${min.text} is greater than max value ${max?.text}`);
  }
  if (above(min, request) && request) {
    const rule = `min value ${min.text} is greater than default request value ${request.text}`;
    complain('defaultRequest', request, rule);
  }
  if (above(request, max)) {
    const rule = `default request value ${request.text} is greater than max value ${max?.text}`;
    complain('defaultRequest', request, rule);
  }
  if (above(request, standard)) {
    const rule = `default request value ${request.text} is greater than default limit value ${standard?.text}`;
    complain('defaultRequest', request, rule);
  }
  if (above(min, standard)) {
    const rule = `min value ${min.text} is greater than default value ${standard?.text}`;
    complain('default', min, rule);
  }
  if (above(standard, max) && max) {
    complain(
      'default',
      max,
      `default value ${standard.text} is greater than max value ${max.text}`,
    );
  }
  checkRatio(errors, `${at}.maxLimitRequestRatio[${name}]`, amount('maxLimitRequestRatio'), {
    min,
    max,
  });
  const differ = standard && request && compareQuantity(standard.value, request.value) !== 0;
  if (differ && !mayOvercommit(name)) {
    const rule = `default value ${standard.text} must equal to defaultRequest value ${request.text} in ${name}`;
    complain('defaultRequest', request, rule);
  }
}

function checkRatio(
  errors: Errors,
  path: string,
  ratio: Amount | undefined,
  { min, max }: { min: Amount | undefined; max: Amount | undefined },
): void {
  if (!ratio) return;
  if (compareQuantity(ratio.value, ONE) < 0) {
    errors.push(invalid(path, ratio.text, `ratio ${ratio.text} is less than 1`));
  }
  if (!min || !max) return;
  const possible = Number(max.value.nano) / Number(min.value.nano);
  if (Number(ratio.value.nano) / 1e9 > possible) {
    const rule = `ratio ${ratio.text} is greater than max/min = ${possible.toFixed(6)}`;
    errors.push(invalid(path, ratio.text, rule));
  }
}
