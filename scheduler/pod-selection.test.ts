import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import { countSelected, selectionOf, selectsPod } from '#scheduler/pod-selection.ts';
import { podKey, podView } from '#scheduler/snapshot.ts';
import { testCluster, testNode, testPod } from '#scheduler/testing.ts';

const labelSelector = { matchLabels: { app: 'web' } };

test('counts that are kept are those that a look at every pod gives', () => {
  const random = seededRandom(7);
  const cluster = testCluster([testNode('a')]);
  const owner = testPod('owner');
  const selections = ['web', 'db', 'web'].map((app) =>
    selectionOf({ labelSelector: { matchLabels: { app } } }, owner, cluster),
  );
  for (let step = 0; step < 500; step++) {
    const name = `p${randomInt(random, 12)}`;
    const pod = testPod(name, { nodeName: 'a', labels: { app: random() < 0.5 ? 'web' : 'db' } });
    if (random() < 0.7) cluster.setPod(pod);
    else cluster.removePod(podKey(pod));
    const node = cluster.node('a');
    assert.ok(node);
    for (const selection of selections) {
      const counted: number = [...node.pods.values()].filter(selection.matches).length;
      assert.equal(countSelected(node, selection), counted);
      assert.equal(countSelected(node, selection), counted, 'and from what was kept');
    }
  }
});

test('namespaces: the owner’s own, the named ones, and those whose labels match', () => {
  const cluster = testCluster([], [], {
    namespaceLabels: (name) => (name === 'blue' ? { team: 'x' } : {}),
  });
  const owner = testPod('owner');
  const inNamespace = (namespace: string) => {
    const pod = testPod('other', { labels: { app: 'web' } });
    return podView({ ...pod, metadata: { ...pod.metadata, namespace } });
  };
  const selected = (terms: object): string[] =>
    ['default', 'blue', 'red'].filter((namespace) =>
      selectsPod({ labelSelector, ...terms }, owner, inNamespace(namespace), cluster),
    );
  assert.deepEqual(selected({}), ['default']);
  assert.deepEqual(selected({ namespaces: ['red'] }), ['red']);
  assert.deepEqual(selected({ namespaceSelector: {} }), ['default', 'blue', 'red']);
  const teamX = { namespaceSelector: { matchLabels: { team: 'x' } } };
  assert.deepEqual(selected(teamX), ['blue']);
  assert.deepEqual(selected({ ...teamX, namespaces: ['red'] }), ['blue', 'red']);
  assert.equal(selectionOf({ labelSelector, ...teamX }, owner, cluster).key, null);
});
