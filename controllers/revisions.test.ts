import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DaemonSet } from '#api/types.ts';
import { historyOf } from '#controllers/revisions.ts';

test('a revision has the bytes that clients expect of the template', () => {
  const template = {
    spec: { restartPolicy: 'Always', containers: [{ name: 'c', image: 'i', command: ['b', 'a'] }] },
    metadata: { labels: { z: '1', a: '2' } },
  };
  const owner = {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name: 'd', namespace: 'n', uid: 'u' },
    spec: { selector: { matchLabels: { a: '2' } }, template },
  } as unknown as DaemonSet & Parameters<typeof historyOf>[0]['owner'];
  const { update } = historyOf({
    owner,
    revisions: [],
    named: () => undefined,
    hashLabel: 'controller-revision-hash',
    collisionCount: 0,
  });
  assert.equal(
    JSON.stringify(update.data),
    '{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"a":"2","z":"1"}},' +
      '"spec":{"containers":[{"command":["b","a"],"image":"i","name":"c"}],' +
      '"restartPolicy":"Always"}}}}',
  );
});
