import type { Status } from '#api/status.ts';
import { isStatusError } from '#api/status.ts';
import { parseYaml } from '#api/yaml.ts';
import type { Annotate } from '#apiserver/admission-rule.ts';
import type { Clock } from '#base/clock.ts';
import type { AuditSink } from '#apiserver/audit-log.ts';
import type { AuditOrder, AuditPolicy, AuditStage } from '#apiserver/audit-policy.ts';
import { auditOrder } from '#apiserver/audit-policy.ts';
import { Chunks } from '#apiserver/chunks.ts';
import type { RequestInfo, ServerRequest, ServerResponse } from '#apiserver/request.ts';
import type { UserInfo } from '#apiserver/user.ts';
import { parseExact } from '#base/exact-json.ts';

/** Keeps the record of who did what. Source: Kubernetes "Auditing"; audit.k8s.io/v1 Event. */
export type Audit = {
  /**
   * Begins the record of a request and writes its first stage; undefined when the policy asks for
   * none. `user` is who really asks, undefined when nobody could be made out.
   */
  begin(
    request: ServerRequest,
    info: RequestInfo,
    user: UserInfo | undefined,
    auditId: string,
  ): AuditRecord | undefined;
};

export function createAudit(policy: AuditPolicy, sink: AuditSink, clock: Clock): Audit {
  return {
    begin(request, info, user, auditId) {
      const order = auditOrder(policy, user, info);
      if (order.level === 'None') return undefined;
      const record = new AuditRecord({ order, sink, clock, request, info, user, auditId });
      records.set(request, record);
      return record;
    },
  };
}

const records = new WeakMap<ServerRequest, AuditRecord>();

export const recordOf = (request: ServerRequest): AuditRecord | undefined => records.get(request);

/** Adds to a request's record, if one is kept: for what lies deeper than the pipeline. */
export function annotatorOf(request: ServerRequest): Annotate | undefined {
  const record = records.get(request);
  return record && ((key, value, level) => record.annotate(key, value, level));
}

type AnyObject = { [member: string]: unknown };

export class AuditRecord {
  readonly #order: AuditOrder;
  readonly #sink: AuditSink;
  readonly #clock: Clock;
  readonly #request: ServerRequest;
  readonly #event: AnyObject;
  readonly #annotations: Record<string, string> = {};

  constructor(fields: {
    order: AuditOrder;
    sink: AuditSink;
    clock: Clock;
    request: ServerRequest;
    info: RequestInfo;
    user: UserInfo | undefined;
    auditId: string;
  }) {
    const { order, sink, clock, request, info, user, auditId } = fields;
    this.#order = order;
    this.#sink = sink;
    this.#clock = clock;
    this.#request = request;
    const userAgent = request.headers['user-agent'];
    this.#event = {
      kind: 'Event',
      apiVersion: 'audit.k8s.io/v1',
      level: order.level,
      auditID: auditId,
      stage: '',
      requestURI: request.url,
      verb: info.verb,
      user: userOf(user),
      sourceIPs: sourcesOf(request),
      ...(userAgent ? { userAgent: userAgent.slice(0, MAX_USER_AGENT) } : {}),
      ...(info.isResource ? { objectRef: referenceOf(info) } : {}),
      requestReceivedTimestamp: microTime(clock.now()),
    };
    this.#write('RequestReceived');
    this.#readRequest(info);
  }

  /** The user is somebody else from now on, by impersonation. */
  actAs(user: UserInfo): void {
    this.#event['impersonatedUser'] = userOf(user);
  }

  annotate(key: string, value: string, level?: 'Request'): void {
    if (level === 'Request' && this.#order.level === 'Metadata') return;
    this.#annotations[key] ??= value;
  }

  /** The answer goes out; that of a stream is complete when the stream has ended. */
  answered(response: ServerResponse, error?: unknown): ServerResponse {
    const { status: code, body } = response;
    const streams = !(typeof body === 'string' || body instanceof Uint8Array);
    if (streams && !(body instanceof Chunks)) {
      this.started(code);
      return { ...response, body: this.#until(body) };
    }
    this.#event['responseStatus'] = isStatusError(error)
      ? statusOf(error.status)
      : { metadata: {}, ...successOf(body), code };
    if (this.#order.level === 'RequestResponse') this.#readResponse(body);
    this.#write('ResponseComplete');
    return response;
  }

  started(code: number): void {
    this.#event['responseStatus'] = { metadata: {}, code };
    this.#write('ResponseStarted');
  }

  complete(): void {
    this.#write('ResponseComplete');
  }

  async *#until(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    try {
      yield* body;
    } finally {
      this.complete();
    }
  }

  #readRequest(info: RequestInfo): void {
    const wanted = this.#order.level === 'Request' || this.#order.level === 'RequestResponse';
    if (!info.isResource || !this.#request.body?.length) return;
    if (!wanted && info.verb !== 'create') return;
    const object = readBody(this.#request.body, this.#request.headers['content-type']);
    if (object === undefined) return;
    complete(this.#event['objectRef'] as AnyObject, object);
    if (wanted) this.#event['requestObject'] = this.#shown(object);
  }

  #readResponse(body: ServerResponse['body']): void {
    if (!this.#event['objectRef']) return;
    const bytes = body instanceof Chunks ? body.join() : body;
    if (typeof bytes !== 'string' && !(bytes instanceof Uint8Array)) return;
    const object = readBody(bytes, 'application/json');
    if (object !== undefined) this.#event['responseObject'] = this.#shown(object);
  }

  #shown(object: unknown): unknown {
    if (this.#order.omitManagedFields) omitManagedFields(object);
    return object;
  }

  #write(stage: AuditStage): void {
    if (this.#order.omitStages.has(stage)) return;
    const event: AnyObject = {
      ...this.#event,
      stage,
      stageTimestamp: microTime(this.#clock.now()),
    };
    if (Object.keys(this.#annotations).length > 0) event['annotations'] = this.#annotations;
    this.#sink.write(JSON.stringify(event));
  }
}

const MAX_USER_AGENT = 1_024;

function userOf(user: UserInfo | undefined): AnyObject {
  if (!user) return {};
  const { name, uid, groups, extra } = user;
  return { username: name, ...(uid ? { uid } : {}), groups, ...(extra ? { extra } : {}) };
}

/** Where the request came from: what proxies say, then the connection itself. */
function sourcesOf({ headers, remoteAddress }: ServerRequest): string[] {
  const forwarded = (headers['x-forwarded-for'] ?? '').split(',').map((one) => one.trim());
  const all = [...forwarded, headers['x-real-ip'] ?? '', remoteAddress ?? ''];
  return [...new Set(all.filter((one) => one !== '').map((one) => one.replace(/^::ffff:/, '')))];
}

function referenceOf(info: RequestInfo): AnyObject {
  const { resource, namespace, name, group, version, subresource } = info;
  return {
    resource,
    ...(namespace ? { namespace } : {}),
    ...(name ? { name } : {}),
    ...(group ? { apiGroup: group } : {}),
    apiVersion: version,
    ...(subresource ? { subresource } : {}),
  };
}

/** What the body says of the object and the URL does not. */
function complete(reference: AnyObject, object: unknown): void {
  const metadata = (object as { metadata?: AnyObject } | null)?.metadata;
  for (const field of ['namespace', 'name', 'uid', 'resourceVersion']) {
    const value = metadata?.[field];
    if (typeof value === 'string' && value !== '') reference[field] ??= value;
  }
}

const microTime = (nowMs: number): string => new Date(nowMs).toISOString().replace('Z', '000Z');

function readBody(body: Uint8Array | string, contentType: string | undefined): unknown {
  const text = typeof body === 'string' ? body : Buffer.from(body).toString('utf8');
  try {
    // Server-side apply sends YAML, of which JSON is a part.
    if (contentType?.includes('yaml') && !text.startsWith('{')) return parseYaml(text)[0]?.value;
    return parseExact(text);
  } catch {
    // Protobuf, or what the request is going to be refused for.
    return undefined;
  }
}

function statusOf({ metadata, status, message, reason, details, code }: Status): AnyObject {
  return { metadata, status, message, reason, ...(details ? { details } : {}), code };
}

/** A Status that is the answer to a success, as deletes give it. */
function successOf(body: ServerResponse['body']): AnyObject {
  if (!(body instanceof Uint8Array) || body.length > MAX_STATUS_BYTES) return {};
  const text = Buffer.from(body).toString('utf8');
  if (!/^\{("apiVersion":"v1",)?"kind":"Status"/.test(text)) return {};
  const { status, message, reason, details } = JSON.parse(text) as Status;
  return {
    status,
    ...(message ? { message } : {}),
    ...(reason ? { reason } : {}),
    ...(details ? { details } : {}),
  };
}

const MAX_STATUS_BYTES = 64 * 1024;

function omitManagedFields(object: unknown): void {
  const { metadata, items } = (object ?? {}) as { metadata?: AnyObject; items?: unknown };
  if (typeof metadata === 'object') delete metadata['managedFields'];
  if (Array.isArray(items)) for (const item of items) omitManagedFields(item);
}
