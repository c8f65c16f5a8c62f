import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Deployment, ReplicaSet } from '#api/types.ts';
import {
  isSameTemplate,
  newReplicaSet,
  splitSets,
  templateHash,
} from '#controllers/deployment-revisions.ts';
import {
  newReplicaSetSize,
  resolveCount,
  rollingBounds,
  scaleAll,
  shrinkOld,
} from '#controllers/deployment-sizes.ts';

function deployment(replicas: number, maxSurge: unknown, maxUnavailable: unknown): Deployment {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'd', uid: 'dep', annotations: { a: 'b' } },
    spec: {
      replicas,
      selector: { matchLabels: { app: 'web' } },
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge, maxUnavailable } as never },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'c', image: 'v1' }] },
      },
    },
  };
}

function set(name: string, replicas: number, available: number, max = 0): ReplicaSet {
  const annotations = max ? { 'deployment.kubernetes.io/max-replicas': String(max) } : {};
  const minute = name.charCodeAt(0) % 60;
  const creationTimestamp = `2026-01-01T00:${String(minute).padStart(2, '0')}:00Z`;
  return {
    metadata: { name, annotations, creationTimestamp },
    spec: { replicas, selector: {} },
    status: { replicas, availableReplicas: available },
  };
}

test('numbers and percentages', () => {
  assert.equal(resolveCount(3, 10, 'up'), 3);
  assert.equal(resolveCount('25%', 10, 'up'), 3);
  assert.equal(resolveCount('25%', 10, 'down'), 2);
  assert.equal(resolveCount('nonsense', 10, 'up'), 0);
  assert.deepEqual(rollingBounds(deployment(3, '25%', '25%')), { surge: 1, unavailable: 0 });
  assert.deepEqual(rollingBounds(deployment(3, 0, '25%')), { surge: 0, unavailable: 1 });
  assert.deepEqual(rollingBounds(deployment(2, 0, 9)), { surge: 0, unavailable: 2 });
});

const sizes: [replicas: number, surge: number, old: number, current: number, want: number][] = [
  [10, 2, 10, 0, 2],
  [10, 2, 12, 0, 0],
  [10, 2, 5, 5, 7],
  [10, 5, 1, 9, 10],
];
for (const [replicas, surge, old, current, want] of sizes) {
  test(`new set: ${current} of ${replicas}+${surge} beside ${old} old becomes ${want}`, () => {
    const all = [set('a', old, old), set('b', current, current)];
    assert.equal(newReplicaSetSize(deployment(replicas, surge, 0), all, current), want);
  });
}

const shrinks: [
  name: string,
  unavailable: number,
  old: ReplicaSet[],
  now: ReplicaSet,
  want: string,
][] = [
  ['as far as unavailability allows', 2, [set('a', 10, 10)], set('z', 2, 0), 'a=8'],
  ['nothing while the new ones are not available', 0, [set('a', 10, 10)], set('z', 2, 0), ''],
  ['one for each that became available', 0, [set('a', 10, 10)], set('z', 2, 1), 'a=9'],
  [
    'unhealthy ones first, from the oldest',
    2,
    [set('a', 4, 4), set('b', 6, 3)],
    set('z', 2, 0),
    'b=4',
  ],
];
for (const [name, unavailable, old, now, want] of shrinks) {
  test(`old sets shrink: ${name}`, () => {
    const resizes = shrinkOld(deployment(10, 2, unavailable), old, now);
    assert.equal(resizes.map((r) => `${r.replicaSet.metadata.name}=${r.replicas}`).join(), want);
  });
}

test('scaling shares in proportion, and the largest takes the rest', () => {
  const grow = scaleAll(deployment(15, 3, 2), [set('a', 8, 8, 13)], set('z', 5, 0, 13));
  assert.deepEqual(
    grow.map((r) => r.replicas),
    [11, 7],
  );
  const shrink = scaleAll(deployment(5, 3, 2), [set('a', 8, 8, 13)], set('z', 5, 0, 13));
  assert.deepEqual(
    shrink.map((r) => r.replicas),
    [5, 3],
  );
  const only = scaleAll(deployment(4, 1, 1), [], set('z', 2, 2));
  assert.deepEqual(
    only.map((r) => r.replicas),
    [4],
  );
});

test('the same template is found again, whatever its hash label and key order', () => {
  const of = deployment(3, 1, 0);
  const made = newReplicaSet(of, []);
  assert.match(made.metadata.name ?? '', /^web-[bcdfghjklmnpqrstvwxz2456789]+$/);
  assert.equal(made.metadata.annotations?.['deployment.kubernetes.io/revision'], '1');
  assert.equal(made.metadata.annotations?.a, 'b');
  assert.equal(made.spec?.replicas, 3);
  assert.equal(splitSets(of, [made]).newSet, made);
  assert.ok(isSameTemplate(made.spec?.template, of.spec?.template ?? {}));
  const a = templateHash({ spec: { containers: [], hostNetwork: true } }, 0);
  const b = templateHash({ spec: { hostNetwork: true, containers: [] } }, 0);
  assert.equal(a, b);
  assert.notEqual(a, templateHash({ spec: { containers: [], hostNetwork: true } }, 1));
});

test('each new template gets the next revision', () => {
  const of = deployment(3, 1, 0);
  const first = newReplicaSet(of, []);
  const second = newReplicaSet(of, [first]);
  assert.equal(second.metadata.annotations?.['deployment.kubernetes.io/revision'], '2');
});

test('an adopted revision beyond what a double can count goes on exactly', () => {
  const of = deployment(3, 1, 0);
  const adopted = newReplicaSet(of, []);
  const annotations = { 'deployment.kubernetes.io/revision': '3546343826724305832' };
  const old = { ...adopted, metadata: { ...adopted.metadata, annotations } };
  const next = newReplicaSet(of, [old]);
  const revision = next.metadata.annotations?.['deployment.kubernetes.io/revision'];
  assert.equal(revision, '3546343826724305833');
});
