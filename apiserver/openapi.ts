import { createHash } from 'node:crypto';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import type { Document } from '#apiserver/discovery.ts';
import { subresourcesOf } from '#apiserver/discovery.ts';
import {
  PARAMETERS,
  documentName,
  groupTag,
  groupTitle,
  operationsOf,
  rootOf,
} from '#apiserver/openapi-paths.ts';
import type { Operation } from '#apiserver/openapi-paths.ts';
import { encodeOpenApi2 } from '#apiserver/openapi-protobuf.ts';
import { definitionsOf, refTo } from '#apiserver/openapi-schema.ts';
import type { Json, OpenApiVersion } from '#apiserver/openapi-schema.ts';

/**
 * OpenAPI of one scheme: `/openapi/v2`, `/openapi/v3` and a document per group version. They are
 * built when first asked for and kept as bytes. Source: Kubernetes "API concepts, OpenAPI".
 */
export type OpenApi = {
  /**
   * `hash` is the query parameter; with a wrong one the answer is a redirect to the right one.
   * undefined where there is no such document.
   */
  document(path: string, options?: { accept?: string; hash?: string }): OpenApiAnswer | undefined;
};

export type OpenApiAnswer = Document | { redirect: string };

export type OpenApiOptions = {
  /** `1.36` */
  version: string;
};

/** Asked for with an at sign, which is no legal media type, and answered with a dot. */
export const ASKED_PROTOBUF =
  /application\/com\.github\.proto-openapi\.spec\.v2[.@]v1\.0\+protobuf/;
export const ANSWERED_PROTOBUF = 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf';
const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const MEDIA_TYPES = ['application/json', 'application/yaml'];

export function createOpenApi(scheme: Scheme, options: OpenApiOptions): OpenApi {
  const bodies = new Map<string, Document>();
  const hashes = new Map<string, string>();
  const names = documentNames(scheme);
  const hashOf = (name: string): string => {
    const known = hashes.get(name) ?? fingerprint(scheme, name, options);
    hashes.set(name, known);
    return known;
  };
  const once = (key: string, build: () => Document): Document => {
    const document = bodies.get(key) ?? build();
    bodies.set(key, document);
    return document;
  };
  return {
    document: (path, { accept = '', hash } = {}) => {
      if (path === '/openapi/v2') {
        const isBinary = ASKED_PROTOBUF.test(accept);
        return once(isBinary ? 'v2 protobuf' : 'v2', () => version2(scheme, options, isBinary));
      }
      if (path === '/openapi/v3' || path === '/openapi/v3/') {
        return once('v3', () => withTag(JSON.stringify(root(names, hashOf)), 'application/json'));
      }
      const name = path.startsWith('/openapi/v3/') ? path.slice('/openapi/v3/'.length) : '';
      if (!names.includes(name)) return undefined;
      if (hash !== undefined && hash !== hashOf(name)) {
        return { redirect: `/openapi/v3/${name}?hash=${hashOf(name)}` };
      }
      return once(name, () => ({
        body: Buffer.from(JSON.stringify(version3(scheme, name, options))),
        contentType: 'application/json',
        etag: `"${hashOf(name)}"`,
      }));
    },
  };
}

const digest = (data: string | Uint8Array): string =>
  createHash('sha512').update(data).digest('hex').toUpperCase();

function withTag(body: string | Uint8Array, contentType: string): Document {
  const bytes = typeof body === 'string' ? Buffer.from(body) : body;
  return { body: bytes, contentType, etag: `"${digest(bytes)}"` };
}

function documentNames(scheme: Scheme): string[] {
  const groups = scheme.groups();
  return [
    'api',
    'apis',
    'version',
    ...groups.flatMap(({ group, versions }) => [
      ...(group === '' ? [] : [`apis/${group}`]),
      ...versions.map((version) => documentName(group, version)),
    ]),
  ].sort();
}

const root = (names: readonly string[], hashOf: (name: string) => string): Json => ({
  paths: Object.fromEntries(
    names.map((name) => [name, { serverRelativeURL: `/openapi/v3/${name}?hash=${hashOf(name)}` }]),
  ),
});

/** Changes whenever the document would; made from its inputs, so that it need not be built. */
function fingerprint(scheme: Scheme, name: string, { version }: OpenApiOptions): string {
  const kinds = scheme.kinds
    .filter((kind) => documentName(kind.group, kind.version) === name)
    .map((kind) => [gvkText(kind), kind.verbs, subresourcesOf(kind), kind.schema]);
  return digest(JSON.stringify([version, name, documentNames(scheme), kinds]));
}

const gvkText = ({ group, version, kind, plural, scope }: Kind): string =>
  [group, version, kind, plural, scope].join('/');

const info = ({ version }: OpenApiOptions): Json => ({ title: 'Kubernetes', version });

function version3(scheme: Scheme, name: string, options: OpenApiOptions): Json {
  const operations = documentOperations(scheme, name);
  return {
    openapi: '3.0.0',
    info: info(options),
    paths: pathsOf(operations, 3),
    components: {
      schemas: definitionsOf(scheme, definitionsUsed(operations), 3),
      securitySchemes: { BearerToken: { type: 'apiKey', in: 'header', name: 'authorization' } },
    },
  };
}

function version2(scheme: Scheme, options: OpenApiOptions, isBinary: boolean): Document {
  const operations = documentNames(scheme).flatMap((name) => documentOperations(scheme, name));
  const document: Json = {
    swagger: '2.0',
    info: info(options),
    paths: pathsOf(operations, 2),
    definitions: definitionsOf(scheme, definitionsUsed(operations), 2),
    securityDefinitions: {
      BearerToken: { type: 'apiKey', in: 'header', name: 'authorization' },
    },
    security: [{ BearerToken: [] }],
  };
  if (isBinary) return withTag(encodeOpenApi2(document), ANSWERED_PROTOBUF);
  return withTag(JSON.stringify(document), 'application/json');
}

function documentOperations(scheme: Scheme, name: string): Operation[] {
  for (const { group, versions } of scheme.groups()) {
    for (const version of versions) {
      if (documentName(group, version) === name) return operationsOf(scheme, group, version);
    }
    if (name === `apis/${group}`) {
      return [
        lone(
          `${rootOf(group, '')}`,
          `get${groupTitle(group)}APIGroup`,
          'APIGroup',
          groupTag(group, ''),
        ),
      ];
    }
  }
  if (name === 'api') return [lone('/api/', 'getCoreAPIVersions', 'APIVersions', 'core')];
  if (name === 'apis') return [lone('/apis/', 'getAPIVersions', 'APIGroupList', 'apis')];
  const about = lone('/version/', 'getCodeVersion', 'APIGroup', 'version');
  return [{ ...about, responses: { 200: 'io.k8s.apimachinery.pkg.version.Info' } }];
}

const lone = (path: string, id: string, kind: string, tag: string): Operation => ({
  path,
  method: 'get',
  id,
  description: `get ${kind}`,
  tag: tag.replace(/_$/, ''),
  action: '',
  gvk: {},
  query: [],
  bodyTypes: [],
  isBodyRequired: false,
  responses: { 200: `${META}.${kind}` },
});

function definitionsUsed(operations: readonly Operation[]): Set<string> {
  const used = new Set<string>();
  for (const { body, responses } of operations) {
    if (body) used.add(body);
    for (const name of Object.values(responses)) if (name) used.add(name);
  }
  return used;
}

function pathsOf(operations: readonly Operation[], version: OpenApiVersion): Json {
  const paths: Record<string, Json> = {};
  for (const operation of operations) {
    const path = (paths[operation.path] ??= {});
    path[operation.method] = operationOf(operation, version);
    const names = [...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '');
    const shared = names.map((name) => parameter(name, 'path', version));
    if (operation.action !== '' && operation.action !== 'connect')
      shared.push(parameter('pretty', 'query', version));
    if (shared.length > 0) path['parameters'] = shared;
  }
  return Object.fromEntries(Object.entries(paths).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function parameter(name: string, place: 'path' | 'query', version: OpenApiVersion): Json {
  const known = PARAMETERS[name];
  const type = place === 'path' ? 'string' : (known?.type ?? 'string');
  const text = place === 'path' ? pathText(name) : (known?.description ?? '');
  return {
    name,
    in: place,
    description: text,
    ...(place === 'path' ? { required: true } : {}),
    ...(version === 3 ? { schema: { type, uniqueItems: true } } : { type, uniqueItems: true }),
  };
}

const pathText = (name: string): string =>
  name === 'namespace' ? 'The namespace of the object.' : 'The name of the object.';

function operationOf(operation: Operation, version: OpenApiVersion): Json {
  const { body, bodyTypes, isBodyRequired, action, gvk, responses } = operation;
  const parameters = operation.query.map((name) => parameter(name, 'query', version));
  const result: Json = {
    description: operation.description,
    operationId: operation.id,
    tags: [operation.tag],
  };
  if (version === 2) {
    result['produces'] = MEDIA_TYPES;
    result['consumes'] = bodyTypes.length > 0 ? bodyTypes : ['*/*'];
    if (body) {
      const required = isBodyRequired ? { required: true } : {};
      parameters.push({ name: 'body', in: 'body', ...required, schema: refTo(2, body) });
    }
  } else if (body) {
    const schema = refTo(3, body);
    result['requestBody'] = {
      content: Object.fromEntries(bodyTypes.map((type) => [type, { schema }])),
      ...(isBodyRequired ? { required: true } : {}),
    };
  }
  if (parameters.length > 0) result['parameters'] = parameters;
  result['responses'] = {
    ...Object.fromEntries(
      Object.entries(responses).map(([code, name]) => [
        code,
        response(code, name, version, action),
      ]),
    ),
    401: { description: 'Unauthorized' },
  };
  if (action !== '') {
    result['x-kubernetes-action'] = action;
    result['x-kubernetes-group-version-kind'] = gvk;
  }
  return result;
}

const CODES: Readonly<Record<string, string>> = { 200: 'OK', 201: 'Created', 202: 'Accepted' };

function response(code: string, name: string, version: OpenApiVersion, action: string): Json {
  const description = CODES[code] ?? '';
  if (version === 2) {
    return { description, schema: name === '' ? { type: 'string' } : refTo(2, name) };
  }
  const types =
    action === 'connect'
      ? ['*/*']
      : action === 'list'
        ? [...MEDIA_TYPES, 'application/json;stream=watch']
        : name === ''
          ? [...MEDIA_TYPES, 'text/plain']
          : MEDIA_TYPES;
  const schema = name === '' ? { type: 'string' } : refTo(3, name);
  return { description, content: Object.fromEntries(types.map((type) => [type, { schema }])) };
}
