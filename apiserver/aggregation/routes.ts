import { createHash } from 'node:crypto';
import type { Catalog } from '#apiserver/aggregation/catalog.ts';
import {
  mergeAggregated,
  mergeGroups,
  type PlainGroup,
} from '#apiserver/aggregation/merge-discovery.ts';
import { type OpenApi2, mergeOpenApi2 } from '#apiserver/aggregation/merge-openapi.ts';
import type { RemoteProxy } from '#apiserver/aggregation/proxy.ts';
import { unavailable } from '#apiserver/aggregation/proxy.ts';
import type { RemoteService, RemoteServices } from '#apiserver/aggregation/remote-services.ts';
import type { AggregatedGroup } from '#apiserver/discovery.ts';
import { encodeOpenApi2 } from '#apiserver/openapi-protobuf.ts';
import { ANSWERED_PROTOBUF, ASKED_PROTOBUF } from '#apiserver/openapi.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import { answerObject } from '#apiserver/resource/answer.ts';
import type { RouteHandler } from '#apiserver/router.ts';

/** A request's group and version, and whether it is about OpenAPI. */
export function remotePath(
  path: string,
): { group: string; version: string; document: boolean } | null {
  const [, root, ...rest] = path.split('/');
  const document = root === 'openapi' && rest[0] === 'v3' && rest[1] === 'apis';
  const [group, version] = document ? rest.slice(2) : rest;
  if ((root !== 'apis' && !document) || !group || !version) return null;
  return { group, version, document };
}

/**
 * What other servers answer for goes to them; what this server says about its groups gets theirs.
 * Asked before the server's own documents and resources; silent while nothing is registered.
 */
export function aggregationRoutes(options: {
  remotes: RemoteServices;
  catalog: Catalog;
  proxy: RemoteProxy;
  /** The server's own documents. */
  own: RouteHandler;
}): RouteHandler {
  const { remotes, catalog, proxy, own } = options;
  const openApi2 = createOpenApi2Merge();
  return (info, request, user) => {
    const all = remotes.all();
    if (all.length === 0) return null;
    const place = remotePath(info.path);
    const remote = place && remotes.find(place.group, place.version);
    if (remote) return remote.available ? proxy.forward(remote, request, user) : unavailable();
    const path = info.path.replace(/\/$/, '');
    const group = /^\/apis\/([^/]+)$/.exec(path)?.[1];
    const concerns = OURS.includes(path) || group !== undefined;
    if (!concerns || (info.method !== 'GET' && info.method !== 'HEAD')) return null;
    if (group !== undefined && !all.some((one) => one.group === group)) return null;
    const isBinary = path === '/openapi/v2' && ASKED_PROTOBUF.test(request.headers['accept'] ?? '');
    const headers = withoutCondition(request.headers);
    const plain = isBinary ? { ...headers, accept: 'application/json' } : headers;
    const answer = own(info, { ...request, headers: plain }, user);
    return Promise.resolve(answer).then((response) => {
      const merged =
        path === '/openapi/v2'
          ? openApi2(response, { all, catalog, isBinary })
          : mergeAnswer(response, { path, group, all, catalog });
      return matchTag(merged, request.headers['if-none-match']);
    });
  };
}

/** Documents of this server that say something about all groups. */
const OURS: readonly string[] = ['/apis', '/openapi/v2', '/openapi/v3'];

/**
 * The document is megabytes large, so what came of one of ours and theirs is kept until either
 * changes: one in each form.
 */
function createOpenApi2Merge() {
  const kept = new Map<boolean, { key: string; response: ServerResponse }>();
  return (
    response: ServerResponse | null,
    how: { all: readonly RemoteService[]; catalog: Catalog; isBinary: boolean },
  ): ServerResponse => {
    const { all, catalog, isBinary } = how;
    const available = all.filter((one) => one.available);
    const names = available.map(({ name }) => name).join(' ');
    const key = `${response?.headers['etag']} ${catalog.generation()} ${names}`;
    const known = kept.get(isBinary);
    if (known?.key === key) return known.response;
    const document = (response ? readDocument(response) : {}) as OpenApi2;
    const others = available.flatMap((one) => catalog.openApi2(one) ?? []);
    mergeOpenApi2(document, others);
    const body = isBinary ? encodeOpenApi2(document) : Buffer.from(JSON.stringify(document));
    const type = isBinary ? { 'content-type': ANSWERED_PROTOBUF } : {};
    const headers = { ...response?.headers, ...type, etag: tagOf(body) };
    const merged = { status: 200, headers, body };
    kept.set(isBinary, { key, response: merged });
    return merged;
  };
}

const tagOf = (body: Uint8Array): string =>
  `"${createHash('sha512').update(body).digest('hex').toUpperCase()}"`;

/** The client's tag is that of the merged document, which the server's own never has. */
const withoutCondition = (headers: Readonly<Record<string, string | undefined>>) => ({
  ...headers,
  'if-none-match': undefined,
  'accept-encoding': undefined,
});

type Merge = {
  path: string;
  group: string | undefined;
  all: readonly RemoteService[];
  catalog: Catalog;
};

function mergeAnswer(
  response: ServerResponse | null,
  { path, group, all, catalog }: Merge,
): ServerResponse {
  const document = response?.status === 200 ? readDocument(response) : {};
  if (group !== undefined) {
    const own = response?.status === 200 ? [document as PlainGroup] : [];
    const [merged] = mergeGroups(
      own,
      all.filter((one) => one.group === group),
    );
    return answerObject(
      { kind: 'APIGroup', apiVersion: 'v1', ...merged },
      { media: 'application/json', pretty: false },
    );
  }
  if (path === '/openapi/v3') {
    const paths = { ...(document['paths'] as object | undefined) } as Record<string, object>;
    for (const remote of all.filter((one) => one.available && catalog.hasOpenApi(one))) {
      const name = `apis/${remote.group}/${remote.version}`;
      paths[name] = { serverRelativeURL: `/openapi/v3/${name}` };
    }
    document['paths'] = paths;
  } else if (Array.isArray(document['items'])) {
    document['items'] = mergeAggregated(document['items'] as AggregatedGroup[], all, catalog);
  } else document['groups'] = mergeGroups(document['groups'] as PlainGroup[], all);
  const body = Buffer.from(JSON.stringify(document));
  const headers = { ...response?.headers };
  if (headers['etag']) headers['etag'] = tagOf(body);
  return { status: 200, headers, body };
}

function readDocument({ body }: ServerResponse): Record<string, unknown> {
  const text = typeof body === 'string' ? body : Buffer.from(body as Uint8Array).toString('utf8');
  return JSON.parse(text) as Record<string, unknown>;
}

function matchTag(response: ServerResponse, known: string | undefined): ServerResponse {
  const { etag } = response.headers;
  const tags = known?.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  if (!etag || !tags?.includes(etag)) return response;
  return { status: 304, headers: response.headers, body: '' };
}
