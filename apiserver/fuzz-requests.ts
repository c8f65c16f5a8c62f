import type { Random } from '#base/random.ts';
import { randomInt } from '#base/random.ts';
import { SAMPLES } from '#apiserver/fuzz-objects.ts';
import { encodeBody } from '#proto/kubernetes-encode.ts';

/** Right requests of many sorts, and ways to make them wrong, for the fuzzing test. */

/** A request to be. */
export type Draft = {
  method: string;
  path: string;
  query: [string, string][];
  headers: Record<string, string>;
  /** What is sent: text or bytes that a mutation made, or `object` in the type of the headers. */
  body: Uint8Array | string | null;
  object: unknown;
};

export const pick = <T>(random: Random, values: readonly T[]): T =>
  values[randomInt(random, values.length)] as T;

export const NAMESPACE = '/api/v1/namespaces/default';
const POD = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', labels: { app: 'a' }, annotations: { note: 'x' } },
  spec: {
    containers: [
      {
        name: 'c',
        image: 'i',
        ports: [{ containerPort: 80 }],
        env: [{ name: 'A', value: 'b' }],
        resources: { requests: { cpu: '100m' } },
        readinessProbe: { httpGet: { path: '/', port: 80 } },
      },
    ],
    volumes: [{ name: 'v', emptyDir: {} }],
  },
};
const LABELS = { app: 'a' };
const DEPLOYMENT = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'd' },
  spec: {
    replicas: 1,
    selector: { matchLabels: LABELS },
    template: { metadata: { labels: LABELS }, spec: POD.spec },
  },
};
const CONFIG_MAP = {
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'm' },
  data: { a: 'b' },
};
const SERVICE = {
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 's' },
  spec: { selector: LABELS, ports: [{ port: 80, targetPort: 'http' }] },
};
const POLICY = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'n' },
  spec: { podSelector: {}, ingress: [{ from: [{ ipBlock: { cidr: '10.0.0.0/8' } }] }] },
};
const ROLE = {
  apiVersion: 'rbac.authorization.k8s.io/v1',
  kind: 'Role',
  metadata: { name: 'r' },
  rules: [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }],
};
const DEFINITION = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'widgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: {
                type: 'object',
                properties: { size: { type: 'integer', minimum: 1, default: 2 } },
                'x-kubernetes-validations': [{ rule: 'self.size < 10' }],
              },
            },
          },
        },
        additionalPrinterColumns: [{ name: 'Size', type: 'integer', jsonPath: '.spec.size' }],
      },
    ],
  },
};
const REVIEW = {
  apiVersion: 'authorization.k8s.io/v1',
  kind: 'SelfSubjectAccessReview',
  spec: { resourceAttributes: { verb: 'get', resource: 'pods' } },
};
const OPERATIONS = [
  { op: 'replace', path: '/data/a', value: 'c' },
  { op: 'add', path: '/metadata/labels', value: { x: 'y' } },
  { op: 'move', from: '/data/a', path: '/data/b' },
];

/** What there is at the start. */
export const STORED: readonly { path: string; object: { metadata: { name: string } } }[] = [
  { path: `${NAMESPACE}/pods`, object: POD },
  { path: `${NAMESPACE}/configmaps`, object: CONFIG_MAP },
  { path: `${NAMESPACE}/services`, object: SERVICE },
  { path: '/apis/apps/v1/namespaces/default/deployments', object: DEPLOYMENT },
  { path: '/apis/networking.k8s.io/v1/namespaces/default/networkpolicies', object: POLICY },
  { path: '/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles', object: ROLE },
  { path: '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', object: DEFINITION },
  ...SAMPLES,
];
const DOCUMENTS = [
  '/version',
  '/api',
  '/apis',
  '/apis/apps/v1',
  '/openapi/v2',
  '/openapi/v3/api/v1',
  '/healthz',
  '/readyz?verbose',
  '/metrics',
  '/nothing/here',
];
const PATCHES: readonly [string, unknown][] = [
  ['application/json-patch+json', OPERATIONS],
  ['application/merge-patch+json', { data: { a: null, b: 'x' }, metadata: { labels: { k: 'v' } } }],
  ['application/strategic-merge-patch+json', { metadata: { $patch: 'merge', labels: { k: 'v' } } }],
  ['application/apply-patch+yaml', undefined],
];
const BODY_TYPES = [
  'application/json',
  'application/yaml',
  'application/vnd.kubernetes.protobuf',
] as const;

/** A request with nothing wrong in it. */
export function draft(random: Random): Draft {
  const { path, object } = pick(random, STORED);
  const one = `${path}/${object.metadata.name}`;
  const base: Draft = {
    method: 'GET',
    path: one,
    query: [],
    headers: {},
    body: null,
    object: null,
  };
  const type = pick(random, BODY_TYPES);
  const headers = { 'content-type': type, accept: pick(random, BODY_TYPES) };
  switch (randomInt(random, 9)) {
    case 0:
      return base;
    case 1:
      return { ...base, path, query: [['limit', '3']] };
    case 2:
      return { ...base, path, query: [['watch', '1']] };
    case 3:
      return { ...base, method: 'POST', path, headers, object };
    case 4:
      return { ...base, method: 'PUT', headers, object };
    case 5: {
      const [patch, body] = pick(random, PATCHES);
      const query: [string, string][] = body === undefined ? [['fieldManager', 'fuzz']] : [];
      return {
        ...base,
        method: 'PATCH',
        query,
        headers: { 'content-type': patch },
        object: body ?? object,
      };
    }
    case 6: {
      const options = { propagationPolicy: 'Background', gracePeriodSeconds: 0 };
      const method = 'DELETE';
      return { ...base, method, path: pick(random, [one, path]), object: options };
    }
    case 7:
      return {
        ...base,
        method: 'POST',
        path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
        headers,
        object: REVIEW,
      };
    default:
      return { ...base, path: pick(random, DOCUMENTS) };
  }
}

const DEEP = 20_000;
const STRANGE_VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  1.5,
  1e300,
  2 ** 53,
  2n ** 53n + 1n,
  -(2n ** 63n),
  '',
  '\u0000',
  'x'.repeat(70_000),
  '\ud800',
  '../../etc',
  '{{',
  [],
  [null],
  [[[]]],
  {},
  { a: { b: {} } },
  '9'.repeat(400),
  '1Ei',
  '-0',
  '0.1n',
  '(a+)+$',
  '10.0.0.0/33',
  '0001-01-01T00:00:00Z',
  '9999999-99-99T99:99:99Z',
];
const STRANGE_KEYS = [
  '__proto__',
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  '',
  '.',
  '$patch',
  '$retainKeys',
  '$setElementOrder/containers',
  'metadata',
  'kind',
  'status',
  'x'.repeat(5_000),
];
const BODIES: readonly (() => Uint8Array | string)[] = [
  () => '',
  () => '{',
  () => 'null',
  () => '[]',
  () => '"text"',
  () => '{"a":1}{"b":2}',
  () => '{"a":01}',
  () => '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}}}',
  () => '{"metadata":{"__proto__":{"polluted":1},"name":"m"},"data":{"__proto__":"x"}}',
  () => '['.repeat(DEEP),
  () => '['.repeat(DEEP) + ']'.repeat(DEEP),
  () => `${'{"a":'.repeat(DEEP)}1${'}'.repeat(DEEP)}`,
  () => Buffer.from([0xff, 0xfe, 0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]),
  () => Buffer.from('{"metadata":{"name":"\xff\xfe"}}', 'latin1'),
  () => 'a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c]',
  () => aliasBomb(),
  () => 'a: &a\n  b: *a\n',
  () => '<<: *nothing\n? [complex, key]\n: !!binary x\n',
  () => `${'- '.repeat(5_000)}x`,
  () => `${'  '.repeat(50)}a: b\n b: c\n\tc: d`,
  () => '!!js/function "function(){}"',
  () => `{"metadata":{"name":"big"},"data":{"a":"${'x'.repeat(3_000_000)}"}}`,
  () => Buffer.from('6b3873000a', 'hex'),
  () => Buffer.concat([Buffer.from('k8s\0'), Buffer.alloc(64, 0xff)]),
  () => deepProtobuf(),
];

function aliasBomb(): string {
  const lines = ['a0: &a0 [x,x,x,x,x,x,x,x,x]'];
  for (let i = 1; i < 12; i++) lines.push(`a${i}: &a${i} [${`*a${i - 1},`.repeat(9)}x]`);
  return lines.join('\n');
}

/** A definition with a schema in a schema in a schema. */
function deepProtobuf(): Uint8Array {
  let schema: object = { type: 'string' };
  for (let i = 0; i < 2_000; i++) schema = { not: schema };
  try {
    const kind = { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' };
    const versions = [{ name: 'v1', schema: { openAPIV3Schema: schema } }];
    return encodeBody({ ...kind, spec: { versions } }) ?? Buffer.alloc(0);
  } catch {
    return Buffer.alloc(0);
  }
}

const QUERIES: readonly [string, readonly string[]][] = [
  ['labelSelector', ['a in (', '!', 'a=b,,c', 'a in ()', `${'a=b,'.repeat(5_000)}c`, 'é=ü', '(((']],
  [
    'fieldSelector',
    ['spec.x=1', '=', 'metadata.name==', 'a!=b=c', '\\', 'metadata.name=p,'.repeat(9)],
  ],
  ['limit', ['-1', '1e9', 'x', '99999999999999999999', '0x10']],
  [
    'continue',
    ['x', 'e30', 'eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6LTEsInN0YXJ0IjoiLi4vLi4vIn0', '%%%'],
  ],
  ['resourceVersion', ['-1', 'x', '1.5', '9'.repeat(30), '0', '1']],
  ['resourceVersionMatch', ['Exact', 'NotOlderThan', 'x']],
  ['watch', ['1', 'maybe', '']],
  ['timeoutSeconds', ['-5', 'x', '0', '99999999999']],
  ['sendInitialEvents', ['true', 'x']],
  ['allowWatchBookmarks', ['1', 'x']],
  ['fieldValidation', ['Strict', 'Ignore', 'x', '']],
  ['fieldManager', ['', 'x'.repeat(300), '\u0001', 'ok']],
  ['dryRun', ['All', 'x', '']],
  ['force', ['true', 'x']],
  ['gracePeriodSeconds', ['-1', 'x', '9'.repeat(30)]],
  ['propagationPolicy', ['Orphan', 'x']],
  ['pretty', ['1', 'x']],
  ['includeObject', ['None', 'x']],
  ['__proto__', ['x']],
  ['hash', ['x']],
];
const HEADERS: readonly [string, readonly string[]][] = [
  ['content-type', [...BODY_TYPES, 'application/cbor', 'text/plain', ';;;', '', 'a'.repeat(9_000)]],
  ['content-type', PATCHES.map(([type]) => type)],
  [
    'accept',
    [
      ...BODY_TYPES,
      'application/json;as=Table;v=v1;g=meta.k8s.io',
      'application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io',
      ',,,',
      'a/b;q=x',
      'application/json;q=-1',
      'x'.repeat(9_000),
    ],
  ],
  [
    'authorization',
    ['Bearer x', 'Basic eA==', 'Bearer', 'Bearer a.b.c', `Bearer ${'x'.repeat(9e3)}`],
  ],
  ['impersonate-user', ['x', '', 'system:serviceaccount:a:b', 'system:serviceaccount:']],
  ['impersonate-extra-__proto__', ['x']],
  ['impersonate-group', ['system:masters', '']],
  ['accept-encoding', ['gzip', 'gzip;q=0', 'br', '*']],
  ['if-none-match', ['*', '"x"']],
  ['audit-id', ['x'.repeat(2_000)]],
  ['user-agent', ['curl/8', 'Mozilla/5.0', '', '/'.repeat(500)]],
  ['x-remote-user', ['admin']],
  ['content-encoding', ['gzip']],
];
const PATHS = [
  '//',
  '/%',
  '/%zz',
  '/%00',
  '/..',
  '/../../secrets',
  '/%2e%2e%2f',
  '/__proto__',
  '/constructor/prototype',
  '/status',
  '/scale',
  '/log',
  '/exec?command=x',
  '/proxy/x',
  '/binding',
  '/eviction',
  '/token',
  '/ephemeralcontainers',
  `/${'x'.repeat(20_000)}`,
  '/a/b/c/d/e/f/g',
  '?x=%E0%A4%A',
  '?',
  '#x',
  '/ünï',
];
const METHODS = [
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'CONNECT',
  'X',
];

/** Replaces, adds or removes something at a random depth of a copy. */
function bend(random: Random, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || random() < 0.15) {
    return pick(random, STRANGE_VALUES);
  }
  if (Array.isArray(value)) {
    if (value.length === 0 || random() < 0.2) return [...value, pick(random, STRANGE_VALUES)];
    if (random() < 0.2) return [...value, ...value];
    const at = randomInt(random, value.length);
    return value.with(at, bend(random, value[at]));
  }
  const entries = Object.entries(value);
  const choice = random();
  if (entries.length === 0 || choice < 0.25) {
    entries.push([pick(random, STRANGE_KEYS), pick(random, STRANGE_VALUES)]);
  } else {
    const at = randomInt(random, entries.length);
    const [key, inner] = entries[at] as [string, unknown];
    if (choice < 0.35) entries.splice(at, 1);
    else if (choice < 0.42) entries[at] = [pick(random, STRANGE_KEYS), inner];
    else entries[at] = [key, bend(random, inner)];
  }
  return Object.fromEntries(entries);
}

/** Each makes one thing wrong; mutates the draft. */
export const MUTATIONS: readonly ((random: Random, it: Draft) => void)[] = [
  (random, it) => {
    it.object = bend(random, it.object);
  },
  (random, it) => {
    it.object = bend(random, bend(random, it.object));
  },
  (random, it) => {
    it.body = pick(random, BODIES)();
  },
  (random, it) => {
    const bytes = Buffer.from(bytesOf(it) ?? []);
    for (let n = 1 + randomInt(random, 4); n > 0 && bytes.length > 0; n--) {
      bytes[randomInt(random, bytes.length)] = randomInt(random, 256);
    }
    it.body = bytes;
  },
  (random, it) => {
    const bytes = bytesOf(it) ?? Buffer.alloc(0);
    it.body = bytes.subarray(0, randomInt(random, bytes.length + 1));
  },
  (random, it) => {
    const [name, values] = pick(random, QUERIES);
    it.query.push([name, pick(random, values)]);
  },
  (random, it) => {
    const [name, values] = pick(random, HEADERS);
    it.headers[name] = pick(random, values);
  },
  (random, it) => {
    it.path += pick(random, PATHS);
  },
  (random, it) => {
    const parts = it.path.split('/');
    parts[randomInt(random, parts.length)] = pick(random, [
      '',
      '..',
      '*',
      '__proto__',
      'v2',
      'pods',
    ]);
    it.path = parts.join('/');
  },
  (random, it) => {
    it.method = pick(random, METHODS);
  },
];

/** What goes out as the body. */
export function bytesOf({ body, object, headers }: Draft): Buffer | null {
  if (body !== null) return Buffer.from(body as string);
  if (object === null || object === undefined) return null;
  if (headers['content-type'] === 'application/vnd.kubernetes.protobuf') {
    try {
      const bytes = encodeBody(object as Record<string, unknown>);
      if (bytes) return Buffer.from(bytes);
    } catch {
      // Bent too far for its message: as JSON it is wrong in yet another way.
    }
  }
  return Buffer.from(JSON.stringify(object) ?? '');
}

/** Path with query. */
export const urlOf = ({ path, query }: Draft): string => {
  if (query.length === 0) return path;
  const text = query.map(([name, value]) => `${name}=${encodeURIComponent(value.toWellFormed())}`);
  return `${path}${path.includes('?') ? '&' : '?'}${text.join('&')}`;
};
