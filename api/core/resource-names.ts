import { invalid } from '#api/field-error.ts';
import { parseQuantity } from '#api/quantity.ts';
import type { Errors } from '#api/validate.ts';
import { checkQuantityNotNegative } from '#api/validate.ts';
import { isQualifiedName } from '#api/validate-names.ts';

const CONTAINER_RESOURCES = new Set(['cpu', 'memory', 'ephemeral-storage']);

/** Counted objects; quotas name them. */
const COUNTS = [
  'pods',
  'services',
  'replicationcontrollers',
  'resourcequotas',
  'secrets',
  'configmaps',
  'persistentvolumeclaims',
  'services.nodeports',
  'services.loadbalancers',
];
const QUOTA_RESOURCES = new Set([
  'cpu',
  'memory',
  'ephemeral-storage',
  'requests.cpu',
  'requests.memory',
  'requests.storage',
  'requests.ephemeral-storage',
  'limits.cpu',
  'limits.memory',
  'limits.ephemeral-storage',
  ...COUNTS,
]);
const STANDARD_RESOURCES = new Set([...QUOTA_RESOURCES, 'storage']);
const INTEGERS = new Set(COUNTS);

export const isHugePages = (name: string): boolean => name.startsWith('hugepages-');
const isQuotaHugePages = (name: string): boolean =>
  isHugePages(name) || name.startsWith('requests.hugepages-');

/** Unprefixed names and those of kubernetes.io. */
export const isNativeResource = (name: string): boolean =>
  !name.includes('/') || name.includes('kubernetes.io/');

/** A resource that a device plugin or an operator brings. Source: extended resources. */
export function isExtendedResource(name: string): boolean {
  if (isNativeResource(name) || name.startsWith('requests.')) return false;
  return isQualifiedName(`requests.${name}`).length === 0;
}

/** Only native resources can be promised more than once, huge pages cannot. */
export const mayOvercommit = (name: string): boolean =>
  isNativeResource(name) && !isHugePages(name);

export const isStandardQuotaResource = (name: string): boolean =>
  QUOTA_RESOURCES.has(name) || isQuotaHugePages(name);

const isStandardContainerResource = (name: string): boolean =>
  CONTAINER_RESOURCES.has(name) || isHugePages(name);

/** False when the name is unreadable, so that no further rule applies. */
export function checkResourceName(errors: Errors, path: string, name: string): boolean {
  const messages = isQualifiedName(name);
  for (const message of messages) errors.push(invalid(path, name, message));
  if (messages.length > 0) return false;
  if (!name.includes('/') && !STANDARD_RESOURCES.has(name) && !isQuotaHugePages(name)) {
    errors.push(invalid(path, name, 'must be a standard resource type or fully qualified'));
    return false;
  }
  return true;
}

export function checkContainerResourceName(errors: Errors, path: string, name: string): void {
  if (CONTAINER_RESOURCES.has(name)) return;
  checkResourceName(errors, path, name);
  if (!name.includes('/')) {
    if (!isStandardContainerResource(name)) {
      errors.push(invalid(path, name, 'must be a standard resource for containers'));
    }
  } else if (!isNativeResource(name) && !isExtendedResource(name)) {
    errors.push(invalid(path, name, "doesn't follow extended resource name standard"));
  }
}

export function checkQuotaResourceName(errors: Errors, path: string, name: string): void {
  checkResourceName(errors, path, name);
  if (!name.includes('/') && !isStandardQuotaResource(name)) {
    errors.push(invalid(path, name, 'must be a standard resource for quota'));
  }
}

const WHOLE = 1_000_000_000n;

/** Not negative, and whole where the resource comes in pieces. */
export function checkResourceQuantity(
  errors: Errors,
  path: string,
  name: string,
  value: string,
): void {
  checkQuantityNotNegative(errors, path, value);
  if (INTEGERS.has(name) || isExtendedResource(name)) {
    if (parseQuantity(value).nano % WHOLE !== 0n) {
      errors.push(invalid(path, value, 'must be an integer'));
    }
  }
}
