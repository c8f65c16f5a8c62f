import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ignoredPaths, managerOf, trackManagedFields } from '#api/apply.ts';
import { conform } from '#api/conform.ts';
import { builtinKinds } from '#api/kinds.ts';
import type { ManagedFieldsEntry } from '#api/managed-fields.ts';
import { buildScheme } from '#api/scheme.ts';
import type { KubeObject } from '#api/types.ts';

const scheme = buildScheme(builtinKinds);
const T1 = '2024-05-01T10:00:00Z';
const T2 = '2024-05-01T11:00:00Z';

function kindOf(group: string, name: string) {
  const kind = scheme.byKind(group, 'v1', name);
  assert.ok(kind);
  return kind;
}

type Step = { old?: KubeObject; manager?: string; subresource?: string; now?: string };

/** What the write path does: fits the object to its schema, then settles who owns what. */
function write(group: string, name: string, object: object, step: Step = {}): KubeObject {
  const kind = kindOf(group, name);
  const written = structuredClone(object) as KubeObject;
  const schema = scheme.schemaOf(kind);
  conform(written, schema, scheme.definitions);
  const { old = null, manager = 'm', subresource = '', now = T1 } = step;
  trackManagedFields({
    old,
    object: written,
    schema,
    definitions: scheme.definitions,
    apiVersion: group ? `${group}/v1` : 'v1',
    manager,
    subresource,
    now,
    ignored: ignoredPaths(subresource, kind.subresources?.['status'] !== undefined),
  });
  return written;
}
const owners = (object: KubeObject): ManagedFieldsEntry[] =>
  JSON.parse(JSON.stringify(object.metadata.managedFields ?? [])) as ManagedFieldsEntry[];
const owned = (object: KubeObject): Record<string, unknown> =>
  Object.fromEntries(owners(object).map((entry) => [entry.manager, entry.fieldsV1]));

const config = (data: Record<string, string>) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'a', namespace: 'n' },
  data,
});

test('a creation owns what was written, not names', () => {
  const object = write('', 'ConfigMap', {
    ...config({ k: 'v' }),
    metadata: { name: 'a', labels: { x: '1' } },
  });
  assert.deepEqual(owners(object), [
    {
      manager: 'm',
      operation: 'Update',
      apiVersion: 'v1',
      time: T1,
      fieldsType: 'FieldsV1',
      fieldsV1: {
        'f:data': { '.': {}, 'f:k': {} },
        'f:metadata': { 'f:labels': { '.': {}, 'f:x': {} } },
      },
    },
  ]);
});

test('fields are written in one order, whatever order the object has', () => {
  const text = (data: Record<string, string>): string =>
    JSON.stringify(owners(write('', 'ConfigMap', config(data)))[0]?.fieldsV1);
  assert.equal(text({ b: '1', a: '2' }), '{"f:data":{".":{},"f:a":{},"f:b":{}}}');
  assert.equal(text({ b: '1', a: '2' }), text({ a: '2', b: '1' }));
});

test('list items are named by their keys, atomic places are one, status is not the writer’s', () => {
  const object = write('apps', 'Deployment', {
    metadata: { name: 'd' },
    spec: {
      selector: { matchLabels: { app: 'd' } },
      template: {
        metadata: { labels: { app: 'd' } },
        spec: { containers: [{ name: 'c', image: 'x', ports: [{ containerPort: 80 }] }] },
      },
    },
    status: { replicas: 3 },
  });
  assert.deepEqual(owned(object)['m'], {
    'f:spec': {
      'f:selector': {},
      'f:template': {
        'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } },
        'f:spec': {
          'f:containers': {
            'k:{"name":"c"}': {
              '.': {},
              'f:image': {},
              'f:name': {},
              'f:ports': {
                '.': {},
                'k:{"containerPort":80,"protocol":"TCP"}': {
                  '.': {},
                  'f:containerPort': {},
                  'f:protocol': {},
                },
              },
              'f:resources': {},
            },
          },
        },
      },
    },
  });
});

test('an update takes what it changes, and leaves the rest and its time', () => {
  const first = write('', 'ConfigMap', config({ a: '1', b: '1', c: '1' }));
  const second = write('', 'ConfigMap', config({ a: '2', b: '1', d: '1' }), {
    old: first,
    manager: 'other',
    now: T2,
  });
  assert.deepEqual(owned(second), {
    m: { 'f:data': { '.': {}, 'f:b': {} } },
    other: { 'f:data': { 'f:a': {}, 'f:d': {} } },
  });
  assert.deepEqual(
    owners(second).map((entry) => entry.time),
    [T1, T2],
  );
  const same = write('', 'ConfigMap', config({ d: '1', b: '1', a: '2' }), {
    old: second,
    manager: 'third',
    now: '2024-05-01T12:00:00Z',
  });
  assert.deepEqual(owners(same), owners(second), 'nothing changed, so nobody took anything');
  const none = write('', 'ConfigMap', config({}), { old: second, manager: 'third' });
  assert.deepEqual(owners(none), [], 'owners of nothing go');
});

test('a write to status owns status, under its own entry', () => {
  const spec = { containers: [{ name: 'c', image: 'x' }] };
  const first = write('', 'Pod', { metadata: { name: 'p' }, spec });
  const second = write(
    '',
    'Pod',
    { metadata: { name: 'p' }, spec, status: { phase: 'Running' } },
    { old: first, manager: 'm', subresource: 'status', now: T2 },
  );
  const [main, status] = owners(second);
  assert.equal(main?.subresource, undefined);
  assert.deepEqual(
    { subresource: status?.subresource, fields: status?.fieldsV1 },
    { subresource: 'status', fields: { 'f:status': { 'f:phase': {} } } },
  );
});

test('clients may rewrite or reset the list; what cannot be read is ignored', () => {
  const first = write('', 'ConfigMap', config({ k: 'v' }));
  const sent = (managedFields: unknown) => ({
    ...config({ k: 'v' }),
    metadata: { name: 'a', managedFields },
  });
  const renamed = write('', 'ConfigMap', sent([{ ...owners(first)[0], manager: 'renamed' }]), {
    old: first,
  });
  assert.deepEqual(Object.keys(owned(renamed)), ['renamed']);
  for (const reset of [[], [{}]]) {
    const object = write('', 'ConfigMap', sent(reset), { old: first });
    assert.equal(object.metadata.managedFields, undefined);
    const later = write('', 'ConfigMap', config({ k: 'w' }), { old: object });
    assert.equal(later.metadata.managedFields, undefined, 'untracked objects stay untracked');
  }
  const broken = [{ manager: 'x', operation: 'Explode', fieldsType: 'FieldsV1', fieldsV1: {} }];
  const kept = write('', 'ConfigMap', sent(broken), { old: first });
  assert.deepEqual(owners(kept), owners(first));
});

test('many updaters become few: the oldest are merged', () => {
  let object = write('', 'ConfigMap', config({ start: '1' }), { manager: 'm0' });
  const data: Record<string, string> = { start: '1' };
  for (let i = 1; i <= 15; i++) {
    data[`k${i}`] = '1';
    const now = `2024-05-01T10:${String(i).padStart(2, '0')}:00Z`;
    object = write('', 'ConfigMap', config({ ...data }), { old: object, manager: `m${i}`, now });
  }
  const entries = owners(object);
  assert.equal(entries.length, 10);
  const ancient = entries.find((entry) => entry.manager === 'ancient-changes');
  const fields = Object.keys(ancient?.fieldsV1?.['f:data'] ?? {});
  assert.ok(fields.includes('f:start') && fields.includes('f:k5') && !fields.includes('f:k9'));
});

test('managers are read off user agents', () => {
  assert.equal(managerOf('kubectl/v1.32.0 (linux/amd64)'), 'kubectl');
  assert.equal(managerOf(undefined), 'unknown');
});
