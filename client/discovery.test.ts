import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failure } from '#api/status.ts';
import type { Api } from '#client/api.ts';
import { discover } from '#client/discovery.ts';

function serving(answers: Record<string, unknown>): Api {
  const raw = (path: string): Promise<Uint8Array> =>
    path in answers
      ? Promise.resolve(Buffer.from(JSON.stringify(answers[path])))
      : Promise.reject(failure(503, 'ServiceUnavailable', 'away'));
  return { raw } as unknown as Api;
}

const verbs = ['get', 'list', 'delete'];
const named = (found: Awaited<ReturnType<typeof discover>>): string[] =>
  found.resources.map((r) => `${r.group}/${r.version}/${r.resource} ${r.kind} ${r.namespaced}`);

test('aggregated: two calls, the preferred version of each resource', async () => {
  const resource = (name: string, kind: string, scope: string) => ({
    resource: name,
    responseKind: { kind },
    scope,
    verbs,
  });
  const list = (items: unknown[]) => ({ kind: 'APIGroupDiscoveryList', items });
  const found = await discover(
    serving({
      '/api': list([
        {
          metadata: {},
          versions: [{ version: 'v1', resources: [resource('pods', 'Pod', 'Namespaced')] }],
        },
      ]),
      '/apis': list([
        {
          metadata: { name: 'x.io' },
          versions: [
            { version: 'v2', resources: [resource('as', 'A', 'Cluster')] },
            {
              version: 'v1',
              freshness: 'Stale',
              resources: [resource('as', 'A', 'Cluster'), resource('bs', 'B', 'Namespaced')],
            },
          ],
        },
      ]),
    }),
  );
  assert.deepEqual(named(found), ['/v1/pods Pod true', 'x.io/v2/as A false', 'x.io/v1/bs B true']);
  assert.deepEqual(found.failures, ['x.io/v1: stale']);
});

test('plain: group by group, subresources left out, absent groups told', async () => {
  const preferred = (group: string, version: string) => ({
    name: group,
    preferredVersion: { groupVersion: `${group}/${version}`, version },
  });
  const found = await discover(
    serving({
      '/api': { kind: 'APIVersions', versions: ['v1'] },
      '/api/v1': {
        resources: [
          { name: 'pods', kind: 'Pod', namespaced: true, verbs },
          { name: 'pods/log', kind: 'Pod', namespaced: true, verbs: ['get'] },
        ],
      },
      '/apis': { kind: 'APIGroupList', groups: [preferred('x.io', 'v1'), preferred('y.io', 'v1')] },
      '/apis/x.io/v1': { resources: [{ name: 'as', kind: 'A', namespaced: false, verbs }] },
    }),
  );
  assert.deepEqual(named(found), ['/v1/pods Pod true', 'x.io/v1/as A false']);
  assert.deepEqual(found.failures, ['y.io/v1: away']);
});
