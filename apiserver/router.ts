import type { Kind } from '#api/kind.ts';
import { ALL_VERBS } from '#api/kind.ts';
import { failure, notFoundError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { RequestInfo, ServerRequest, ServerResponse } from '#apiserver/request.ts';
import { notFoundPage } from '#apiserver/resource/answer.ts';
import { decodeObject } from '#apiserver/resource/decode.ts';
import { presentObject } from '#apiserver/resource/present.ts';
import { readWriteOptions } from '#apiserver/resource/request-options.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import { nameOf } from '#apiserver/resource/server-context.ts';
import type { Call } from '#apiserver/resource/call.ts';
import { formatOf, methodNotAllowed } from '#apiserver/resource/call.ts';
import { handleVerb } from '#apiserver/resource/verbs.ts';
import { toBuffer } from '#apiserver/resource/views.ts';
import { encodeObject } from '#api/encode.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
  UpgradedConnection,
} from '#apiserver/subresources/handler.ts';
import { warningsOf } from '#apiserver/warnings.ts';
import type { UserInfo } from '#apiserver/user.ts';

/**
 * Answers a request that is none of the generic resources'. Asked in order before them; null =
 * not mine. Discovery, health and groups that another part serves (metrics.k8s.io) are such.
 */
export type RouteHandler = (
  info: RequestInfo,
  request: ServerRequest,
  user: UserInfo,
) => Promise<ServerResponse> | ServerResponse | null;

/** Several routes as one: the first that answers. */
export const anyRoute =
  (routes: readonly RouteHandler[]): RouteHandler =>
  (info, request, user) => {
    for (const route of routes) {
      const answer = route(info, request, user);
      if (answer) return answer;
    }
    return null;
  };

export type PassHandler = (
  info: RequestInfo,
  user: UserInfo,
  connection: UpgradedConnection,
) => Promise<void> | null;

export type Router = {
  route: (info: RequestInfo, request: ServerRequest, user: UserInfo) => Promise<ServerResponse>;
  /** Hands an upgraded connection to the handler of its path. Throws StatusError. */
  connect(
    info: RequestInfo,
    request: ServerRequest,
    user: UserInfo,
    connection: UpgradedConnection,
  ): Promise<void>;
};

export function createRouter(options: {
  server: ServerContext;
  context: HandlerContext;
  handlers: readonly SubresourceHandler[];
  routes: readonly RouteHandler[];
  /** Takes upgraded connections that are none of the resources'; null = not mine. */
  pass?: PassHandler;
}): Router {
  const { server, context, routes } = options;
  const handlers = new Map(
    options.handlers.map((h) => [`${h.group}/${h.resource}/${h.subresource}`, h]),
  );
  const handlerOf = (info: RequestInfo): SubresourceHandler | undefined =>
    handlers.get(`${info.group}/${info.resource}/${info.subresource}`);

  return {
    async route(info, request, user) {
      for (const route of routes) {
        const answer = route(info, request, user);
        if (answer) return answer;
      }
      if (!info.isResource) return notFoundPage();
      const kind = findKind(server, info);
      if (!kind) return unknownResource(server, info);
      if (kind.deprecated !== undefined) warningsOf(request).push(kind.deprecated);
      const call: Call = { server, kind, info, request, user };
      const handler = handlerOf(info);
      if (handler) {
        if (!mayBeAsked(kind, info)) throw methodNotAllowed();
        return handler.handle(context, handlerRequest(call));
      }
      if (info.rest !== '') throw nothingThere();
      if (info.subresource !== '') {
        const part = kind.subresources?.[info.subresource];
        if (!part && typeof kind.schema !== 'string') throw notFoundError(nameOf(kind), info.name);
        if (!part) throw nothingThere();
        if (part.type === 'handler' && !part.prepareForUpdate) throw methodNotAllowed();
      }
      return handleVerb(call);
    },
    async connect(info, request, user, connection) {
      const passing = options.pass?.(info, user, connection);
      if (passing) return passing;
      const kind = info.isResource ? findKind(server, info) : undefined;
      const handler = kind && handlerOf(info);
      if (!kind || !handler?.connect) throw nothingThere();
      const call: Call = { server, kind, info, request, user };
      await handler.connect(context, handlerRequest(call), connection);
    },
  };
}

/** OPTIONS has no verb, and is for the server behind a proxy to answer. */
const mayBeAsked = (kind: Kind, { subresource, verb, method }: RequestInfo): boolean =>
  verbsOf(kind, subresource).includes(verb) || (subresource === 'proxy' && method === 'OPTIONS');

/** What may be asked of a handler: the verbs of its subresource, or of its create-only kind. */
function verbsOf(kind: Kind, subresource: string): readonly string[] {
  const part = subresource === '' ? kind : kind.subresources?.[subresource];
  const verbs = part && 'verbs' in part ? part.verbs : undefined;
  return verbs ?? ALL_VERBS;
}

export const nothingThere = (): Error =>
  failure(404, 'NotFound', 'the server could not find the requested resource', {});

/** The kind of a resource's URL, unless the URL is of the wrong scope for it. */
function findKind({ scheme }: ServerContext, info: RequestInfo): Kind | undefined {
  const kind = scheme.byResource(info.group, info.version, info.resource);
  if (!kind) return undefined;
  if (info.name.includes('/')) return undefined;
  if (kind.scope === 'Cluster') {
    const itself = kind.group === '' && kind.plural === 'namespaces';
    return info.namespace === '' || itself ? kind : undefined;
  }
  if (info.namespace !== '') return kind;
  // All namespaces at once can be listed and watched; create-only kinds are read off their body.
  const everywhere = info.name === '' && ['list', 'watch'].includes(info.verb);
  return everywhere ? kind : undefined;
}

function unknownResource({ scheme }: ServerContext, info: RequestInfo): ServerResponse {
  // Groups of custom kinds alone know nothing of what is not there.
  const isBuiltin = ({ group, schema }: Kind): boolean =>
    group === info.group && typeof schema === 'string';
  if (scheme.kinds.some(isBuiltin)) throw nothingThere();
  return notFoundPage();
}

/** What a handler gets of a call. */
function handlerRequest(call: Call): HandlerRequest {
  const { server, kind, info, request, user } = call;
  const options = readWriteOptions(info, request, user, 'CreateOptions');
  const part = info.subresource === '' ? undefined : kind.subresources?.[info.subresource];
  const bodyType = part?.type === 'handler' ? part.body : undefined;
  return {
    info,
    user,
    kind,
    request,
    as: {
      user,
      get signal() {
        return request.signal;
      },
      dryRun: options.dryRun,
      fieldManager: options.fieldManager,
      warnings: options.warnings,
      annotate: options.annotate,
    },
    body: async <T extends KubeObject>() => {
      const bodyKind = bodyType ? bodyKindOf(server, bodyType) : kind;
      return decodeObject(server.scheme, bodyKind, request.body, {
        ...options,
        contentType: request.headers['content-type'],
      }) as T;
    },
    answer: async (object, status = 200) => {
      const shown = object as KubeObject;
      const wire = toBuffer(encodeObject(shown));
      return presentObject(server, kind, { wire, object: () => shown }, formatOf(call), info, {
        status,
        warnings: options.warnings,
      });
    },
  };
}

const bodyKinds = new Map<string, Kind>();

/** The kind of a subresource's body: one of the scheme's, or made from its published name. */
function bodyKindOf(
  { scheme }: ServerContext,
  { group, version, kind }: { group: string; version: string; kind: string },
): Kind {
  const known = scheme.byKind(group, version, kind);
  if (known) return known;
  const key = `${group}/${version}/${kind}`;
  let made = bodyKinds.get(key);
  if (!made) {
    const suffix = `.${version}.${kind}`;
    const names = [...scheme.definitions.keys()].filter((name) => name.endsWith(suffix));
    const short = group.split('.')[0] || 'core';
    const ref = names.find((name) => name.includes(`.${short}.`)) ?? names[0];
    made = {
      group,
      version,
      kind,
      plural: kind.toLowerCase(),
      singular: kind.toLowerCase(),
      scope: 'Namespaced',
      schema: ref ? { ref } : { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
    };
    bodyKinds.set(key, made);
  }
  return made;
}
