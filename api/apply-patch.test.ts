import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import { applyPatch, ignoredPaths, trackManagedFields } from '#api/apply.ts';
import { readApplied } from '#api/apply-config.ts';
import { conform } from '#api/conform.ts';
import { builtinKinds } from '#api/kinds.ts';
import type { ManagedFieldsEntry } from '#api/managed-fields.ts';
import { mergePatch } from '#api/patch.ts';
import { buildScheme } from '#api/scheme.ts';
import type { KubeObject } from '#api/types.ts';

const scheme = buildScheme(builtinKinds);
const T1 = '2024-05-01T10:00:00Z';

function kindOf(object: { kind?: string }) {
  const kind = scheme.kinds.find((one) => one.kind === object.kind && one.version === 'v1');
  assert.ok(kind);
  return kind;
}

type Step = { live?: KubeObject; force?: boolean; subresource?: string; now?: string };

function apply(manager: string, config: object, step: Step = {}): KubeObject {
  const kind = kindOf(config);
  const schema = scheme.schemaOf(kind);
  const { live = null, force = false, subresource = '', now = T1 } = step;
  const frozen = JSON.stringify(live);
  const applied = applyPatch({
    live,
    applied: readApplied(Buffer.from(JSON.stringify(config)), kind),
    kind,
    schema,
    definitions: scheme.definitions,
    manager,
    subresource,
    now,
    force,
    ignored: ignoredPaths(subresource, kind.subresources?.['status'] !== undefined),
  });
  const result = structuredClone(applied.object);
  conform(result, schema, scheme.definitions);
  kind.defaults?.(result);
  applied.settle(result);
  assert.equal(JSON.stringify(live), frozen, 'the stored object stays as it was');
  return JSON.parse(JSON.stringify(result)) as KubeObject;
}

/** A merge patch by somebody who does not apply. */
function edit(manager: string, live: KubeObject, patch: object): KubeObject {
  const kind = kindOf(live);
  const object = mergePatch(live, patch) as KubeObject;
  const schema = scheme.schemaOf(kind);
  conform(object, schema, scheme.definitions);
  trackManagedFields({
    old: live,
    object,
    schema,
    definitions: scheme.definitions,
    apiVersion: String(live.apiVersion),
    manager,
    subresource: '',
    now: T1,
    ignored: ignoredPaths('', kind.subresources?.['status'] !== undefined),
  });
  return JSON.parse(JSON.stringify(object)) as KubeObject;
}

const owners = (object: KubeObject): ManagedFieldsEntry[] =>
  (object.metadata.managedFields ?? []) as ManagedFieldsEntry[];
const owned = (object: KubeObject): Record<string, unknown> =>
  Object.fromEntries(
    owners(object).map((entry) => [
      `${entry.manager}${entry.subresource ? `/${entry.subresource}` : ''}`,
      entry.fieldsV1,
    ]),
  );
const config = (data?: Record<string, string> | null, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'a', ...metadata },
  ...(data === undefined ? {} : { data }),
});
const deployment = (spec: object, rest: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'd' },
  spec,
  ...rest,
});
const withContainers = (...containers: object[]) =>
  deployment({
    selector: { matchLabels: { app: 'd' } },
    template: { metadata: { labels: { app: 'd' } }, spec: { containers } },
  });
type Container = Record<string, unknown> & { name: string };
const containersOf = (object: KubeObject): Container[] =>
  (object as unknown as { spec: { template: { spec: { containers: Container[] } } } }).spec.template
    .spec.containers;

test('creating by apply owns what was said and not what was defaulted', () => {
  const object = apply(
    'm1',
    withContainers({ name: 'c', image: 'x', ports: [{ containerPort: 80 }] }),
  );
  assert.deepEqual(owners(object), [
    {
      manager: 'm1',
      operation: 'Apply',
      apiVersion: 'apps/v1',
      time: T1,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:spec': {
          'f:selector': {},
          'f:template': {
            'f:metadata': { 'f:labels': { 'f:app': {} } },
            'f:spec': {
              'f:containers': {
                'k:{"name":"c"}': {
                  '.': {},
                  'f:image': {},
                  'f:name': {},
                  'f:ports': {
                    'k:{"containerPort":80,"protocol":"TCP"}': { '.': {}, 'f:containerPort': {} },
                  },
                },
              },
            },
          },
        },
      },
    },
  ]);
  assert.equal(containersOf(object)[0]?.['imagePullPolicy'], 'Always');
});

test('appliers that disagree conflict; those that agree own together', () => {
  const live = apply('m1', config({ k: 'v', own: '1' }));
  assert.throws(() => apply('m2', config({ k: 'w' }), { live }), {
    code: 409,
    reason: 'Conflict',
    message: 'Apply failed with 1 conflict: conflict with "m1": .data.k',
  });
  const both = apply('m2', config({ other: '2' }), { live });
  assert.deepEqual(both['data'], { k: 'v', own: '1', other: '2' });
  assert.throws(() => apply('m3', config({ k: 'x', other: '3' }), { live: both }), {
    message:
      'Apply failed with 2 conflicts: conflicts with "m1":\n- .data.k\nconflicts with "m2":\n- .data.other',
  });
  const forced = apply('m3', config({ k: 'x' }), { live: both, force: true });
  assert.deepEqual(owned(forced), {
    m1: { 'f:data': { 'f:own': {} } },
    m2: { 'f:data': { 'f:other': {} } },
    m3: { 'f:data': { 'f:k': {} } },
  });
  const shared = apply('m2', config({ k: 'v' }), { live });
  const left = apply('m1', config({}), { live: shared });
  assert.deepEqual(left['data'], { k: 'v' }, 'm2 still owns it');
  assert.deepEqual(owned(left), { m1: { 'f:data': {} }, m2: { 'f:data': { 'f:k': {} } } });
});

test('a field left out goes, unless somebody else owns it', () => {
  const live = apply('m1', config({ k: 'v', n: '1' }, { labels: { x: '1', y: '2' } }));
  const less = apply('m1', config({ k: 'v' }, { labels: { x: '1' } }), { live });
  assert.deepEqual(less['data'], { k: 'v' });
  assert.deepEqual(less.metadata.labels, { x: '1' });
  const none = apply('m1', config(), { live: less });
  assert.equal(none['data'], undefined);
  assert.equal(none.metadata.labels, undefined);
  assert.equal(none.metadata.name, 'a');
  assert.deepEqual(owners(none), []);
});

test('an update conflicts by manager and version; agreeing with it leaves no time', () => {
  const live = edit('editor', apply('m1', config({ a: '1' })), { data: { k: 'v' } });
  assert.throws(() => apply('m1', config({ a: '1', k: 'w' }), { live }), {
    message: 'Apply failed with 1 conflict: conflict with "editor" using v1: .data.k',
  });
  const agreed = apply('m2', config({ k: 'v' }), { live, now: '2024-05-02T10:00:00Z' });
  const entry = owners(agreed).find(({ manager }) => manager === 'm2');
  assert.equal(entry?.time, undefined);
  const edited = edit('editor', agreed, { data: { k: 'edited' } });
  assert.deepEqual(Object.keys(owned(edited)).sort(), ['editor', 'm1']);
});

test('lists merge by their keys; what others put beside an item stays', () => {
  const first = apply('m1', withContainers({ name: 'main', image: 'x:1' }));
  const template = { template: { spec: { containers: [{ name: 'side', image: 'y:1' }] } } };
  const both = apply('m2', deployment(template), { live: first });
  assert.deepEqual(
    containersOf(both).map(({ name }) => name),
    ['main', 'side'],
  );
  const gone = apply('m2', deployment({}), { live: both });
  assert.deepEqual(
    containersOf(gone).map(({ name }) => name),
    ['main'],
  );
  assert.deepEqual(owned(gone)['m2'], { 'f:spec': {} });
  const renamed = apply('m1', withContainers({ name: 'renamed', image: 'x:2' }), { live: gone });
  assert.deepEqual(
    containersOf(renamed).map(({ name }) => name),
    ['renamed'],
    'the item goes with its defaults',
  );
  assert.throws(
    () => apply('m2', withContainers({ name: 'main', image: 'z' }), { live: both }),
    /: \.spec\.template\.spec\.containers\[name="main"\]\.image$/,
  );
});

test('lists as sets and maps of values take part item by item', () => {
  const finalizers = (...names: string[]) => config(undefined, { finalizers: names });
  const first = apply('m1', finalizers('e.com/a', 'e.com/b'));
  const second = apply('m2', finalizers('e.com/c', 'e.com/b'), { live: first });
  assert.deepEqual(second.metadata.finalizers, ['e.com/a', 'e.com/c', 'e.com/b']);
  const third = apply('m1', finalizers('e.com/a'), { live: second });
  assert.deepEqual(third.metadata.finalizers, ['e.com/a', 'e.com/c', 'e.com/b']);
  const fourth = apply('m2', config(), { live: third });
  assert.deepEqual(fourth.metadata.finalizers, ['e.com/a']);
});

test('status is applied apart from the rest', () => {
  const live = apply('m1', withContainers({ name: 'c', image: 'x' }));
  const status = { replicas: 2, readyReplicas: 1 };
  const written = apply('m1', deployment({ replicas: 9 }, { status }), {
    live,
    subresource: 'status',
  });
  assert.deepEqual(owned(written)['m1/status'], {
    'f:status': { 'f:readyReplicas': {}, 'f:replicas': {} },
  });
  const again = apply(
    'm1',
    { ...withContainers({ name: 'c', image: 'x' }), status: { replicas: 7 } },
    { live: written },
  );
  assert.deepEqual(owned(again)['m1/status'], owned(written)['m1/status']);
});

test('objects that nobody was tracked for get a first owner', () => {
  const untracked = { ...config({ k: 'v' }), metadata: { name: 'a', uid: 'u' } } as KubeObject;
  const object = apply('m1', config({ k: 'v' }), { live: untracked });
  assert.deepEqual(
    owners(object).map(({ manager, operation, fieldsV1 }) => ({ manager, operation, fieldsV1 })),
    [
      { manager: 'm1', operation: 'Apply', fieldsV1: { 'f:data': { 'f:k': {} } } },
      {
        manager: 'before-first-apply',
        operation: 'Update',
        fieldsV1: { 'f:data': { '.': {}, 'f:k': {} } },
      },
    ],
  );
});

test('kubectl may take over what its client-side self applied, and keeps the annotation fresh', () => {
  const name = 'kubectl.kubernetes.io/last-applied-configuration';
  const last = JSON.stringify(config({ k: 'v' }));
  const first = edit('someone', apply('x', config()), { data: { n: '1' } });
  const client = edit('kubectl-client-side-apply', first, {
    metadata: { annotations: { [name]: last } },
    data: { k: 'v' },
  });
  const object = apply('kubectl', config({ k: 'w' }), { live: client });
  assert.deepEqual(object['data'], { k: 'w', n: '1' });
  assert.equal(
    object.metadata.annotations?.[name],
    '{"apiVersion":"v1","data":{"k":"w"},"kind":"ConfigMap","metadata":{"name":"a"}}\n',
  );
  assert.throws(() => apply('kubectl', config({ n: '2' }), { live: client }), { code: 409 });
});

test('values that do not fit are refused in upstream words', () => {
  const prefix = 'failed to create typed patch object (/a; /v1, Kind=ConfigMap): ';
  const table: [object, string][] = [
    [{ ...config(), dta: {} }, `${prefix}.dta: field not declared in schema`],
    [
      { ...config(), data: { k: 1 } },
      `${prefix}.data.k: expected string, got &value.valueUnstructured{Value:1}`,
    ],
    [{ ...config(), data: ['k'] }, `${prefix}.data: expected map, got &{[k]}`],
    [config(null, { lables: {} }), `${prefix}.metadata.lables: field not declared in schema`],
  ];
  for (const [object, message] of table) {
    assert.throws(() => apply('m1', object), { code: 500, message });
  }
  const two = withContainers({ name: 'c', image: 'x' }, { name: 'c', image: 'y' });
  assert.throws(
    () => apply('m1', two),
    /Kind=Deployment\): \.spec\.template\.spec\.containers: duplicate entries for key \[name="c"\]$/,
  );
  assert.throws(
    () => apply('m1', deployment({ replicas: 'three' })),
    /\.spec\.replicas: expected numeric \(int or float\), got string$/,
  );
  assert.throws(
    () => apply('m1', withContainers({ name: 'c', imagePulPolicy: 'Always' })),
    /containers\[name="c"\]\.imagePulPolicy: field not declared in schema$/,
  );
});

test('bodies have to be one object of the kind', () => {
  const kind = { group: '', version: 'v1', kind: 'ConfigMap' };
  const read = (text: string, options = {}) => readApplied(Buffer.from(text), kind, options);
  const table: Record<string, string> = {
    '': 'invalid object type: /, Kind=',
    '{"apiVersion":"v1","metadata":{}}': 'invalid object type: /v1, Kind=',
    '{"apiVersion":"apps/v1","kind":"ConfigMap"}': 'invalid object type: apps/v1, Kind=ConfigMap',
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"managedFields":[{"manager":"x"}]}}':
      'metadata.managedFields must be nil',
  };
  for (const [text, message] of Object.entries(table)) {
    assert.throws(() => read(text), { code: 400, message });
  }
  assert.throws(() => read('[]'), { code: 400 });
  assert.throws(() => read('kind: ['), { code: 400, message: /^error decoding YAML: / });
  const twice = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: a\n  k: b\n';
  assert.deepEqual((read(twice) as { data?: unknown })['data'], { k: 'b' });
  assert.throws(() => read(twice, { strict: true }), {
    message:
      'error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key "k" already set in map',
  });
});

test('applying is idempotent, owns only what is there, and gives back what it took', () => {
  const random = seededRandom(3);
  const pick = (names: string): string[] => names.split('').filter(() => random() < 0.5);
  const randomConfig = () => {
    const containers = pick('abc').map((name) => ({
      name,
      image: `x:${Math.floor(random() * 2)}`,
      env: pick('xyz').map((key) => ({ name: key, value: String(Math.floor(random() * 2)) })),
    }));
    return withContainers({ name: 'main', image: 'm' }, ...containers);
  };
  for (let round = 0; round < 60; round++) {
    let live = apply('base', withContainers({ name: 'main', image: 'm' }));
    const start = JSON.stringify(containersOf(live));
    for (const manager of ['m1', 'm2', 'm1', 'm3', 'm2']) {
      const wanted = randomConfig();
      live = apply(manager, wanted, { live, force: true });
      assert.deepEqual(apply(manager, wanted, { live }), live, 'the same again changes nothing');
      const byName = new Map(containersOf(live).map((container) => [container.name, container]));
      assert.equal(byName.size, containersOf(live).length, 'no item twice');
      for (const container of containersOf(wanted as unknown as KubeObject)) {
        assert.equal(byName.get(container.name)?.['image'], container['image']);
      }
    }
    for (const manager of ['m1', 'm2', 'm3']) live = apply(manager, deployment({}), { live });
    assert.equal(JSON.stringify(containersOf(live)), start, 'what nobody wants any more is gone');
  }
});
