import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject, OwnerReference } from '#api/types.ts';
import { type Action, describeAction } from '#client/actions.ts';
import { configMaps } from '#client/resources.ts';
import { GarbageGraph, type Item } from '#controllers/garbage-graph.ts';
import { type OwnerState, planGarbage } from '#controllers/garbage-plan.ts';

function object(
  name: string,
  options: { owners?: OwnerReference[]; deleting?: boolean; finalizers?: string[] } = {},
): KubeObject {
  const { owners = [], deleting = false, finalizers = [] } = options;
  return {
    metadata: {
      name,
      namespace: 'd',
      uid: name,
      resourceVersion: '7',
      ownerReferences: owners,
      finalizers,
      ...(deleting ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
  };
}

function reference(uid: string, blockOwnerDeletion = false): OwnerReference {
  return { apiVersion: 'v1', kind: 'ConfigMap', name: uid, uid, blockOwnerDeletion };
}

function item(of: KubeObject): Item {
  const graph = new GarbageGraph();
  graph.put(configMaps, of);
  const found = graph.get(of.metadata.uid ?? '');
  assert.ok(found);
  return found;
}

const owned = (...states: OwnerState[]) =>
  states.map((state, i) => ({ reference: reference(`${state}${i}`), state }));
const said = (actions: readonly Action[]): string[] => actions.map(describeAction);
const patch = (metadata: object): string =>
  `patch configmaps d/x: ${JSON.stringify({ metadata: { uid: 'x', resourceVersion: '7', ...metadata } })}`;

const plan = (
  owners: ReturnType<typeof owned>,
  self: Parameters<typeof object>[1] = {},
  dependents: KubeObject[] = [],
): readonly Action[] =>
  planGarbage({
    item: item(object('x', { ...self, owners: owners.map((owner) => owner.reference) })),
    owners,
    dependents: dependents.map(item),
  }).actions;

test('kept while one owner is there; dangling references are dropped', () => {
  assert.deepEqual(plan(owned('solid')), []);
  assert.deepEqual(said(plan(owned('solid', 'dangling'))), [
    patch({ ownerReferences: [reference('solid0')] }),
  ]);
});

test('deleted when all owners are gone, in the way its finalizers ask for', () => {
  const [plain] = plan(owned('dangling', 'dangling'));
  assert.ok(plain?.type === 'delete');
  assert.equal(plain.propagationPolicy, 'Background');
  assert.deepEqual([plain.uid, plain.resourceVersion], ['x', '7']);
  const [orphaning] = plan(owned('dangling'), { finalizers: ['orphan'] });
  assert.ok(orphaning?.type === 'delete');
  assert.equal(orphaning.propagationPolicy, 'Orphan');
});

test('left alone while an owner cannot be judged, or when it has none', () => {
  assert.deepEqual(plan(owned('dangling', 'unknown')), []);
  assert.deepEqual(plan([]), []);
});

test('an owner that waits pulls its dependents down, foreground where they have their own', () => {
  const [leaf] = plan(owned('waiting'));
  assert.ok(leaf?.type === 'delete');
  assert.equal(leaf.propagationPolicy, 'Background');
  const [branch] = plan(owned('waiting'), {}, [object('y', { owners: [reference('x', true)] })]);
  assert.ok(branch?.type === 'delete');
  assert.equal(branch.propagationPolicy, 'Foreground');
});

test('a ring of waiting owners is broken', () => {
  const foreground = { deleting: true, finalizers: ['foregroundDeletion'] };
  const actions = plan(owned('waiting'), {}, [object('y', foreground)]);
  assert.equal(actions[0]?.type, 'patch');
  assert.equal(actions[1]?.type, 'delete');
});

test('foreground deletion ends when nothing blocks it', () => {
  const self = { deleting: true, finalizers: ['foregroundDeletion', 'other/one'] };
  assert.deepEqual(plan([], self, [object('y', { owners: [reference('x', true)] })]), []);
  const loose = [object('y', { owners: [reference('x', false)] })];
  assert.deepEqual(said(plan([], self, loose)), [patch({ finalizers: ['other/one'] })]);
});

test('orphaning lets every dependent go before the owner', () => {
  const dependents = [object('y', { owners: [reference('x'), reference('z')] })];
  const actions = plan([], { deleting: true, finalizers: ['orphan'] }, dependents);
  assert.deepEqual(
    actions.map((action) => action.type),
    ['together', 'patch'],
  );
  assert.match(said(actions)[0] ?? '', /"ownerReferences":\[\{[^}]*"name":"z"/);
});

test('the graph tells whom to look at', () => {
  const graph = new GarbageGraph();
  assert.deepEqual([...graph.put(configMaps, object('a'))], []);
  assert.deepEqual([...graph.put(configMaps, object('b', { owners: [reference('a', true)] }))], []);
  assert.deepEqual([...graph.put(configMaps, object('c', { owners: [reference('?')] }))], ['c']);
  const waiting = object('a', { deleting: true, finalizers: ['foregroundDeletion'] });
  assert.deepEqual([...graph.put(configMaps, waiting)], ['a', 'b']);
  assert.deepEqual([...graph.remove('b')], ['a']);
  graph.put(configMaps, object('d', { owners: [reference('a')] }));
  assert.deepEqual([...graph.remove('a')], ['d']);
});
