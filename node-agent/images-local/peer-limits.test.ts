import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { createPacer, limited } from '#node-agent/images-local/peer-limits.ts';

test('one too many is turned away, and comes in when there is room', async () => {
  const waiting: (() => void)[] = [];
  const handle = limited(async (_request, response) => {
    await new Promise<void>((resolve) => waiting.push(resolve));
    response.end('given');
  }, 2);
  const server = createServer((request, response) => void handle(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const given = [fetch(url), fetch(url)];
  while (waiting.length < 2) await new Promise((resolve) => setImmediate(resolve));
  const refused = await fetch(url);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get('retry-after'), '1');
  for (const go of waiting.splice(0)) go();
  for (const answer of given) assert.equal(await (await answer).text(), 'given');
  const later = fetch(url);
  while (waiting.length < 1) await new Promise((resolve) => setImmediate(resolve));
  waiting[0]?.();
  assert.equal((await later).status, 200);
  server.closeAllConnections();
  server.close();
});

test('all streams share one rate', async () => {
  const clock = manualClock(0);
  const pace = createPacer(1000, clock);
  const streams = [pace(), pace()];
  let passed = 0;
  for (const stream of streams) stream.on('data', (chunk: Buffer) => (passed += chunk.length));
  for (let i = 0; i < 4; i++) for (const stream of streams) stream.write(Buffer.alloc(500));
  await clock.advance(0);
  const start = passed;
  assert.ok(start <= 1000, `${start} at once`);
  for (let i = 0; i < 10; i++) await clock.advance(100);
  assert.ok(passed <= start + 1500, `${passed} after one second`);
  for (let i = 0; i < 40; i++) await clock.advance(100);
  assert.equal(passed, 4000);
});
