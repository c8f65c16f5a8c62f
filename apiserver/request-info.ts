import { badRequestError } from '#api/status.ts';
import type { RequestInfo } from '#apiserver/request.ts';

/** Verb of a method on one named object. */
const OBJECT_VERBS: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** What may follow /namespaces/NAME without being a resource inside the namespace. */
const NAMESPACE_SUBRESOURCES = new Set(['status', 'finalize']);

const NO_QUERY = new URLSearchParams();

/**
 * Reads a request's verb and object off its method and URL. Source: Kubernetes API concepts,
 * "Resource URIs". Throws StatusError 400 for broken percent encoding.
 */
export function parseRequestInfo(method: string, url: string): RequestInfo {
  const mark = url.indexOf('?');
  const path = mark < 0 ? url : url.slice(0, mark);
  const query = mark < 0 ? NO_QUERY : new URLSearchParams(url.slice(mark + 1));
  const info: RequestInfo = {
    method,
    path,
    query,
    isResource: false,
    verb: method.toLowerCase(),
    group: '',
    version: '',
    resource: '',
    subresource: '',
    namespace: '',
    name: '',
    rest: '',
  };
  const parts = path.split('/');
  if (parts.length > 2 && parts.at(-1) === '') parts.pop();
  let next = 2;
  if (parts[1] === 'apis') {
    if (parts.length < 5) return info;
    info.group = decode(parts[2] ?? '');
    next = 3;
  } else if (parts[1] !== 'api' || parts.length < 4) return info;
  info.version = decode(parts[next++] ?? '');
  if (!parts[next]) return info;
  info.isResource = true;
  info.verb = OBJECT_VERBS[method] ?? '';
  return readResource(info, parts, next);
}

function readResource(info: RequestInfo, parts: string[], start: number): RequestInfo {
  let at = start;
  let legacyWatch = false;
  if (parts[at] === 'watch' && parts.length > at + 1) {
    legacyWatch = true;
    at++;
  }
  if (parts[at] === 'namespaces' && parts.length > at + 1 && parts[at + 1] !== '') {
    info.namespace = decode(parts[at + 1] ?? '');
    if (parts.length > at + 2 && !NAMESPACE_SUBRESOURCES.has(parts[at + 2] ?? '')) at += 2;
  }
  info.resource = decode(parts[at] ?? '');
  if (parts.length > at + 1) info.name = decode(parts[at + 1] ?? '');
  if (parts.length > at + 2) info.subresource = decode(parts[at + 2] ?? '');
  if (parts.length > at + 3) info.rest = `/${parts.slice(at + 3).join('/')}`;
  if (legacyWatch) info.verb = 'watch';
  else if (info.name === '') nameCollectionVerb(info);
  if (info.name === '' || legacyWatch) readNameFromSelector(info);
  return info;
}

function nameCollectionVerb(info: RequestInfo): void {
  if (info.verb === 'get') info.verb = isTrue(info.query.get('watch')) ? 'watch' : 'list';
  else if (info.verb === 'delete') info.verb = 'deletecollection';
}

/** `?fieldSelector=metadata.name=x` makes a collection request one about x, for authorization. */
function readNameFromSelector(info: RequestInfo): void {
  if (info.name !== '' || info.verb === 'create') return;
  const selector = info.query.get('fieldSelector');
  if (!selector) return;
  const match = /(?:^|,)metadata\.name==?([^,!=]+)/.exec(selector);
  if (match?.[1]) info.selectedName = match[1];
}

/** Query booleans: absent, '0' and 'false' (any case) are false, anything else is true. */
export function isTrue(value: string | null): boolean {
  if (value === null) return false;
  const text = value.toLowerCase();
  return text !== '0' && text !== 'false';
}

function decode(segment: string): string {
  if (!segment.includes('%')) return segment;
  try {
    return decodeURIComponent(segment);
  } catch {
    throw badRequestError(`invalid URL escape in path segment ${JSON.stringify(segment)}`);
  }
}
