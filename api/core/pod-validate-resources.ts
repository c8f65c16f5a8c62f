import {
  checkContainerResourceName,
  checkResourceName,
  checkResourceQuantity,
  isHugePages,
  mayOvercommit,
} from '#api/core/resource-names.ts';
import { sumOfRequests } from '#api/pod-resources.ts';
import {
  duplicate,
  forbidden,
  invalid,
  notFound,
  notSupported,
  required,
} from '#api/field-error.ts';
import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import type { Container, PodSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkLabel, quantityOf } from '#api/validate.ts';

export type Requirements = NonNullable<Container['resources']>;
type NameRule = (errors: Errors, path: string, name: string) => void;

/** Source: core/v1 ResourceRequirements. `claims` are the names that the pod declares. */
export function checkContainerResources(
  errors: Errors,
  path: string,
  requirements: Requirements | undefined,
  claims: ReadonlySet<string>,
): void {
  if (requirements) {
    checkRequirements(errors, path, requirements, { name: checkContainerResourceName, claims });
  }
}

function checkRequirements(
  errors: Errors,
  path: string,
  requirements: Requirements,
  rules: { name: NameRule; claims: ReadonlySet<string> },
): void {
  const { limits = {}, requests = {} } = requirements;
  let computes = false;
  let pages = false;
  for (const [name, limit] of Object.entries(limits)) {
    const at = `${path}.limits[${name}]`;
    checkOne(errors, at, name, limit, rules.name);
    pages ||= isHugePages(name);
    computes ||= name === 'cpu' || name === 'memory';
  }
  for (const [name, request] of Object.entries(requests)) {
    const at = `${path}.requests[${name}]`;
    rules.name(errors, at, name);
    checkResourceQuantity(errors, at, name, request);
    checkAgainstLimit(errors, path, name, request, limits[name]);
    checkHugePages(errors, at, name, request);
    pages ||= isHugePages(name);
    computes ||= name === 'cpu' || name === 'memory';
  }
  if (pages && !computes) errors.push(forbidden(path, 'HugePages require cpu or memory'));
  checkClaims(errors, `${path}.claims`, requirements.claims ?? [], rules.claims);
}

function checkOne(
  errors: Errors,
  at: string,
  name: string,
  value: string,
  nameRule: NameRule,
): void {
  nameRule(errors, at, name);
  checkResourceQuantity(errors, at, name, value);
  checkHugePages(errors, at, name, value);
}

function checkAgainstLimit(
  errors: Errors,
  path: string,
  name: string,
  request: string,
  limit: string | undefined,
): void {
  if (limit === undefined) {
    if (!mayOvercommit(name)) {
      errors.push(required(`${path}.limits`, 'Limit must be set for non overcommitable resources'));
    }
    return;
  }
  if (request === limit) return;
  const order = compareQuantity(parseQuantity(request), parseQuantity(limit));
  if (order !== 0 && !mayOvercommit(name)) {
    errors.push(invalid(`${path}.requests`, request, `must be equal to ${name} limit of ${limit}`));
  } else if (order > 0) {
    errors.push(
      invalid(
        `${path}.requests`,
        request,
        `must be less than or equal to ${name} limit of ${limit}`,
      ),
    );
  }
}

/** Huge pages come in whole pages of the size in their name. */
function checkHugePages(errors: Errors, at: string, name: string, value: string): void {
  if (!isHugePages(name)) return;
  let page = 0n;
  try {
    page = parseQuantity(name.slice('hugepages-'.length)).nano;
  } catch {
    page = 0n;
  }
  const { nano } = parseQuantity(value);
  if (page <= 0n || nano % page !== 0n) {
    errors.push(invalid(at, value, `${value} is not positive integer multiple of ${name}`));
  }
}

function checkClaims(
  errors: Errors,
  path: string,
  claims: NonNullable<Requirements['claims']>,
  declared: ReadonlySet<string>,
): void {
  const seen = new Set<string>();
  for (const [i, { name, request }] of claims.entries()) {
    const at = `${path}[${i}]`;
    if (!name) {
      errors.push(required(at));
      continue;
    }
    if (seen.has(name)) errors.push(duplicate(at, name));
    else {
      const key = request ? `${name}/${request}` : name;
      if (request) checkLabel(errors, `${at}.request`, request);
      if (seen.has(key)) errors.push(duplicate(at, key));
      else if (!request && [...seen].some((other) => other.startsWith(`${name}/`))) {
        errors.push(duplicate(at, name));
      }
      seen.add(key);
    }
    if (!declared.has(name)) {
      const known =
        declared.size === 0 ? ' which is empty' : `: ${[...declared].sort().join(', ')}`;
      const error = notFound(at, name);
      error.message += `: must be one of the names in pod.spec.resourceClaims${known}`;
      errors.push(error);
    }
  }
}

const POD_LEVEL = ['cpu', 'hugepages-', 'memory'];

function checkPodResourceName(errors: Errors, path: string, name: string): void {
  if (!checkResourceName(errors, path, name)) return;
  if (name !== 'cpu' && name !== 'memory' && !isHugePages(name)) {
    errors.push(notSupported(path, name, POD_LEVEL));
  }
}

/** Requests and limits of the pod as a whole. Source: KEP-2837. */
export function checkPodResources(errors: Errors, path: string, spec: PodSpec): void {
  const { resources } = spec;
  if (!resources) return;
  if (resources.claims) {
    errors.push(forbidden(`${path}.claims`, 'claims cannot be set for Resources at pod-level'));
  }
  checkRequirements(errors, path, resources, { name: checkPodResourceName, claims: new Set() });
  for (const name of namesOfRequests(spec)) {
    const sum = sumOfRequests(spec, name);
    const whole = quantityOf(resources.requests?.[name]);
    if (sum !== undefined && compareQuantity(parseQuantity(sum), whole) > 0) {
      errors.push(
        invalid(
          `${path}.requests[${name}]`,
          resources.requests?.[name] ?? '0',
          `must be greater than or equal to aggregate container requests of ${sum}`,
        ),
      );
    }
  }
  for (const [i, container] of (spec.containers ?? []).entries()) {
    for (const [name, limit] of Object.entries(container.resources?.limits ?? {})) {
      const whole = resources.limits?.[name];
      if (whole === undefined) continue;
      if (compareQuantity(parseQuantity(limit), parseQuantity(whole)) > 0) {
        errors.push(
          invalid(
            `${path}.containers[${i}][${name}].limits`,
            limit,
            `must be less than or equal to pod limits of ${whole}`,
          ),
        );
      }
    }
  }
}

function namesOfRequests(spec: PodSpec): Set<string> {
  const names = new Set<string>();
  for (const container of [...(spec.containers ?? []), ...(spec.initContainers ?? [])]) {
    for (const name of Object.keys(container.resources?.requests ?? {})) names.add(name);
  }
  return names;
}
