import { packageName } from '#api/extract-schema.ts';
import { ALL_VERBS, apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import type { Scheme } from '#api/scheme.ts';
import { subresourcesOf } from '#apiserver/discovery.ts';
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

/** Deleting these answers with the object instead of a Status. */
const ANSWERS_OBJECT = new Set(['/Pod', '/Service', '/ServiceAccount']);

/** Operations of one kind share most of their parts. */
type Maker = (
  part: Pick<Operation, 'path' | 'method' | 'id' | 'description' | 'action'> & Partial<Operation>,
) => Operation;

function kindOperations(scheme: Scheme, kind: Kind): Operation[] {
  const verbs = kind.verbs ?? ALL_VERBS;
  const prefix = `${groupTitle(kind.group)}${capital(kind.version)}`;
  const scoped = kind.scope === 'Namespaced' ? `Namespaced${kind.kind}` : kind.kind;
  const root = rootOf(kind.group, kind.version);
  const collection =
    kind.scope === 'Namespaced'
      ? `${root}/namespaces/{namespace}/${kind.plural}`
      : `${root}/${kind.plural}`;
  const item = `${collection}/{name}`;
  const object = scheme.definitionName(kind);
  const make: Maker = (part) => ({
    tag: groupTag(kind.group, kind.version),
    gvk: gvkOf(kind),
    query: [],
    bodyTypes: ['*/*'],
    isBodyRequired: true,
    responses: { 200: object },
    ...part,
  });
  const operations: Operation[] = [];
  const add = (verb: string, part: Parameters<Maker>[0]): void => {
    if ((verbs as readonly string[]).includes(verb)) operations.push(make(part));
  };
  const list = listName(scheme, kind);
  const text = `objects of kind ${kind.kind}`;
  const listing = { method: 'get', action: 'list', query: LIST, responses: { 200: list } } as const;
  if (kind.scope === 'Namespaced') {
    const path = `${root}/${kind.plural}`;
    const id = `list${prefix}${kind.kind}ForAllNamespaces`;
    add('list', { ...listing, path, id, description: `list or watch ${text}` });
  }
  add('list', {
    ...listing,
    path: collection,
    id: `list${prefix}${scoped}`,
    description: `list or watch ${text}`,
  });
  add('create', {
    path: collection,
    method: 'post',
    action: 'post',
    id: `create${prefix}${scoped}`,
    description: `create a ${kind.kind}`,
    query: WRITE,
    body: object,
    responses: { 200: object, 201: object, 202: object },
  });
  add('deletecollection', {
    path: collection,
    method: 'delete',
    action: 'deletecollection',
    id: `delete${prefix}Collection${scoped}`,
    description: `delete collection of ${kind.kind}`,
    query: [...SELECT, ...DELETE].sort(),
    body: `${META}.DeleteOptions`,
    isBodyRequired: false,
    responses: { 200: `${META}.Status` },
  });
  const gone = ANSWERS_OBJECT.has(`${kind.group}/${kind.kind}`) ? object : `${META}.Status`;
  operations.push(
    ...itemOperations({ verbs, path: item, id: `${prefix}${scoped}`, object, kind, make }),
  );
  add('delete', {
    path: item,
    method: 'delete',
    action: 'delete',
    id: `delete${prefix}${scoped}`,
    description: `delete a ${kind.kind}`,
    query: DELETE,
    body: `${META}.DeleteOptions`,
    isBodyRequired: false,
    responses: { 200: gone, 202: gone },
  });
  for (const subresource of subresourcesOf(kind)) {
    const { group, version, kind: name } = subresource.body;
    const body = group || version ? subresource.body : { ...kind, kind: name };
    const definition =
      body.kind === kind.kind && body.group === kind.group && body.version === kind.version
        ? object
        : `${packageName(body.group, body.version)}.${body.kind}`;
    const path = `${item}/${subresource.name}`;
    const id = `${prefix}${scoped}${capital(subresource.name)}`;
    if (name.endsWith('Options') || subresource.name === 'log') {
      operations.push(
        ...connectOperations(subresource.verbs, {
          path,
          prefix,
          scoped,
          name: subresource.name,
          gvk: gvkOf(body),
          make,
        }),
      );
      continue;
    }
    const makeFor: Maker = (part) => make({ ...part, gvk: gvkOf(body) });
    if (subresource.verbs.includes('create')) {
      operations.push(
        makeFor({
          path,
          method: 'post',
          action: 'post',
          id: `create${id}`,
          description: `create ${subresource.name} of a ${kind.kind}`,
          query: WRITE,
          body: definition,
          responses: { 200: definition, 201: definition, 202: definition },
        }),
      );
    }
    operations.push(
      ...itemOperations({
        verbs: subresource.verbs,
        path,
        id,
        object: definition,
        kind,
        make: makeFor,
        part: subresource.name,
      }),
    );
  }
  return operations;
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
    gvk,
    make,
  }: { path: string; prefix: string; scoped: string; name: string; gvk: object; make: Maker },
): Operation[] {
  return verbs.flatMap((verb) => {
    const method = METHODS[verb];
    if (!method) return [];
    const isLog = name === 'log';
    const query = isLog ? LOG : (CONNECT[name] ?? ['path']);
    return make({
      path,
      method,
      gvk,
      action: isLog ? 'get' : 'connect',
      id: isLog
        ? `read${prefix}${scoped}Log`
        : `connect${prefix}${capital(method)}${scoped}${capital(name)}`,
      description: isLog ? 'read log of the specified Pod' : `connect ${verb} requests to ${name}`,
      query,
      responses: { 200: '' },
    });
  });
}

/** `apps/v1` of a document's name. */
export const documentName = (group: string, version: string): string =>
  group === '' ? `api/${version}` : `apis/${apiVersionOf({ group, version })}`;
