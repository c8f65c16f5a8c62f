import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import type { Api } from '#client/api.ts';
import { simulateApi } from '#client/simulated-api.ts';
import { type Credentials, createAccess, wishOf } from '#node-agent/server/server-access.ts';

test('a path and a method say which right is needed', () => {
  const cases: [string, string, string, string][] = [
    ['GET', '/stats/summary', 'get', 'stats'],
    ['GET', '/metrics/cadvisor', 'get', 'metrics'],
    ['GET', '/logs/syslog', 'get', 'log'],
    ['POST', '/checkpoint/ns/pod/c', 'create', 'checkpoint'],
    ['GET', '/containerLogs/ns/pod/c', 'get', 'proxy'],
    ['POST', '/exec/ns/pod/c', 'create', 'proxy'],
    ['GET', '/exec/ns/pod/c', 'get', 'proxy'],
    ['PUT', '/whatever', 'update', 'proxy'],
    ['GET', '/pods', 'get', 'pods|proxy'],
    ['GET', '/runningpods/', 'get', 'pods|proxy'],
    ['GET', '/configz', 'get', 'configz|proxy'],
    ['GET', '/', 'get', 'proxy'],
  ];
  for (const [method, path, verb, subresources] of cases)
    assert.deepEqual(
      wishOf(method, path),
      { verb, subresources: subresources.split('|') },
      `${method} ${path}`,
    );
});

type Rights = Record<string, string[]>;

/** An API that knows tokens and rights, and counts what it is asked. */
function world(rights: Rights, tokens: Record<string, string> = {}) {
  const clock = manualClock(1_000_000);
  const asked: string[] = [];
  const state = { broken: false };
  const create = async (resource: { kind: string }, object: Record<string, unknown>) => {
    asked.push(resource.kind);
    if (state.broken) throw new Error('no answer');
    const spec = object['spec'] as Record<string, unknown>;
    if (resource.kind === 'TokenReview') {
      const username = tokens[String(spec['token'])];
      return { ...object, status: username ? { authenticated: true, user: { username } } : {} };
    }
    const about = spec['resourceAttributes'] as Record<string, string>;
    assert.equal(about['name'], 'n1');
    assert.equal(about['resource'], 'nodes');
    const right = `${about['verb']} ${about['subresource']}`;
    const holders = [String(spec['user']), ...(spec['groups'] as string[])];
    return { ...object, status: { allowed: holders.some((h) => rights[h]?.includes(right)) } };
  };
  const api = { ...simulateApi(), create: create as unknown as Api['create'] };
  const access = createAccess(api, 'n1', clock);
  const ask = async (credentials: Credentials, method = 'GET', path = '/stats/summary') => {
    try {
      return (await access.check(credentials, wishOf(method, path))).name;
    } catch (error) {
      const { status, message } = error as { status: number; message: string };
      return `${status} ${message}`;
    }
  };
  return { ask, asked, clock, state };
}

const certificate = (name: string, ...groups: string[]): Credentials => ({
  certificate: { name, groups },
});

test('certificates and tokens name callers, roles decide', async () => {
  const { ask } = world(
    { ann: ['get stats'], 'system:authenticated': ['get metrics'], mon: ['get pods'] },
    { t1: 'ann' },
  );
  assert.equal(await ask({ token: 't1' }), 'ann');
  assert.equal(await ask(certificate('ann')), 'ann');
  assert.equal(await ask(certificate('bob'), 'GET', '/metrics/resource'), 'bob');
  assert.equal(
    await ask(certificate('bob')),
    '403 Forbidden (user=bob, verb=get, resource=nodes, subresource(s)=[stats])',
  );
  assert.equal(await ask(certificate('mon'), 'GET', '/pods'), 'mon');
  assert.match(await ask(certificate('mon'), 'GET', '/configz'), /^403 /);
  assert.equal(await ask({ token: 'forged' }), '401 Unauthorized');
  assert.equal(await ask({}), '401 Unauthorized');
});

test('the API server and administrators are served without a question', async () => {
  const { ask, asked } = world({});
  assert.equal(await ask(certificate('root', 'system:masters'), 'POST', '/exec/a/b/c'), 'root');
  const server = 'gantry:apiserver-kubelet-client';
  assert.equal(await ask(certificate(server), 'POST', '/exec/a/b/c'), server);
  assert.deepEqual(asked, []);
});

test('nobody becomes the API server by a token of its name', async () => {
  const { ask } = world({}, { t: 'gantry:apiserver-kubelet-client' });
  assert.match(await ask({ token: 't' }), /^403 /);
});

test('answers are remembered, refusals for a shorter time', async () => {
  const { ask, asked, clock } = world({ ann: ['get stats'] }, { t1: 'ann', t2: 'bob' });
  await Promise.all([ask({ token: 't1' }), ask({ token: 't1' })]);
  await ask({ token: 't1' });
  assert.deepEqual(asked.splice(0), ['TokenReview', 'SubjectAccessReview']);
  await ask({ token: 't2' });
  await ask({ token: 't2' });
  assert.deepEqual(asked.splice(0), ['TokenReview', 'SubjectAccessReview']);
  await clock.advance(31_000);
  await ask({ token: 't1' });
  assert.deepEqual(asked.splice(0), []);
  await ask({ token: 't2' });
  assert.deepEqual(asked.splice(0), ['SubjectAccessReview']);
  await clock.advance(6 * 60_000);
  await ask({ token: 't1' });
  assert.deepEqual(asked.splice(0), ['TokenReview', 'SubjectAccessReview']);
});

test('an API that does not answer is no yes, and is asked again', async () => {
  const { ask, state } = world({ ann: ['get stats'] }, { t1: 'ann' });
  state.broken = true;
  assert.equal(await ask({ token: 't1' }), '401 Unauthorized');
  assert.match(await ask(certificate('ann')), /^500 Authorization error .*no answer$/);
  state.broken = false;
  assert.equal(await ask({ token: 't1' }), 'ann');
  assert.equal(await ask(certificate('ann')), 'ann');
});
