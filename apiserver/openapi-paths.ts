import { packageName } from '#api/extract-schema.ts';
import { ALL_VERBS, apiVersionOf, gvkKey } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import { subresourcesOf } from '#apiserver/discovery.ts';
import type { SubresourceInfo } from '#apiserver/discovery.ts';
import { gvkOf, listName } from '#apiserver/openapi-schema.ts';

/** What can be asked of one group version, in a form from which both OpenAPI versions are written. */
export type Operation = {
  path: string;
  method: 'get' | 'put' | 'post' | 'delete' | 'patch';
  id: string;
  description: string;
  tag: string;
  action: string;
  gvk: object;
  /** Names of PARAMETERS. */
  query: readonly string[];
  /** Definition of the request's body. */
  body?: string | undefined;
  bodyTypes: readonly string[];
  isBodyRequired: boolean;
  /** Status code → definition; '' is text. */
  responses: Readonly<Record<string, string>>;
};

export type Parameter = { type: 'string' | 'boolean' | 'integer'; description: string };

export const PARAMETERS: Readonly<Record<string, Parameter>> = {
  allowWatchBookmarks: {
    type: 'boolean',
    description: 'Ask a watch for BOOKMARK events, which tell how far it has come.',
  },
  command: { type: 'string', description: 'The command to run, one word per parameter.' },
  container: { type: 'string', description: 'The container; needed where a pod has several.' },
  continue: { type: 'string', description: 'Where the next page begins, from the page before.' },
  dryRun: {
    type: 'string',
    description: '"All": everything is done except storing the result.',
  },
  fieldManager: {
    type: 'string',
    description: 'The name under which the fields written are owned.',
  },
  fieldSelector: { type: 'string', description: 'Only objects whose fields are like this.' },
  fieldValidation: {
    type: 'string',
    description: 'What to do with unknown and duplicate fields: Ignore, Warn (default) or Strict.',
  },
  follow: { type: 'boolean', description: 'Keep the log open and send what comes.' },
  force: { type: 'boolean', description: 'Take fields over that others own. Only for apply.' },
  gracePeriodSeconds: {
    type: 'integer',
    description: 'Seconds until the object is gone; 0: at once.',
  },
  ignoreStoreReadErrorWithClusterBreakingPotential: {
    type: 'boolean',
    description: 'Delete the object even if what is stored cannot be read.',
  },
  insecureSkipTLSVerifyBackend: {
    type: 'boolean',
    description: "Do not check the node's certificate.",
  },
  labelSelector: { type: 'string', description: 'Only objects whose labels are like this.' },
  limit: {
    type: 'integer',
    description: 'At most this many objects; the answer says how to go on.',
  },
  limitBytes: { type: 'integer', description: 'At most this many bytes of the log.' },
  orphanDependents: {
    type: 'boolean',
    description: 'Deprecated, see propagationPolicy: leave dependents behind.',
  },
  path: { type: 'string', description: 'The path to call.' },
  ports: { type: 'integer', description: 'The ports to forward.' },
  pretty: { type: 'string', description: '"true": indent the answer.' },
  previous: { type: 'boolean', description: 'The log of the container before its last restart.' },
  propagationPolicy: {
    type: 'string',
    description: 'What happens to dependents: Orphan, Background or Foreground.',
  },
  resourceVersion: { type: 'string', description: 'The version to read at or to watch from.' },
  resourceVersionMatch: { type: 'string', description: 'How resourceVersion is meant.' },
  sendInitialEvents: {
    type: 'boolean',
    description: 'Let a watch begin with the objects there are, ended by a bookmark.',
  },
  sinceSeconds: { type: 'integer', description: 'Only what was logged in the last seconds.' },
  stderr: { type: 'boolean', description: 'Connect standard error.' },
  stdin: { type: 'boolean', description: 'Connect standard input.' },
  stdout: { type: 'boolean', description: 'Connect standard output.' },
  stream: { type: 'string', description: 'Which output: All, Stdout or Stderr.' },
  tailLines: { type: 'integer', description: 'Only the last lines of the log.' },
  timeoutSeconds: { type: 'integer', description: 'How long a list or watch may take.' },
  timestamps: { type: 'boolean', description: 'Begin each line with its time.' },
  tty: { type: 'boolean', description: 'Give the command a terminal.' },
  watch: { type: 'boolean', description: 'Follow changes instead of answering once.' },
};

const WRITE = ['dryRun', 'fieldManager', 'fieldValidation'];
const DELETE = [
  'dryRun',
  'gracePeriodSeconds',
  'ignoreStoreReadErrorWithClusterBreakingPotential',
  'orphanDependents',
  'propagationPolicy',
];
const SELECT = [
  'continue',
  'fieldSelector',
  'labelSelector',
  'limit',
  'resourceVersion',
  'resourceVersionMatch',
  'sendInitialEvents',
  'timeoutSeconds',
];
const LIST = ['allowWatchBookmarks', ...SELECT, 'watch'];
const LOG = [
  'container',
  'follow',
  'insecureSkipTLSVerifyBackend',
  'limitBytes',
  'previous',
  'sinceSeconds',
  'stream',
  'tailLines',
  'timestamps',
];
const STREAMS = ['container', 'stderr', 'stdin', 'stdout', 'tty'];
const CONNECT: Readonly<Record<string, readonly string[]>> = {
  exec: ['command', ...STREAMS],
  attach: STREAMS,
  portforward: ['ports'],
};

const META = 'io.k8s.apimachinery.pkg.apis.meta.v1';
const PATCH_TYPES = [
  'application/apply-patch+yaml',
  'application/json-patch+json',
  'application/merge-patch+json',
];

/** `rbac.authorization.k8s.io` → `RbacAuthorization`, '' → `Core`. */
export function groupTitle(group: string): string {
  if (group === '') return 'Core';
  return group
    .replace(/\.k8s\.io$/, '')
    .split('.')
    .map(capital)
    .join('');
}

const capital = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

export function groupTag(group: string, version: string): string {
  const title = groupTitle(group);
  return `${title.charAt(0).toLowerCase()}${title.slice(1)}_${version}`;
}

export const rootOf = (group: string, version: string): string =>
  group === '' ? `/api/${version}` : `/apis/${group}/${version}`;

/** Every operation on the kinds of one group version, and its resource list. */
export function operationsOf(scheme: Scheme, group: string, version: string): Operation[] {
  const kinds = scheme.kinds
    .filter((kind) => kind.group === group && kind.version === version)
    .sort((a, b) => (a.plural < b.plural ? -1 : 1));
  return [
    {
      path: `${rootOf(group, version)}/`,
      method: 'get',
      id: `get${groupTitle(group)}${capital(version)}APIResources`,
      description: 'get available resources',
      tag: groupTag(group, version),
      action: '',
      gvk: {},
      query: [],
      bodyTypes: [],
      isBodyRequired: false,
      responses: { 200: `${META}.APIResourceList` },
    },
    ...kinds.flatMap((kind) => kindOperations(scheme, kind)),
  ];
}

/** Operations of one kind share most of their parts. */
type Maker = (
  part: Pick<Operation, 'path' | 'method' | 'id' | 'description' | 'action'> & Partial<Operation>,
) => Operation;

/** What the operations of one kind are named by. */
type Place = {
  scheme: Scheme;
  kind: Kind;
  verbs: readonly string[];
  /** `CoreV1` */
  prefix: string;
  /** `NamespacedPod`, `Node` */
  scoped: string;
  /** Path of the collection. */
  collection: string;
  /** Definition of the object. */
  object: string;
  make: Maker;
};

function kindOperations(scheme: Scheme, kind: Kind): Operation[] {
  const isNamespaced = kind.scope === 'Namespaced';
  const root = rootOf(kind.group, kind.version);
  const object = scheme.definitionName(kind);
  const place: Place = {
    scheme,
    kind,
    verbs: kind.verbs ?? ALL_VERBS,
    prefix: `${groupTitle(kind.group)}${capital(kind.version)}`,
    scoped: isNamespaced ? `Namespaced${kind.kind}` : kind.kind,
    collection: `${root}/${isNamespaced ? 'namespaces/{namespace}/' : ''}${kind.plural}`,
    object,
    make: (part) => ({
      tag: groupTag(kind.group, kind.version),
      gvk: gvkOf(kind),
      query: [],
      bodyTypes: ['*/*'],
      isBodyRequired: true,
      responses: { 200: object },
      ...part,
    }),
  };
  return [
    ...collectionOperations(place),
    ...itemOperations({
      verbs: place.verbs,
      path: `${place.collection}/{name}`,
      id: `${place.prefix}${place.scoped}`,
      object,
      kind,
      make: place.make,
    }),
    ...deleteOperations(place),
    ...subresourcesOf(kind).flatMap((subresource) => partOperations(place, subresource)),
  ];
}

function collectionOperations(place: Place): Operation[] {
  const { scheme, kind, verbs, prefix, scoped, collection, object, make } = place;
  const operations: Operation[] = [];
  const listing = {
    method: 'get',
    action: 'list',
    description: `list or watch objects of kind ${kind.kind}`,
    query: LIST,
    responses: { 200: listName(scheme, kind) },
  } as const;
  if (verbs.includes('list')) {
    if (kind.scope === 'Namespaced') {
      const path = `${rootOf(kind.group, kind.version)}/${kind.plural}`;
      const id = `list${prefix}${kind.kind}ForAllNamespaces`;
      operations.push(make({ ...listing, path, id }));
    }
    operations.push(make({ ...listing, path: collection, id: `list${prefix}${scoped}` }));
  }
  if (verbs.includes('create')) {
    operations.push(
      make({
        path: collection,
        method: 'post',
        action: 'post',
        id: `create${prefix}${scoped}`,
        description: `create a ${kind.kind}`,
        query: WRITE,
        body: object,
        responses: { 200: object, 201: object, 202: object },
      }),
    );
  }
  return operations;
}

function deleteOperations({ kind, verbs, prefix, scoped, collection, object, make }: Place) {
  const operations: Operation[] = [];
  const body = { body: `${META}.DeleteOptions`, isBodyRequired: false };
  const status = `${META}.Status`;
  const gone = kind.returnsDeleted ? object : status;
  if (verbs.includes('deletecollection')) {
    operations.push(
      make({
        ...body,
        path: collection,
        method: 'delete',
        action: 'deletecollection',
        id: `delete${prefix}Collection${scoped}`,
        description: `delete collection of ${kind.kind}`,
        query: [...SELECT, ...DELETE].sort(),
        responses: { 200: status },
      }),
    );
  }
  if (verbs.includes('delete')) {
    operations.push(
      make({
        ...body,
        path: `${collection}/{name}`,
        method: 'delete',
        action: 'delete',
        id: `delete${prefix}${scoped}`,
        description: `delete a ${kind.kind}`,
        query: DELETE,
        responses: { 200: gone, 202: gone },
      }),
    );
  }
  return operations;
}

/** Operations on one subresource. */
function partOperations(place: Place, { name, verbs, body }: SubresourceInfo): Operation[] {
  const { kind, prefix, scoped, collection, object } = place;
  const gvk = body.group || body.version ? body : { ...kind, kind: body.kind };
  const path = `${collection}/{name}/${name}`;
  const make: Maker = (part) => place.make({ ...part, gvk: gvkOf(gvk) });
  if (body.kind.endsWith('Options') || name === 'log') {
    return connectOperations(verbs, { path, prefix, scoped, name, make });
  }
  const isParents = gvkKey(gvk) === gvkKey(kind);
  const definition = isParents ? object : `${packageName(gvk.group, gvk.version)}.${gvk.kind}`;
  const id = `${prefix}${scoped}${capital(name)}`;
  const operations = itemOperations({
    verbs,
    path,
    id,
    object: definition,
    kind,
    make,
    part: name,
  });
  if (!verbs.includes('create')) return operations;
  const creation = make({
    path,
    method: 'post',
    action: 'post',
    id: `create${id}`,
    description: `create ${name} of a ${kind.kind}`,
    query: WRITE,
    body: definition,
    responses: { 200: definition, 201: definition, 202: definition },
  });
  return [creation, ...operations];
}

/** Read, replace and patch: the same for an object and for its subresources. */
function itemOperations({
  verbs,
  path,
  id,
  object,
  kind,
  make,
  part = '',
}: {
  verbs: readonly string[];
  path: string;
  id: string;
  object: string;
  kind: Kind;
  make: Maker;
  part?: string;
}): Operation[] {
  const what = part === '' ? `the specified ${kind.kind}` : `${part} of the specified ${kind.kind}`;
  const operations: Operation[] = [];
  if (verbs.includes('get')) {
    operations.push(
      make({
        path,
        method: 'get',
        action: 'get',
        id: `read${id}`,
        description: `read ${what}`,
        responses: { 200: object },
      }),
    );
  }
  if (verbs.includes('update')) {
    operations.push(
      make({
        path,
        method: 'put',
        action: 'put',
        id: `replace${id}`,
        description: `replace ${what}`,
        query: WRITE,
        body: object,
        responses: { 200: object, 201: object },
      }),
    );
  }
  if (verbs.includes('patch')) {
    const isCustom = typeof kind.schema !== 'string';
    operations.push(
      make({
        path,
        method: 'patch',
        action: 'patch',
        id: `patch${id}`,
        description: `partially update ${what}`,
        query: [...WRITE, 'force'],
        body: `${META}.Patch`,
        bodyTypes: isCustom
          ? PATCH_TYPES
          : [...PATCH_TYPES, 'application/strategic-merge-patch+json'],
        responses: { 200: object, 201: object },
      }),
    );
  }
  return operations;
}

const METHODS: Readonly<Record<string, Operation['method']>> = {
  get: 'get',
  create: 'post',
  update: 'put',
  patch: 'patch',
  delete: 'delete',
};

/** Streams and proxies have neither bodies nor answers that a schema could describe. */
function connectOperations(
  verbs: readonly string[],
  {
    path,
    prefix,
    scoped,
    name,
    make,
  }: { path: string; prefix: string; scoped: string; name: string; make: Maker },
): Operation[] {
  const isLog = name === 'log';
  const query = isLog ? LOG : (CONNECT[name] ?? ['path']);
  const one = (verb: string, method: Operation['method']): Operation =>
    make({
      path,
      method,
      action: isLog ? 'get' : 'connect',
      id: isLog
        ? `read${prefix}${scoped}Log`
        : `connect${prefix}${capital(method)}${scoped}${capital(name)}`,
      description: isLog ? 'read log of the specified Pod' : `connect ${verb} requests to ${name}`,
      query,
      responses: { 200: '' },
    });
  return verbs.flatMap((verb) => {
    const method = METHODS[verb];
    if (!method) return [];
    const operation = one(verb, method);
    if (name !== 'proxy') return [operation];
    const deeper = { path: `${path}/{path}`, id: `${operation.id}WithPath` };
    return [operation, { ...operation, ...deeper }];
  });
}

/** `apps/v1` of a document's name. */
export const documentName = (group: string, version: string): string =>
  group === '' ? `api/${version}` : `apis/${apiVersionOf({ group, version })}`;
