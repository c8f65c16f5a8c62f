import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { Node } from '#api/types.ts';
import { createRulesClock, proxyHealth, serveProxyHealth } from './proxy-health.ts';

const NOW = Date.UTC(2026, 0, 1);
const node = (more: Partial<Node> & { metadata?: object } = {}): Node => ({
  ...more,
  metadata: { name: 'n1', ...more.metadata },
});
const fresh = { updatedMs: NOW - 5_000, pendingSinceMs: undefined };

test('a node answers whether traffic may come to it', () => {
  const leaving = node({
    spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] },
  });
  const deleted = node({ metadata: { deletionTimestamp: '2026-01-01T00:00:00Z' } });
  const late = { ...fresh, pendingSinceMs: NOW - 60_000 };
  const cases = [
    { state: fresh, node: node(), healthz: 200, livez: 200 },
    { state: { ...fresh, pendingSinceMs: NOW - 59_999 }, node: node(), healthz: 200, livez: 200 },
    { state: late, node: node(), healthz: 503, livez: 503 },
    { state: fresh, node: leaving, healthz: 503, livez: 200 },
    { state: fresh, node: deleted, healthz: 503, livez: 200 },
    { state: fresh, node: undefined, healthz: 503, livez: 200 },
  ];
  for (const one of cases) {
    assert.equal(proxyHealth('/healthz', one.state, one.node, NOW)?.code, one.healthz);
    assert.equal(proxyHealth('/livez', one.state, one.node, NOW)?.code, one.livez);
  }
  assert.deepEqual(JSON.parse(proxyHealth('/healthz', fresh, node(), NOW)?.body ?? ''), {
    lastUpdated: '2026-01-01T00:00:00.000Z',
    currentTime: '2026-01-01T00:00:00.000Z',
    nodeEligible: true,
    healthy: true,
  });
  const { lastUpdated } = JSON.parse(proxyHealth('/livez', late, node(), NOW)?.body ?? '');
  assert.equal(lastUpdated, '2025-12-31T23:59:55.000Z', 'of the last rules, where they are late');
});

test('a change that comes while rules are written waits for the next', async () => {
  const clock = manualClock(NOW);
  const rules = createRulesClock(clock);
  rules.pending();
  rules.begin();
  await clock.advance(1_000);
  rules.pending();
  assert.equal(rules.state().pendingSinceMs, NOW, 'the first is not written yet');
  rules.written();
  assert.deepEqual(rules.state(), { updatedMs: NOW + 1_000, pendingSinceMs: NOW + 1_000 });
  rules.begin();
  await clock.advance(500);
  rules.begin(); // the writing failed and is tried again
  assert.equal(rules.state().pendingSinceMs, NOW + 1_000);
  rules.written();
  assert.equal(rules.state().pendingSinceMs, undefined);
});

test('the port says so', async () => {
  const answer = (path: string) => proxyHealth(path, fresh, node(), NOW);
  const server = serveProxyHealth(0, answer, silentLog);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    const response = await fetch(`http://127.0.0.1:${port}/healthz?x=1`);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('content-type'), 'application/json');
    assert.equal(((await response.json()) as { healthy: boolean }).healthy, true);
    assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404);
  } finally {
    server.close();
    server.closeAllConnections();
  }
});
