import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { startTestServer } from '#apiserver/testing.ts';

const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const APPLY = { 'content-type': 'application/apply-patch+yaml' };

/** `fieldRef` is an atomic member with a default of its own: the same text again differs from what is stored. */
const deployment = (replicas: number) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web' },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'web' } },
    template: {
      metadata: { labels: { app: 'web' } },
      spec: {
        containers: [
          {
            name: 'web',
            image: 'web',
            env: [{ name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
          },
        ],
      },
    },
  },
});

test('applying the same again, later, is no change; applying another thing is', async () => {
  const clock = manualClock(Date.parse('2026-01-01T00:00:00Z'));
  const server = await startTestServer({ clock });
  try {
    const apply = async (replicas: number) => {
      const path = `${DEPLOYMENTS}/web?fieldManager=tester`;
      const { code, body } = await server.call('PATCH', path, deployment(replicas), APPLY);
      return {
        code,
        metadata: body['metadata'] as { resourceVersion?: unknown; managedFields?: unknown },
      };
    };
    const created = await apply(1);
    assert.equal(created.code, 201);
    await clock.advance(5_000);
    const again = await apply(1);
    assert.equal(again.code, 200);
    assert.deepEqual(again.metadata, created.metadata);
    const other = await apply(2);
    assert.notEqual(other.metadata.resourceVersion, created.metadata.resourceVersion);
    assert.notDeepEqual(other.metadata.managedFields, created.metadata.managedFields);
  } finally {
    await server.close();
  }
});
