import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject, Namespace } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { configMaps, pods, secrets } from '#client/resources.ts';
import type { Resource } from '#client/api.ts';
import {
  type NamespaceSurvey,
  planNamespace,
  type Remaining,
} from '#controllers/namespace-plan.ts';
import { planRootCa } from '#controllers/root-ca-controller.ts';
import { planDefaultServiceAccount } from '#controllers/serviceaccount-controller.ts';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const leaving: Namespace = {
  metadata: { name: 'old', deletionTimestamp: '2026-01-01T00:00:00Z' },
  spec: { finalizers: ['kubernetes', 'other'] },
  status: { phase: 'Terminating' },
};

function left(resource: Resource, objects: Partial<KubeObject['metadata']>[]): Remaining {
  const named = objects.map((metadata, i) => ({ metadata: { name: `o${i}`, ...metadata } }));
  return { resource, deleteCollection: true, objects: named };
}

const survey = (remaining: Remaining[], more: Partial<NamespaceSurvey> = {}): NamespaceSurvey => ({
  namespace: leaving,
  remaining,
  discoveryFailures: [],
  listFailures: [],
  ...more,
});

const wipes = (actions: readonly Action[]): string[] =>
  actions.flatMap((a) => (a.type === 'deleteCollection' ? [a.resource.resource] : []));

test('pods go before everything else', () => {
  const maps = left(configMaps as Resource, [{}]);
  const both = planNamespace(survey([maps, left(pods as Resource, [{}])]), NOW);
  assert.deepEqual(wipes(both.actions), ['pods']);
  assert.deepEqual(wipes(planNamespace(survey([maps]), NOW).actions), ['configmaps']);
});

test('what is leaving already is only waited for, and said', () => {
  const waiting = left(pods as Resource, [
    { deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['a/b'] },
  ]);
  const { actions, requeueAfterMs } = planNamespace(survey([waiting]), NOW);
  assert.deepEqual(
    actions.map((a) => a.type),
    ['updateStatus'],
  );
  assert.equal(requeueAfterMs, 2000);
  const [write] = actions;
  assert.ok(write?.type === 'updateStatus');
  const { conditions = [] } = (write.object as Namespace).status ?? {};
  const message = (type: string) => conditions.find((c) => c.type === type)?.message;
  assert.equal(
    message('NamespaceContentRemaining'),
    'Some resources are remaining: pods. has 1 resource instances',
  );
  assert.equal(
    message('NamespaceFinalizersRemaining'),
    'Some content in the namespace has finalizers remaining: a/b in 1 resource instances',
  );
  const status = (write.object as Namespace).status ?? {};
  const again = survey([waiting], { namespace: { ...leaving, status } });
  assert.deepEqual(planNamespace(again, NOW + 5000).actions, []);
});

test('an empty namespace is let go, but never while something could not be seen', () => {
  const [done] = planNamespace(survey([left(secrets as Resource, [])]), NOW).actions;
  assert.ok(done?.type === 'update' && done.subresource === 'finalize');
  assert.deepEqual((done.object as Namespace).spec?.finalizers, ['other']);
  for (const blind of [{ discoveryFailures: ['a/v1: away'] }, { listFailures: ['x: away'] }]) {
    const types = planNamespace(survey([], blind), NOW).actions.map((a) => a.type);
    assert.deepEqual(types, ['updateStatus']);
  }
});

test('living namespaces have a default account and the CA; leaving ones get nothing', () => {
  const namespace: Namespace = { metadata: { name: 'new' } };
  const account = { metadata: { name: 'default' } };
  const types = (actions: readonly Action[]): string[] => actions.map((a) => a.type);
  assert.deepEqual(types(planDefaultServiceAccount({ namespace, account: undefined }).actions), [
    'create',
  ]);
  assert.deepEqual(planDefaultServiceAccount({ namespace, account }).actions, []);
  const gone = { namespace: leaving, account: undefined };
  assert.deepEqual(planDefaultServiceAccount(gone).actions, []);
  const rootCa = 'CA';
  const plan = (data?: Record<string, string>, of = namespace): string[] => {
    const published = data && { metadata: { name: 'kube-root-ca.crt' }, data };
    return types(planRootCa({ namespace: of, published, rootCa }).actions);
  };
  assert.deepEqual(plan(), ['create']);
  assert.deepEqual(plan({ 'ca.crt': 'CA' }), []);
  assert.deepEqual(plan({ 'ca.crt': 'CA', more: 'x' }), ['update']);
  assert.deepEqual(plan({ 'ca.crt': 'forged' }), ['update']);
  assert.deepEqual(plan(undefined, leaving), []);
});
