import type { FieldError } from '#api/field-error.ts';
import { forbidden, notSupported } from '#api/field-error.ts';
import { badRequestError, expiredError, failure, invalidError } from '#api/status.ts';
import { isTrue } from '#apiserver/request-info.ts';

/** Source: metav1.ListOptions. */
export type ListOptions = {
  labelSelector: string;
  fieldSelector: string;
  /** 0 = all. */
  limit: number;
  continue: string;
  /** '' = newest, '0' = any. */
  resourceVersion: string;
  resourceVersionMatch: string;
  timeoutSeconds: number | undefined;
  sendInitialEvents: boolean | undefined;
  allowWatchBookmarks: boolean;
};

/** Reads and checks the query. Throws StatusError 400 or 422. */
export function readListOptions(query: URLSearchParams, watch: boolean): ListOptions {
  const sendInitialEvents = query.get('sendInitialEvents');
  const options: ListOptions = {
    labelSelector: query.get('labelSelector') ?? '',
    fieldSelector: query.get('fieldSelector') ?? '',
    limit: Math.max(0, readInteger(query, 'limit') ?? 0),
    continue: query.get('continue') ?? '',
    resourceVersion: query.get('resourceVersion') ?? '',
    resourceVersionMatch: query.get('resourceVersionMatch') ?? '',
    timeoutSeconds: readInteger(query, 'timeoutSeconds'),
    sendInitialEvents: sendInitialEvents === null ? undefined : isTrue(sendInitialEvents),
    allowWatchBookmarks: isTrue(query.get('allowWatchBookmarks')),
  };
  const errors = watch ? watchErrors(options) : listErrors(options);
  if (errors.length > 0) {
    throw invalidError({ group: 'meta.k8s.io', kind: 'ListOptions' }, '', errors);
  }
  return options;
}

/** Throws StatusError 400 in the words of the original's number parser. */
export function readInteger(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  if (!/^[+-]?\d+$/.test(text)) {
    throw badRequestError(`strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
  }
  return Number(text);
}

const MATCH = 'resourceVersionMatch';

function listErrors(options: ListOptions): FieldError[] {
  const errors: FieldError[] = [];
  const match = options.resourceVersionMatch;
  if (match !== '') {
    if (options.resourceVersion === '') {
      errors.push(forbidden(MATCH, `${MATCH} is forbidden unless resourceVersion is provided`));
    }
    if (options.continue !== '') {
      errors.push(forbidden(MATCH, `${MATCH} is forbidden when continue is provided`));
    }
    if (match !== 'Exact' && match !== 'NotOlderThan') {
      errors.push(notSupported(MATCH, match, ['Exact', 'NotOlderThan', '']));
    }
    if (match === 'Exact' && options.resourceVersion === '0') {
      errors.push(forbidden(MATCH, `${MATCH} "exact" is forbidden for resourceVersion "0"`));
    }
  }
  if (options.sendInitialEvents !== undefined) {
    errors.push(forbidden('sendInitialEvents', 'sendInitialEvents is forbidden for list'));
  }
  return errors;
}

function watchErrors(options: ListOptions): FieldError[] {
  const errors: FieldError[] = [];
  const match = options.resourceVersionMatch;
  if (options.sendInitialEvents !== undefined && match !== 'NotOlderThan') {
    errors.push(forbidden(MATCH, `sendInitialEvents requires setting ${MATCH} to NotOlderThan`));
  }
  if (match !== '') {
    if (options.sendInitialEvents === undefined) {
      errors.push(
        forbidden(MATCH, `${MATCH} is forbidden for watch unless sendInitialEvents is provided`),
      );
    }
    if (match !== 'NotOlderThan') errors.push(notSupported(MATCH, match, ['NotOlderThan']));
  }
  if (options.continue !== '') {
    errors.push(forbidden(MATCH, `${MATCH} is forbidden when continue is provided`));
  }
  return errors;
}

/** '' and '0' are 0. Upstream answers 500 to what is no number. */
export function readResourceVersion(text: string): number {
  if (text === '') return 0;
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw failure(
      500,
      '',
      `resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  }
  return Number(text);
}

/** Where a paged list goes on: after `start`, at `revision` (0: wherever the store is now). */
export type Continuation = { revision: number; start: string };

const TOKEN_VERSION = 'meta.k8s.io/v1';

export function encodeContinue({ revision, start }: Continuation): string {
  const token = { v: TOKEN_VERSION, rv: revision === 0 ? -1 : revision, start: `${start}\u0000` };
  return Buffer.from(JSON.stringify(token)).toString('base64url');
}

/** Throws StatusError 400 for what is none of our tokens. */
export function decodeContinue(text: string): Continuation {
  let token: { v?: unknown; rv?: unknown; start?: unknown };
  try {
    token = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
  } catch {
    throw badRequestError('continue key is not valid: it is no token of this server');
  }
  const { v, rv, start } = token ?? {};
  if (v !== TOKEN_VERSION || typeof rv !== 'number' || typeof start !== 'string' || !start) {
    throw badRequestError('continue key is not valid: server does not recognize this version');
  }
  return {
    revision: Math.max(0, rv),
    start: start.endsWith('\u0000') ? start.slice(0, -1) : start,
  };
}

/** 410 of a page whose snapshot is gone, with a token that goes on from the present. */
export function expiredContinue(start: string): Error {
  const error = expiredError(
    'The provided continue parameter is too old to display a consistent list result. ' +
      'You can start a new list without the continue parameter, or use the continue token in ' +
      'this response to retrieve the remainder of the results. Continuing with the provided ' +
      'token results in an inconsistent list - objects that were created, modified, or deleted ' +
      'between the time the first chunk was returned and now may show up in the list.',
  );
  error.status.metadata = { continue: encodeContinue({ revision: 0, start }) };
  return error;
}

/** 504 of a read that asks for a revision which the server does not get to see. */
export function tooLargeVersion(asked: number, current: number): Error {
  return failure(
    504,
    'Timeout',
    `Timeout: Too large resource version: ${asked}, current: ${current}`,
    {
      causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
      retryAfterSeconds: 1,
    },
  );
}
