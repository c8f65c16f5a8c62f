import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failure } from '#api/status.ts';
import type { Pod, ReplicaSet } from '#api/types.ts';
import type { Action, Outcome } from '#client/actions.ts';
import { rankForDeletion } from '#controllers/pod-ranking.ts';
import {
  planReplicaSet,
  type ReplicaSetWorld,
  reportReplicaSet,
} from '#controllers/replicaset-controller.ts';

const NOW = Date.parse('2026-01-01T01:00:00Z');
const LABELS = { app: 'web' };
const fine: Outcome = { failures: [], written: [], skipped: 0 };

type PodOptions = {
  owner?: string;
  labels?: Record<string, string>;
  node?: string;
  phase?: string;
  readyAt?: string;
  restarts?: number;
  createdAt?: string;
  cost?: string;
  going?: boolean;
};

function pod(name: string, options: PodOptions = {}): Pod {
  const { owner = 'rs', labels = LABELS, node = 'n1', phase = 'Running', readyAt } = options;
  const { restarts = 0, createdAt = '2026-01-01T00:00:00Z', cost, going } = options;
  const reference = { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'web', uid: owner };
  const ready = { type: 'Ready', status: 'True', lastTransitionTime: readyAt ?? '' };
  const status = { name: 'c', image: '', imageID: '', ready: true, restartCount: restarts };
  return {
    metadata: {
      name,
      namespace: 'd',
      uid: name,
      resourceVersion: '1',
      labels,
      creationTimestamp: createdAt,
      ...(cost ? { annotations: { 'controller.kubernetes.io/pod-deletion-cost': cost } } : {}),
      ...(owner ? { ownerReferences: [{ ...reference, controller: true }] } : {}),
      ...(going ? { deletionTimestamp: '2026-01-01T00:30:00Z' } : {}),
    },
    spec: { containers: [], ...(node ? { nodeName: node } : {}) },
    status: { phase, conditions: readyAt ? [ready] : [], containerStatuses: [status] },
  };
}

function world(
  replicas: number,
  candidates: Pod[],
  status?: ReplicaSet['status'],
): ReplicaSetWorld {
  const replicaSet: ReplicaSet = {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { name: 'web', namespace: 'd', uid: 'rs', generation: 4 },
    spec: {
      replicas,
      selector: { matchLabels: LABELS },
      template: {
        metadata: { labels: LABELS, annotations: { note: 'x' } },
        spec: { containers: [{ name: 'c', image: 'i' }] },
      },
    },
    ...(status ? { status } : {}),
  };
  return { replicaSet, candidates, siblings: candidates };
}

function actions(of: ReplicaSetWorld): Action[] {
  return planReplicaSet(of, NOW).actions.flatMap((action) =>
    action.type === 'slowStart' || action.type === 'together' ? action.actions : [action],
  );
}

test('missing pods are made from the template, owned and in slow start', () => {
  const plan = planReplicaSet(world(3, [pod('a')]), NOW);
  assert.equal(plan.actions[0]?.type, 'slowStart');
  const [first, ...rest] = actions(world(3, [pod('a')]));
  assert.equal(rest.length, 1);
  assert.ok(first?.type === 'create');
  assert.deepEqual(first.object.metadata, {
    generateName: 'web-',
    namespace: 'd',
    labels: LABELS,
    annotations: { note: 'x' },
    ownerReferences: [
      {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        name: 'web',
        uid: 'rs',
        controller: true,
        blockOwnerDeletion: true,
      },
    ],
  });
});

test('ended and terminating pods are replaced, not counted', () => {
  const pods = [pod('a'), pod('b', { phase: 'Failed' }), pod('c', { going: true })];
  assert.deepEqual(
    actions(world(2, pods)).map((a) => a.type),
    ['create'],
  );
});

test('orphans that match are adopted and strangers released, before anything else', () => {
  const pods = [pod('orphan', { owner: '' }), pod('stranger', { labels: { app: 'other' } })];
  const found = actions(world(5, pods));
  assert.deepEqual(
    found.map((a) => a.type === 'patch' && a.key.name),
    ['orphan', 'stranger'],
  );
  const [adoption, release] = found;
  assert.ok(adoption?.type === 'patch' && release?.type === 'patch');
  assert.match(JSON.stringify(adoption.patch.body), /"uid":"rs"/);
  assert.match(JSON.stringify(release.patch.body), /"ownerReferences":null/);
});

test('nothing is made or adopted by a set that is being deleted', () => {
  const of = world(5, [pod('orphan', { owner: '' })]);
  of.replicaSet.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
  assert.deepEqual(actions(of), []);
});

const ready = '2026-01-01T00:10:00Z';
const ranks: { name: string; first: Pod; second: Pod }[] = [
  {
    name: 'unassigned before assigned',
    first: pod('b', { node: '' }),
    second: pod('a', { readyAt: ready }),
  },
  {
    name: 'pending before running',
    first: pod('b', { phase: 'Pending' }),
    second: pod('a'),
  },
  { name: 'not ready before ready', first: pod('b'), second: pod('a', { readyAt: ready }) },
  {
    name: 'cheaper before dearer',
    first: pod('b', { readyAt: ready, cost: '-5' }),
    second: pod('a', { readyAt: ready, cost: '5' }),
  },
  {
    name: 'ready for a short time before ready for long',
    first: pod('b', { readyAt: '2026-01-01T00:59:59Z' }),
    second: pod('a', { readyAt: ready }),
  },
  {
    name: 'often restarted before steady',
    first: pod('b', { readyAt: ready, restarts: 3 }),
    second: pod('a', { readyAt: ready }),
  },
  {
    name: 'young before old',
    first: pod('b', { readyAt: ready, createdAt: '2026-01-01T00:59:00Z' }),
    second: pod('a', { readyAt: ready }),
  },
  {
    name: 'a like age leaves it to the uid',
    first: pod('a', { readyAt: ready, createdAt: '2026-01-01T00:00:00Z' }),
    second: pod('b', { readyAt: ready, createdAt: '2026-01-01T00:00:05Z' }),
  },
];
for (const { name, first, second } of ranks) {
  test(`deleted first: ${name}`, () => {
    for (const pods of [
      [first, second],
      [second, first],
    ]) {
      const ranked = rankForDeletion(pods, pods, NOW);
      assert.equal(ranked[0]?.metadata.name, first.metadata.name);
    }
  });
}

test('deleted first: the one that shares its node with siblings', () => {
  const pods = ['a', 'b', 'c'].map((name) =>
    pod(name, { readyAt: ready, node: name === 'a' ? 'n1' : 'n2' }),
  );
  assert.notEqual(rankForDeletion(pods, pods, NOW)[0]?.metadata.name, 'a');
});

test('status counts, and is written only when it changes', () => {
  const pods = [pod('a', { readyAt: ready }), pod('b'), pod('c', { going: true })];
  const [write] = reportReplicaSet(world(2, pods), fine, NOW);
  assert.ok(write?.type === 'updateStatus');
  const { status } = write.object as ReplicaSet;
  assert.deepEqual(status, {
    replicas: 2,
    fullyLabeledReplicas: 2,
    readyReplicas: 1,
    availableReplicas: 1,
    terminatingReplicas: 1,
    observedGeneration: 4,
  });
  assert.deepEqual(reportReplicaSet(world(2, pods, status), fine, NOW), []);
});

test('a failure to create shows as ReplicaFailure and goes when it is over', () => {
  const of = world(1, []);
  const [action] = actions(of);
  assert.ok(action);
  const error = failure(403, 'Forbidden', 'exceeded quota');
  const broken: Outcome = { failures: [{ action, error }], written: [], skipped: 0 };
  const [write] = reportReplicaSet(of, broken, NOW);
  assert.ok(write?.type === 'updateStatus');
  const { status } = write.object as ReplicaSet;
  assert.deepEqual(status?.conditions, [
    {
      type: 'ReplicaFailure',
      status: 'True',
      reason: 'FailedCreate',
      message: 'exceeded quota',
      lastTransitionTime: '2026-01-01T01:00:00Z',
    },
  ]);
  assert.deepEqual(reportReplicaSet(world(1, [], status), broken, NOW + 60_000), []);
  const [healed] = reportReplicaSet(world(1, [], status), fine, NOW);
  assert.ok(healed?.type === 'updateStatus');
  assert.equal((healed.object as ReplicaSet).status?.conditions, undefined);
});
