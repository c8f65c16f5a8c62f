import type { Scheme } from '#api/scheme.ts';
import type { Discovery, DiscoveryOptions, Document } from '#apiserver/discovery.ts';
import { createDiscovery } from '#apiserver/discovery.ts';
import type { OpenApi, OpenApiOptions } from '#apiserver/openapi.ts';
import { createOpenApi } from '#apiserver/openapi.ts';
import type { RequestMetrics } from '#apiserver/metrics.ts';
import type { Format } from '#apiserver/negotiate.ts';
import type { ServerRequest, ServerResponse } from '#apiserver/request.ts';
import { negotiate, notAcceptable } from '#apiserver/negotiate.ts';
import { answerObject, answerText } from '#apiserver/resource/answer.ts';
import { methodNotAllowed } from '#apiserver/resource/call.ts';
import type { RouteHandler } from '#apiserver/router.ts';
import { nothingThere } from '#apiserver/router.ts';
import { versionInfo } from '#apiserver/version.ts';

/** What the server says about itself: version, metrics, discovery, OpenAPI. */
export function documentRoutes(options: {
  discovery: Discovery;
  openApi: OpenApi;
  metrics: RequestMetrics;
}): readonly RouteHandler[] {
  const { metrics, discovery, openApi } = options;
  return [versionRoute, metricsRoute(metrics), discoveryRoute(discovery), openApiRoute(openApi)];
}

/** The documents of the scheme as it is when they are asked for. */
export function createDocuments(
  live: { readonly scheme: Scheme },
  options: DiscoveryOptions & OpenApiOptions,
): { discovery: Discovery; openApi: OpenApi } {
  let made: { scheme: Scheme; discovery: Discovery; openApi: OpenApi } | undefined;
  const current = () => {
    const { scheme } = live;
    if (made?.scheme !== scheme) {
      const discovery = createDiscovery(scheme, options);
      made = { scheme, discovery, openApi: createOpenApi(scheme, options) };
    }
    return made;
  };
  return {
    discovery: { document: (path, accept) => current().discovery.document(path, accept) },
    openApi: { document: (path, wanted) => current().openApi.document(path, wanted) },
  };
}

/** A document asked for by its right hash never changes, so clients may keep it. */
const IMMUTABLE = 'public, max-age=31536000, immutable';

const openApiRoute =
  (openApi: OpenApi): RouteHandler =>
  (info, request) => {
    if (!info.path.startsWith('/openapi/')) return null;
    const hash = info.query.get('hash');
    const document = openApi.document(info.path, {
      accept: request.headers['accept'] ?? '',
      ...(hash === null ? {} : { hash }),
    });
    if (!document) return null;
    if (info.method !== 'GET' && info.method !== 'HEAD') throw methodNotAllowed();
    if ('redirect' in document) {
      return { status: 301, headers: { location: document.redirect }, body: '' };
    }
    const { body, contentType, etag = '' } = document;
    const headers: Record<string, string> = { etag, vary: 'Accept' };
    if (hash !== null) headers['cache-control'] = IMMUTABLE;
    if (request.headers['if-none-match'] === etag) return { status: 304, headers, body: '' };
    return { status: 200, headers: { ...headers, 'content-type': contentType }, body };
  };

const discoveryRoute =
  (discovery: Discovery): RouteHandler =>
  (info, request) => {
    if (info.isResource || !/^\/apis?(\/|$)/.test(info.path)) return null;
    const accept = request.headers['accept'];
    const document = discovery.document(info.path, accept);
    if (!document) {
      // A version that a served group does not have is an answer of that group's.
      const group = /^(\/api|\/apis\/[^/]+)\/[^/]+\/?$/.exec(info.path)?.[1];
      if (group !== undefined && discovery.document(group)) throw nothingThere();
      return null;
    }
    if (info.method !== 'GET' && info.method !== 'HEAD') throw methodNotAllowed();
    return answerDocument(document, request);
  };

/** A ready-made document; 304 when the client has it already. */
function answerDocument(document: Document, request: ServerRequest): ServerResponse {
  const { body, contentType, etag } = document;
  const headers: Record<string, string> = { 'cache-control': 'no-cache, private', vary: 'Accept' };
  if (etag !== undefined) {
    headers['etag'] = etag;
    const known = request.headers['if-none-match'];
    if (known?.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag)) {
      return { status: 304, headers, body: '' };
    }
  }
  const format = negotiateDocument(request.headers['accept'], contentType);
  if (format) return answerObject(JSON.parse(Buffer.from(body).toString('utf8')), format);
  return { status: 200, headers: { ...headers, 'content-type': contentType }, body };
}

/** Null: as the document is. */
function negotiateDocument(accept: string | undefined, contentType: string): Format | null {
  if (contentType !== 'application/json') return null;
  const format = negotiate(accept);
  return format.media === 'application/json' ? null : format;
}

const versionRoute: RouteHandler = (info, request) => {
  if (info.path !== '/version' && info.path !== '/version/') return null;
  if (info.method !== 'GET' && info.method !== 'HEAD') throw methodNotAllowed();
  const format = negotiate(request.headers['accept'], { pretty: true, textual: true });
  if (format.media !== 'application/json') throw notAcceptable();
  return answerObject(versionInfo, format);
};

const metricsRoute =
  (metrics: RequestMetrics): RouteHandler =>
  (info) => {
    if (info.path !== '/metrics') return null;
    return metrics.text().then((text) => {
      const answer = answerText(text);
      answer.headers['content-type'] = 'text/plain; version=0.0.4; charset=utf-8';
      return answer;
    });
  };
