import { isInteger } from '#base/exact-json.ts';
import type { FieldError } from '#api/field-error.ts';
import { invalid, notSupported } from '#api/field-error.ts';
import { isPlainObject } from '#api/json.ts';
import { badRequestError, invalidError } from '#api/status.ts';
import type { RequestInfo, ServerRequest } from '#apiserver/request.ts';
import { isTrue } from '#apiserver/request-info.ts';
import { parseBody } from '#apiserver/resource/decode.ts';
import { readInteger } from '#apiserver/resource/list-options.ts';
import type { DeleteOptions } from '#apiserver/subresources/handler.ts';

const POLICIES = ['Foreground', 'Background', 'Orphan', 'nil'];

/** DeleteOptions out of the body, or else out of the query. Throws StatusError 400, 415, 422. */
export function readDeleteOptions(info: RequestInfo, request: ServerRequest): DeleteOptions {
  const options =
    request.body && request.body.byteLength > 0 ? fromBody(request) : fromQuery(info.query);
  const errors = check(options);
  if (errors.length > 0) {
    throw invalidError({ group: 'meta.k8s.io', kind: 'DeleteOptions' }, '', errors);
  }
  return options;
}

function fromBody(request: ServerRequest): DeleteOptions {
  const { value } = parseBody(request.body, request.headers['content-type'], {
    findDuplicates: false,
    kind: 'DeleteOptions',
  });
  if (!isPlainObject(value)) throw badRequestError('the body is no DeleteOptions object');
  const { kind } = value;
  if (kind !== undefined && kind !== '' && kind !== 'DeleteOptions') {
    throw badRequestError(
      `the body of a delete must be DeleteOptions (v1), not ${JSON.stringify(kind)}`,
    );
  }
  const options: DeleteOptions = {};
  const grace = field(value, 'gracePeriodSeconds', 'number', 'int64');
  if (grace !== undefined) options.gracePeriodSeconds = Number(grace);
  const policy = field(value, 'propagationPolicy', 'string', 'string');
  if (policy !== undefined) {
    options.propagationPolicy = policy as NonNullable<DeleteOptions['propagationPolicy']>;
  }
  const orphan = field(value, 'orphanDependents', 'boolean', 'bool');
  if (orphan !== undefined) options.orphanDependents = orphan as boolean;
  if (Array.isArray(value['dryRun'])) options.dryRun = value['dryRun'] as string[];
  const { preconditions } = value;
  if (isPlainObject(preconditions)) {
    const uid = field(preconditions, 'uid', 'string', 'types.UID');
    const resourceVersion = field(preconditions, 'resourceVersion', 'string', 'string');
    options.preconditions = {
      ...(uid === undefined ? {} : { uid: uid as string }),
      ...(resourceVersion === undefined ? {} : { resourceVersion: resourceVersion as string }),
    };
  }
  return options;
}

function field(
  value: { [member: string]: unknown },
  name: string,
  type: 'number' | 'string' | 'boolean',
  goType: string,
): unknown {
  const given = value[name];
  if (given === undefined || given === null) return undefined;
  const fits = type === 'number' ? isInteger(given) : typeof given === type;
  if (fits) return given;
  const is = typeof given === 'boolean' ? 'bool' : Array.isArray(given) ? 'array' : typeof given;
  throw badRequestError(
    `DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal ${is} into Go struct field DeleteOptions.${name} of type ${goType}`,
  );
}

function fromQuery(query: URLSearchParams): DeleteOptions {
  const options: DeleteOptions = {};
  const grace = readInteger(query, 'gracePeriodSeconds');
  if (grace !== undefined) options.gracePeriodSeconds = grace;
  const policy = query.get('propagationPolicy');
  if (policy) options.propagationPolicy = policy as NonNullable<DeleteOptions['propagationPolicy']>;
  const orphan = query.get('orphanDependents');
  if (orphan !== null) options.orphanDependents = isTrue(orphan);
  return options;
}

function check(options: DeleteOptions): FieldError[] {
  const { propagationPolicy, orphanDependents, dryRun } = options;
  const errors: FieldError[] = [];
  if (propagationPolicy !== undefined && orphanDependents !== undefined) {
    errors.push(
      invalid(
        'propagationPolicy',
        propagationPolicy,
        'orphanDependents and deletionPropagation cannot be both set',
      ),
    );
  }
  if (propagationPolicy !== undefined && !POLICIES.slice(0, 3).includes(propagationPolicy)) {
    errors.push(notSupported('propagationPolicy', propagationPolicy, POLICIES));
  }
  if (dryRun?.some((value) => value !== 'All')) {
    errors.push(notSupported('dryRun', dryRun, ['All']));
  }
  return errors;
}
