import type { FieldError } from '#api/field-error.ts';
import { invalid, notSupported, required } from '#api/field-error.ts';
import type { InternalType } from '#api/internal-form.ts';
import { internalForm } from '#api/internal-form.ts';
import { compareQuantity, formatQuantity, parseQuantity, type Quantity } from '#api/quantity.ts';
import {
  isConfigMapKey,
  isDns1123Label,
  isDns1123Subdomain,
  isPortName,
  isQualifiedName,
} from '#api/validate-names.ts';

/** Validation functions append to one list, so that errors come in the order of the rules. */
export type Errors = FieldError[];

export const IMMUTABLE = 'field is immutable';
export const NOT_NEGATIVE = 'must be greater than or equal to 0';
export const POSITIVE = 'must be greater than zero';
export const inRange = (low: number, high: number): string =>
  `must be between ${low} and ${high}, inclusive`;

export const MAX_INT32 = 2_147_483_647;

/** One Invalid error per message. */
export function addInvalid(
  errors: Errors,
  path: string,
  value: unknown,
  messages: readonly string[],
): void {
  for (const message of messages) errors.push(invalid(path, value, message));
}

export const checkLabel = (errors: Errors, path: string, value: string): void =>
  addInvalid(errors, path, value, isDns1123Label(value));
export const checkSubdomain = (errors: Errors, path: string, value: string): void =>
  addInvalid(errors, path, value, isDns1123Subdomain(value));
export const checkQualifiedName = (errors: Errors, path: string, value: string): void =>
  addInvalid(errors, path, value, isQualifiedName(value));
export const checkConfigKey = (errors: Errors, path: string, value: string): void =>
  addInvalid(errors, path, value, isConfigMapKey(value));

export function checkNotNegative(errors: Errors, path: string, value: number | undefined): void {
  if (value !== undefined && value < 0) errors.push(invalid(path, value, NOT_NEGATIVE));
}

export function checkRange(
  errors: Errors,
  path: string,
  value: number,
  [low, high]: readonly [number, number],
): void {
  if (value < low || value > high) errors.push(invalid(path, value, inRange(low, high)));
}

/** The value is one of `supported`, in the order that the message shows them. */
export function checkEnum(
  errors: Errors,
  path: string,
  value: string | undefined,
  supported: readonly string[],
): void {
  if (!supported.includes(value ?? '')) errors.push(notSupported(path, value ?? '', supported));
}

/** The same, where an empty value is the other mistake. */
export function checkRequiredEnum(
  errors: Errors,
  path: string,
  value: string | undefined,
  supported: readonly string[],
): void {
  if (!value) errors.push(required(path));
  else checkEnum(errors, path, value, supported);
}

const PORTS = [1, 65_535] as const;

export const checkPort = (errors: Errors, path: string, port: number): void =>
  checkRange(errors, path, port, PORTS);

/** A port's number, or the name that a container gives it. */
export function checkPortNumberOrName(errors: Errors, path: string, port: unknown): void {
  if (typeof port === 'string') addInvalid(errors, path, port, isPortName(port));
  else checkPort(errors, path, typeof port === 'number' ? port : 0);
}

const IDS = [0, MAX_INT32] as const;
/** A user's or group's number. */
export const checkId = (errors: Errors, path: string, id: number | undefined): void => {
  if (id !== undefined) checkRange(errors, path, id, IDS);
};

const ZERO = parseQuantity('0');

/** A quantity of an object that was decoded, or zero for what is none. */
export function quantityOf(value: string | number | undefined): Quantity {
  return value === undefined ? ZERO : parseQuantity(String(value));
}

/** -1, 0 or 1. Plain digits, the most usual case, are compared without parsing. */
export function quantitySign(value: string | number): number {
  const text = String(value);
  if (/^[1-9]\d*[A-Za-z]*$/.test(text)) return 1;
  return compareQuantity(parseQuantity(text), ZERO);
}

export function checkQuantityNotNegative(
  errors: Errors,
  path: string,
  value: string | number,
): void {
  if (quantitySign(value) < 0) {
    errors.push(invalid(path, formatQuantity(parseQuantity(String(value))), NOT_NEGATIVE));
  }
}

export function checkQuantityPositive(errors: Errors, path: string, value: string | number): void {
  if (quantitySign(value) <= 0) {
    errors.push(invalid(path, formatQuantity(parseQuantity(String(value))), POSITIVE));
  }
}

/** Deep equality of JSON values; an absent member and an undefined one are the same. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) {
    return (a ?? undefined) === (b ?? undefined);
  }
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    return a.every((item, i) => sameValue(item, b[i]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key of Object.keys(left)) if (!sameValue(left[key], right[key])) return false;
  for (const key of Object.keys(right)) {
    if (left[key] === undefined && right[key] != null) return false;
  }
  return true;
}

/** The same, where empty lists, maps and texts equal absent ones, as they do once stored. */
export function sameMeaning(a: unknown, b: unknown): boolean {
  return sameValue(a, b) || (isEmpty(a) && isEmpty(b));
}

const isEmpty = (value: unknown): boolean =>
  value == null ||
  value === '' ||
  (typeof value === 'object' && Object.keys(value as object).length === 0);

/** A field that may not change; the error shows the new value. */
export function checkImmutable(errors: Errors, path: string, value: unknown, old: unknown): void {
  if (!sameMeaning(value, old)) errors.push(invalid(path, value ?? null, IMMUTABLE));
}

/** The same for an object, which the error shows as upstream's internal type has it. */
export function checkImmutableAs(
  errors: Errors,
  [path, type]: readonly [string, InternalType],
  value: unknown,
  old: unknown,
): void {
  if (sameMeaning(value, old)) return;
  errors.push(invalid(path, internalForm(type, value), IMMUTABLE));
}
