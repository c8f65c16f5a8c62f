import { checkTolerations } from '#api/core/pod-validate-affinity.ts';
import {
  duplicate,
  forbidden,
  invalid,
  notSupported,
  required,
  tooLong,
} from '#api/field-error.ts';
import { checkAtMost, checkDriverName, checkFullDeviceName } from '#api/resource/device-names.ts';
import { checkSelectors } from '#api/resource/device-selector.ts';
import type {
  DeviceClaim,
  DeviceConfiguration,
  DeviceConstraint,
  DeviceRequest,
  ExactRequest,
  SubRequest,
} from '#api/resource/resource-types.ts';
import type { Toleration } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkLabel, checkSubdomain, POSITIVE } from '#api/validate.ts';

/** Bounds of lists. Source: resource.k8s.io/v1 DeviceClaim. */
const MAX_LIST = 32;
const MAX_ALTERNATIVES = 8;
const MAX_TOLERATIONS = 16;
/** Bytes of a driver's parameters. */
const MAX_PARAMETERS = 10 * 1024;
const MODES = ['All', 'ExactCount'];

/** Fills in how many devices are meant. Mutates. Source: as above. */
export function defaultDeviceClaim(claim: DeviceClaim): void {
  for (const request of claim.requests ?? []) {
    if (request.exactly) defaultRequest(request.exactly);
    for (const one of request.firstAvailable ?? []) defaultRequest(one);
  }
}

function defaultRequest(request: ExactRequest | SubRequest): void {
  request.allocationMode ||= 'ExactCount';
  if (request.allocationMode === 'ExactCount') request.count ||= 1;
  for (const toleration of request.tolerations ?? []) toleration.operator ||= 'Equal';
}

/** What a claim asks for. Source: as above. */
export function checkDeviceClaim(errors: Errors, path: string, claim: DeviceClaim): void {
  const requests = claim.requests ?? [];
  const names = requestNames(requests);
  if (checkAtMost(errors, `${path}.requests`, requests, MAX_LIST)) {
    checkUnique(errors, `${path}.requests`, requests);
    for (const [i, request] of requests.entries()) {
      checkRequest(errors, `${path}.requests[${i}]`, request);
    }
  }
  const constraints = claim.constraints ?? [];
  if (checkAtMost(errors, `${path}.constraints`, constraints, MAX_LIST)) {
    for (const [i, constraint] of constraints.entries()) {
      checkConstraint(errors, `${path}.constraints[${i}]`, constraint, names);
    }
  }
  checkConfigurations(errors, `${path}.config`, claim.config ?? [], names);
}

/** Requests by name, and alternatives as `request/alternative`. */
function requestNames(requests: readonly DeviceRequest[]): Set<string> {
  const names = new Set<string>();
  for (const { name, firstAvailable = [] } of requests) {
    names.add(name);
    for (const one of firstAvailable) names.add(`${name}/${one.name}`);
  }
  return names;
}

function checkUnique(errors: Errors, path: string, list: readonly { name: string }[]): void {
  for (const [i, { name }] of list.entries()) {
    if (list.findIndex((other) => other.name === name) < i) {
      errors.push(duplicate(`${path}[${i}].name`, name));
    }
  }
}

function checkRequest(errors: Errors, path: string, request: DeviceRequest): void {
  checkName(errors, `${path}.name`, request.name);
  const { exactly, firstAvailable = [] } = request;
  const ONE = 'exactly one of `exactly` or `firstAvailable` is required';
  if (!exactly && firstAvailable.length === 0) errors.push(required(path, ONE));
  else if (exactly && firstAvailable.length > 0) {
    errors.push(invalid(path, null, `${ONE}, but multiple fields are set`));
  } else if (exactly) checkDemand(errors, `${path}.exactly`, exactly);
  else if (checkAtMost(errors, `${path}.firstAvailable`, firstAvailable, MAX_ALTERNATIVES)) {
    checkUnique(errors, `${path}.firstAvailable`, firstAvailable);
    for (const [i, one] of firstAvailable.entries()) {
      const at = `${path}.firstAvailable[${i}]`;
      checkName(errors, `${at}.name`, one.name);
      checkDemand(errors, at, one);
    }
  }
}

function checkName(errors: Errors, path: string, name: string): void {
  if (!name) errors.push(required(path));
  else checkLabel(errors, path, name);
}

/** Which devices, and how many. */
function checkDemand(errors: Errors, path: string, demand: ExactRequest | SubRequest): void {
  if (!demand.deviceClassName) errors.push(required(`${path}.deviceClassName`));
  else checkSubdomain(errors, `${path}.deviceClassName`, demand.deviceClassName);
  checkSelectors(errors, `${path}.selectors`, demand.selectors ?? []);
  const { allocationMode: mode = '', count = 0, tolerations = [] } = demand;
  if (mode === 'All') {
    if (count !== 0) {
      const rule = "must not be specified when allocationMode is 'All'";
      errors.push(invalid(`${path}.count`, count, rule));
    }
  } else if (mode === 'ExactCount') {
    if (count <= 0) errors.push(invalid(`${path}.count`, count, POSITIVE));
  } else errors.push(notSupported(`${path}.allocationMode`, mode, MODES));
  if (checkAtMost(errors, `${path}.tolerations`, tolerations, MAX_TOLERATIONS)) {
    checkTolerations(errors, `${path}.tolerations`, tolerations as readonly Toleration[]);
  }
}

function checkConstraint(
  errors: Errors,
  path: string,
  constraint: DeviceConstraint,
  names: ReadonlySet<string>,
): void {
  checkReferences(errors, `${path}.requests`, constraint.requests ?? [], names);
  const { matchAttribute, distinctAttribute } = constraint;
  if (matchAttribute === undefined && distinctAttribute === undefined) {
    errors.push(
      required(path, 'exactly one of `matchAttribute` or `distinctAttribute` is required'),
    );
  }
  if (matchAttribute !== undefined) {
    checkFullDeviceName(errors, `${path}.matchAttribute`, matchAttribute);
  }
  if (distinctAttribute !== undefined) {
    checkFullDeviceName(errors, `${path}.distinctAttribute`, distinctAttribute);
  }
}

function checkReferences(
  errors: Errors,
  path: string,
  requests: readonly string[],
  names: ReadonlySet<string>,
): void {
  if (!checkAtMost(errors, path, requests, MAX_LIST)) return;
  for (const [i, name] of requests.entries()) {
    const at = `${path}[${i}]`;
    if (requests.indexOf(name) < i) errors.push(duplicate(at, name));
    if (names.has(name)) continue;
    const rule =
      'must be the name of a request in the claim or the name of a request and a subrequest';
    errors.push(invalid(at, name, `${rule} separated by '/'`));
  }
}

/** What drivers are told. `names`: the requests that they may be told it about. */
export function checkConfigurations(
  errors: Errors,
  path: string,
  list: readonly DeviceConfiguration[],
  names: ReadonlySet<string> = new Set(),
): void {
  if (!checkAtMost(errors, path, list, MAX_LIST)) return;
  for (const [i, { requests = [], opaque }] of list.entries()) {
    const at = `${path}[${i}]`;
    checkReferences(errors, `${at}.requests`, requests, names);
    if (!opaque) {
      errors.push(required(`${at}.opaque`));
      continue;
    }
    checkDriverName(errors, `${at}.opaque.driver`, opaque.driver);
    checkParameters(errors, `${at}.opaque.parameters`, opaque.parameters as unknown);
  }
}

function checkParameters(errors: Errors, path: string, parameters: unknown): void {
  if (parameters === undefined || parameters === null) errors.push(required(path));
  else if (Buffer.byteLength(JSON.stringify(parameters)) > MAX_PARAMETERS) {
    errors.push(tooLong(path, MAX_PARAMETERS));
  } else if (typeof parameters !== 'object' || Array.isArray(parameters)) {
    errors.push(invalid(path, '<value omitted>', 'must be a valid JSON object'));
  }
}

/** Consumers of a claim, by the rules of its status. */
export function checkConsumers(
  errors: Errors,
  path: string,
  consumers: readonly { resource?: string; name?: string; uid?: string }[],
  allocated: boolean,
): void {
  if (consumers.length > 0 && !allocated) {
    errors.push(forbidden(path, 'may not be specified when `allocated` is not set'));
  }
  if (!checkAtMost(errors, path, consumers, MAX_CONSUMERS)) return;
  const seen = new Set<string>();
  for (const [i, { resource, name, uid = '' }] of consumers.entries()) {
    const at = `${path}[${i}]`;
    if (seen.has(uid)) errors.push(duplicate(`${at}.uid`, uid));
    seen.add(uid);
    if (!resource) errors.push(required(`${at}.resource`));
    if (!name) errors.push(required(`${at}.name`));
    if (!uid) errors.push(required(`${at}.uid`));
  }
}

const MAX_CONSUMERS = 256;
