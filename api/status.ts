import type { FieldError } from '#api/field-error.ts';

/** metav1.Status of a failure, as clients receive it. */
export type Status = {
  kind: 'Status';
  apiVersion: 'v1';
  metadata: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  status: 'Success' | 'Failure';
  message?: string;
  reason?: string;
  details?: StatusDetails;
  code: number;
};

export type StatusDetails = {
  name?: string;
  group?: string;
  kind?: string;
  uid?: string;
  causes?: { reason?: string; message?: string; field?: string }[];
  retryAfterSeconds?: number;
};

/** Every API failure is this one error; it carries the Status that goes over the wire. */
export class StatusError extends Error {
  readonly status: Status;
  constructor(status: Status, options?: { cause?: unknown }) {
    super(status.message ?? status.reason ?? 'unknown', options);
    this.name = 'StatusError';
    this.status = status;
  }
  get code(): number {
    return this.status.code;
  }
  get reason(): string {
    return this.status.reason ?? '';
  }
}

export function isStatusError(error: unknown, reason?: string): error is StatusError {
  return error instanceof StatusError && (reason === undefined || error.reason === reason);
}

/** A resource as Status messages name it: `deployments.apps "web" not found`. */
export type ResourceName = { group: string; resource: string };

export const qualified = ({ group, resource }: ResourceName): string =>
  group ? `${resource}.${group}` : resource;

export function failure(
  code: number,
  reason: string,
  message: string,
  details?: StatusDetails,
): StatusError {
  return new StatusError({
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message,
    ...(reason ? { reason } : {}),
    ...(details ? { details } : {}),
    code,
  });
}

/** `details.kind` of most failures is the resource's plural, a quirk that clients rely on. */
const detailsOf = (of: ResourceName, name: string): StatusDetails => ({
  ...(name ? { name } : {}),
  ...(of.group ? { group: of.group } : {}),
  ...(of.resource ? { kind: of.resource } : {}),
});

export const notFoundError = (of: ResourceName, name: string): StatusError =>
  failure(404, 'NotFound', `${qualified(of)} "${name}" not found`, detailsOf(of, name));

export const alreadyExistsError = (of: ResourceName, name: string): StatusError =>
  failure(409, 'AlreadyExists', `${qualified(of)} "${name}" already exists`, detailsOf(of, name));

export const conflictError = (of: ResourceName, name: string, why: string): StatusError =>
  failure(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(of)} "${name}": ${why}`,
    detailsOf(of, name),
  );

export const modifiedError = (of: ResourceName, name: string): StatusError =>
  conflictError(
    of,
    name,
    'the object has been modified; please apply your changes to the latest version and try again',
  );

export const forbiddenError = (of: ResourceName, name: string, why: string): StatusError =>
  failure(
    403,
    'Forbidden',
    `${qualified(of)}${name ? ` "${name}"` : ''} is forbidden: ${why}`,
    detailsOf(of, name),
  );

export const badRequestError = (message: string): StatusError =>
  failure(400, 'BadRequest', message);

export const unauthorizedError = (): StatusError => failure(401, 'Unauthorized', 'Unauthorized');

export const internalError = (message: string): StatusError =>
  failure(500, 'InternalError', `Internal error occurred: ${message}`, {
    causes: [{ message }],
  });

export const expiredError = (message: string): StatusError => failure(410, 'Expired', message);

export const methodNotAllowedError = (of: ResourceName, verb: string): StatusError =>
  failure(
    405,
    'MethodNotAllowed',
    `${verb} is not supported on resources of kind "${qualified(of)}"`,
    detailsOf(of, ''),
  );

/** 422 with one cause per broken rule. `of.kind` is the Kind here, not the plural. */
export function invalidError(
  of: { group: string; kind: string },
  name: string,
  errors: readonly FieldError[],
): StatusError {
  const lines = [...new Set(errors.map((e) => `${e.path}: ${e.message}`))];
  const text = lines.length === 1 ? lines[0] : `[${lines.join(', ')}]`;
  const kind = of.group ? `${of.kind}.${of.group}` : of.kind;
  return failure(422, 'Invalid', `${kind} "${name}" is invalid: ${text}`, {
    ...(name ? { name } : {}),
    ...(of.group ? { group: of.group } : {}),
    ...(of.kind ? { kind: of.kind } : {}),
    causes: errors.map((e) => ({ reason: e.reason, message: e.message, field: e.path })),
  });
}
