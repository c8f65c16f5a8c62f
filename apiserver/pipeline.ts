import { randomUUID } from 'node:crypto';
import type { StatusError } from '#api/status.ts';
import { badRequestError, internalError, isStatusError, unauthorizedError } from '#api/status.ts';
import { parseDuration } from '#api/time.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import type { Audit, AuditRecord } from '#apiserver/audit.ts';
import { recordOf } from '#apiserver/audit.ts';
import type { Authenticator } from '#apiserver/authn/authenticate.ts';
import { impersonate } from '#apiserver/authn/impersonation.ts';
import type { Attributes, Authorizer, Decision } from '#apiserver/authz/authorizer.ts';
import { attributesOf, forbiddenBy } from '#apiserver/authz/forbidden.ts';
import type { Fairness, Ticket } from '#apiserver/fairness.ts';
import { TooManyRequests } from '#apiserver/fairness.ts';
import type { RequestMetrics } from '#apiserver/metrics.ts';
import { negotiate } from '#apiserver/negotiate.ts';
import { parseRequestInfo } from '#apiserver/request-info.ts';
import type { Handler, RequestInfo, ServerRequest, ServerResponse } from '#apiserver/request.ts';
import { answerStatus, answerText } from '#apiserver/resource/answer.ts';
import { storeFailure } from '#apiserver/resource/store-failure.ts';
import { notedWarnings, warningHeader } from '#apiserver/warnings.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** The last stage: what the request is about answers it. */
export type Route = (
  info: RequestInfo,
  request: ServerRequest,
  user: UserInfo,
) => Promise<ServerResponse>;

export type PipelineConfig = {
  authenticator: Authenticator;
  authorizer: Authorizer;
  route: Route;
  metrics: RequestMetrics;
  /** Without it nobody keeps a record. */
  audit?: Audit | undefined;
  /** Without it requests are not limited. */
  fairness?: Fairness | undefined;
  log: Log;
};

/** Who asks for what, after authentication and authorization. */
export type Admitted = { info: RequestInfo; user: UserInfo; record: AuditRecord | undefined };

export type Pipeline = {
  handle: Handler;
  /** The stages before the route, for connections that are upgraded. Throws StatusError. */
  admit(request: ServerRequest): Promise<Admitted>;
};

/**
 * The ordered stages of every request: read, authenticate, limit, authorize, route, answer.
 * Nothing that goes wrong in them ends the process: it becomes a Status.
 */
export function createPipeline(config: PipelineConfig): Pipeline {
  const { authorizer, route, metrics, fairness, audit, log } = config;

  const admit = async (request: ServerRequest): Promise<Admitted> => {
    const info = parseRequestInfo(request.method, request.url);
    const { user, record } = await identify(config, request, info, auditIdOf(request));
    authorize(authorizer, user, info, record);
    return { info, user, record };
  };

  const run = async (request: ServerRequest): Promise<ServerResponse> => {
    const startMs = performance.now();
    let info: RequestInfo | undefined;
    let response: ServerResponse;
    let ticket: Ticket | null = null;
    let record: AuditRecord | undefined;
    let failure: unknown;
    const auditId = auditIdOf(request);
    try {
      info = parseRequestInfo(request.method, request.url);
      checkTimeout(info);
      const who = await identify(config, request, info, auditId);
      const { user } = who;
      record = who.record;
      const entering = fairness?.enter(user, info, request) ?? null;
      ticket = entering instanceof Promise ? await entering : entering;
      authorize(authorizer, user, info, record);
      response = await route(info, request, user);
    } catch (error) {
      failure = error;
      response = answerFailure(error, request, log);
      if (error instanceof TooManyRequests) nameFlow(response, error);
    } finally {
      if (ticket) fairness?.leave(ticket);
    }
    if (ticket) nameFlow(response, ticket);
    const warnings = notedWarnings(request);
    if (warnings.length > 0) response.headers['warning'] ??= warningHeader(warnings);
    response.headers['audit-id'] = auditId;
    if (audit && info) {
      record ??= recordOf(request);
      if (record) response = record.answered(response, failure);
    }
    metrics.observe(info, response.status, performance.now() - startMs);
    return response;
  };
  return { handle: run, admit };
}

/** These take as long as they take, and the query of a proxy is not ours. */
const LONG_RUNNING = new Set(['attach', 'exec', 'log', 'portforward', 'proxy']);

/** A timeout that is none is refused; answers come sooner than what clients name. Throws 400. */
function checkTimeout({ query, verb, subresource }: RequestInfo): void {
  const timeout = query.get('timeout');
  if (!timeout || verb === 'watch' || LONG_RUNNING.has(subresource)) return;
  if (parseDuration(timeout) !== undefined) return;
  const why = `time: invalid duration ${JSON.stringify(timeout)}`;
  throw badRequestError(`invalid timeout specified in the request URL - ${why}`);
}

const auditIdOf = ({ headers }: ServerRequest): string => headers['audit-id'] ?? randomUUID();

/** Who asks, and as whom; the record begins before the request can be refused for who it is. */
async function identify(
  { authenticator, authorizer, audit }: PipelineConfig,
  request: ServerRequest,
  info: RequestInfo,
  auditId: string,
): Promise<{ user: UserInfo; record: AuditRecord | undefined }> {
  let real: UserInfo | null = null;
  let record: AuditRecord | undefined;
  try {
    real = await authenticator.authenticate(request);
  } finally {
    record = audit?.begin(request, info, real ?? undefined, auditId);
  }
  if (!real) throw unauthorizedError();
  const ask = (attributes: Attributes): Decision => authorizer.authorize(attributes);
  const user = impersonate(request, real, ask);
  if (user !== real) record?.actAs(user);
  return { user, record };
}

function authorize(
  authorizer: Authorizer,
  user: UserInfo,
  info: RequestInfo,
  record: AuditRecord | undefined,
): void {
  const attributes = attributesOf(user, info);
  const decision = authorizer.authorize(attributes);
  if (record) {
    const { decision: word, reason } = decision;
    record.annotate('authorization.k8s.io/decision', word === 'allow' ? 'allow' : 'forbid');
    record.annotate('authorization.k8s.io/reason', reason);
  }
  if (decision.decision !== 'allow') throw forbiddenBy(attributes, decision);
}

/** By uid, since the names may tell users more than is theirs to know. */
function nameFlow(
  { headers }: ServerResponse,
  { schema, level }: Pick<Ticket, 'schema' | 'level'>,
) {
  headers['x-kubernetes-pf-flowschema-uid'] = schema.uid;
  headers['x-kubernetes-pf-prioritylevel-uid'] = level.uid;
}

function refuseForNow(error: TooManyRequests): ServerResponse {
  const response = answerText(`${error.message}\n`, 429);
  response.headers['retry-after'] = '1';
  return response;
}

/** Any failure as the Status that the client gets; surprises are logged and become 500. */
export function failureStatus(error: unknown, log: Log): StatusError {
  if (isStatusError(error)) return error;
  const unavailable = storeFailure(error);
  if (unavailable) return unavailable;
  log.error('request failed', {
    error: errorText(error),
    stack: error instanceof Error ? error.stack : undefined,
  });
  return internalError(errorText(error));
}

function answerFailure(error: unknown, request: ServerRequest, log: Log): ServerResponse {
  if (error instanceof TooManyRequests) return refuseForNow(error);
  const { status } = failureStatus(error, log);
  try {
    const format = { ...negotiate(request.headers['accept']), pretty: false };
    return answerStatus(status, format);
  } catch {
    // Nothing that the client accepts: a person may be looking.
    return answerStatus(status, { media: 'application/json', pretty: true });
  }
}
