import { invalid, required, tooLong, tooMany } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid } from '#api/validate.ts';
import { isCIdentifier, isDns1123Subdomain } from '#api/validate-names.ts';

const MAX_DOMAIN = 63;
const MAX_IDENTIFIER = 32;
const MAX_POOL_NAME = 253;

/** A driver is called by a DNS name of its vendor. Source: resource.k8s.io/v1 ResourceSliceSpec. */
export function checkDriverName(errors: Errors, path: string, driver: string): void {
  if (!driver) {
    errors.push(required(path));
    return;
  }
  if (driver.length > MAX_DOMAIN) errors.push(tooLong(path, MAX_DOMAIN));
  addInvalid(errors, path, driver, isDns1123Subdomain(driver));
}

/** A pool's name is a path of DNS names. */
export function checkPoolName(errors: Errors, path: string, name: string): void {
  if (!name) {
    errors.push(required(path));
    return;
  }
  if (name.length > MAX_POOL_NAME) errors.push(tooLong(path, MAX_POOL_NAME));
  for (const part of name.split('/')) addInvalid(errors, path, part, isDns1123Subdomain(part));
}

/** `domain/identifier`, or the identifier alone where the driver's domain is meant. */
export function checkQualifiedDeviceName(errors: Errors, path: string, name: string): void {
  if (!name) {
    errors.push(required(path, 'name required'));
    return;
  }
  const [domain = '', identifier, ...more] = name.split('/');
  if (more.length > 0) {
    errors.push(invalid(path, name, 'a qualified name must have at most one slash'));
    return;
  }
  if (identifier !== undefined) {
    if (!domain) errors.push(required(path, 'the domain must not be empty'));
    else {
      if (domain.length > MAX_DOMAIN) errors.push(tooLong(path, MAX_DOMAIN));
      addInvalid(errors, path, domain, isDns1123Subdomain(domain));
    }
  }
  const text = identifier ?? domain;
  if (!text) errors.push(required(path, 'the name must not be empty'));
  else {
    if (text.length > MAX_IDENTIFIER) errors.push(tooLong(path, MAX_IDENTIFIER));
    addInvalid(errors, path, text, isCIdentifier(text));
  }
}

/** The same, with a domain. */
export function checkFullDeviceName(errors: Errors, path: string, name: string): void {
  if (name && !name.includes('/')) {
    errors.push(invalid(path, name, 'must include a domain'));
  }
  checkQualifiedDeviceName(errors, path, name);
}

/** Bounded lists: true when the items are worth a look. */
export function checkAtMost(
  errors: Errors,
  path: string,
  list: readonly unknown[],
  max: number,
): boolean {
  if (list.length <= max) return true;
  errors.push(tooMany(path, list.length, max));
  return false;
}
