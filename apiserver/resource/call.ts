import type { Kind } from '#api/kind.ts';
import { badRequestError, failure } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { forbiddenBy } from '#apiserver/authz/forbidden.ts';
import type { Format } from '#apiserver/negotiate.ts';
import { negotiate } from '#apiserver/negotiate.ts';
import { isTrue } from '#apiserver/request-info.ts';
import type { RequestInfo, ServerRequest } from '#apiserver/request.ts';
import { isTextual } from '#apiserver/resource/protobuf.ts';
import type { ServerContext } from '#apiserver/resource/server-context.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** What every verb asks of its request: where it points, what it may say, how to answer it. */

/** One authenticated, authorized request about a resource. */
export type Call = {
  server: ServerContext;
  kind: Kind;
  info: RequestInfo;
  request: ServerRequest;
  user: UserInfo;
};

export const methodNotAllowed = (): Error =>
  failure(
    405,
    'MethodNotAllowed',
    'the server does not allow this method on the requested resource',
    {},
  );

/** Where the request's object or collection is; a namespace itself is in no namespace. */
export const placeOf = ({ kind, info }: Call): { namespace: string; name: string } => ({
  namespace: kind.scope === 'Cluster' ? '' : info.namespace,
  name: info.name,
});

export function formatOf({ request, info, kind }: Call, streaming = false): Format {
  const accept = request.headers['accept'];
  return negotiate(accept, {
    pretty: isPretty(request, info),
    streaming,
    textual: isTextual(kind, accept),
    tableless: kind.verbs?.length === 1 && kind.verbs[0] === 'create',
  });
}

/** People with browsers and curl get indented JSON unless they say otherwise. */
function isPretty(request: ServerRequest, info: RequestInfo): boolean {
  const asked = info.query.get('pretty');
  if (asked !== null) return isTrue(asked);
  const agent = request.headers['user-agent'];
  return agent !== undefined && /^(curl|Wget|Mozilla\/5\.0)/.test(agent);
}

/** The URL says where an object is; the body may say the same or nothing. Mutates. */
export function placeObject(object: KubeObject, kind: Kind, namespace: string): void {
  const { metadata } = object;
  const home = kind.scope === 'Cluster' ? '' : namespace;
  // Without a namespace in the URL, that of the body counts for nothing.
  if (home !== '' && metadata.namespace && metadata.namespace !== home) {
    throw badRequestError(
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  }
  if (home === '') delete metadata.namespace;
  else metadata.namespace = home;
}

/** The same for the name of an update. Mutates. */
export function nameObject(object: KubeObject, name: string): void {
  const { metadata } = object;
  if (!metadata.name) {
    throw badRequestError(
      `the name of the object (${name} based on URL) was undeterminable: name must be provided`,
    );
  }
  if (metadata.name !== name) {
    throw badRequestError(
      `the name of the object (${metadata.name}) does not match the name on the URL (${name})`,
    );
  }
}

/** Whoever may change an object may not create it by that: it takes the right to create. */
export function requireCreate({ server, kind, info, user }: Call): void {
  const attributes = {
    user,
    verb: 'create',
    group: kind.group,
    version: kind.version,
    resource: kind.plural,
    subresource: '',
    namespace: info.namespace,
    name: info.name,
    isResource: true,
    path: info.path,
  };
  const decision = server.authorizer.authorize(attributes);
  if (decision.decision !== 'allow') throw forbiddenBy(attributes, decision);
}
