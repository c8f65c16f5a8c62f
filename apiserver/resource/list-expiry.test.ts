import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { eventually } from '#base/testing.ts';
import { startTestServer } from '#apiserver/testing.ts';

/** Five minutes, after which the server forgets what was then. */
const PERIOD_MS = 300_000;
const clock: typeof systemClock = {
  ...systemClock,
  sleep: (ms, options) => systemClock.sleep(ms === PERIOD_MS ? 100 : ms, options),
};
const server = await startTestServer({ clock });
after(() => server.close());

const MAPS = '/api/v1/namespaces/default/configmaps';
const namesOf = (body: { [member: string]: unknown }): unknown[] =>
  (body['items'] as { metadata: { name: string } }[]).map(({ metadata }) => metadata.name);

test('a list is continued for so long only, even when nothing changes', async () => {
  for (const name of ['a', 'b', 'c']) {
    const { code, text } = await server.call('POST', MAPS, { metadata: { name } });
    assert.equal(code, 201, text);
  }
  const first = await server.call('GET', `${MAPS}?limit=1`);
  const token = encodeURIComponent(String(first.body['metadata']?.['continue']));
  // Other things go on changing, as in every cluster.
  const gone = await eventually(
    'the token has expired',
    async () => {
      await server.call('POST', '/api/v1/namespaces/default/events', {
        metadata: { generateName: 'e-' },
        involvedObject: { namespace: 'default' },
      });
      const answer = await server.call('GET', `${MAPS}?limit=1&continue=${token}`);
      return answer.code === 410 ? answer : undefined;
    },
    20_000,
  );
  assert.equal(gone.body['reason'], 'Expired');
  const onward = encodeURIComponent(String(gone.body['metadata']?.['continue']));
  const rest = await server.call('GET', `${MAPS}?continue=${onward}`);
  assert.equal(rest.code, 200);
  assert.deepEqual(namesOf(first.body).concat(namesOf(rest.body)).slice(0, 3), ['a', 'b', 'c']);
});
