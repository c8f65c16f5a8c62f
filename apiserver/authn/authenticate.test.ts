import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { createSigningKey } from '#base/x509.ts';
import { bearerToken, createAuthenticator } from '#apiserver/authn/authenticate.ts';
import {
  createServiceAccountTokens,
  DEFAULT_ISSUER,
} from '#apiserver/authn/service-account-tokens.ts';
import { openTokenFile, parseTokenFile } from '#apiserver/authn/token-file.ts';
import { readerDouble } from '#apiserver/reader-double.ts';
import type { ServerRequest } from '#apiserver/request.ts';

const NOW = Date.UTC(2026, 0, 1);

const requestWith = (headers: Record<string, string>, more: Partial<ServerRequest> = {}) => ({
  method: 'GET',
  url: '/api',
  headers,
  body: null,
  signal: new AbortController().signal,
  ...more,
});

function tokenFile(t: TestContext, text: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-authn-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'tokens.csv');
  writeFileSync(path, text);
  return path;
}

async function setUp(options: { tokenAuthFile?: string; anonymous?: boolean } = {}) {
  const clock = manualClock(NOW);
  const reader = readerDouble({
    serviceaccounts: [{ metadata: { namespace: 'ns', name: 'robot', uid: 'sa-1' } }],
    pods: [{ metadata: { namespace: 'ns', name: 'p', uid: 'pod-1' } }],
  });
  const tokens = createServiceAccountTokens({
    issuer: DEFAULT_ISSUER,
    audiences: [DEFAULT_ISSUER],
    key: await createSigningKey(),
    reader,
    clock,
  });
  const authenticator = createAuthenticator({ reader, tokens, clock, log: silentLog, ...options });
  const bearer = (token: string) =>
    authenticator.authenticate(requestWith({ authorization: `Bearer ${token}` }));
  return { clock, reader, tokens, authenticator, bearer };
}

const robot = { namespace: 'ns', name: 'robot', uid: 'sa-1' };

test('static tokens: user, groups, and 401 for unknown ones', async (t) => {
  const path = tokenFile(t, 'tok,alice,u-1,"dev, system:masters"\nplain,bob,u-2\n');
  const { bearer } = await setUp({ tokenAuthFile: path });
  assert.deepEqual(await bearer('tok'), {
    name: 'alice',
    uid: 'u-1',
    groups: ['dev', 'system:masters', 'system:authenticated'],
  });
  assert.deepEqual((await bearer('plain'))?.groups, ['system:authenticated']);
  assert.equal(await bearer('nonsense'), null);
});

test('the token file is read again when it changes, and kept when it breaks', async (t) => {
  const path = tokenFile(t, 'one,alice,u\n');
  const clock = manualClock(NOW);
  const file = openTokenFile(path, { clock, log: silentLog });
  writeFileSync(path, 'another,bob,u\n');
  assert.equal(file.lookup('one')?.name, 'alice');
  await clock.advance(1000);
  assert.equal(file.lookup('one'), undefined);
  assert.equal(file.lookup('another')?.name, 'bob');
  writeFileSync(path, 'broken\n');
  await clock.advance(1000);
  assert.equal(file.lookup('another')?.name, 'bob');
});

test('a wrong token file is refused with file and line', () => {
  const cases: [string, RegExp][] = [
    ['a,b', /tokens.csv:1: a token line needs at least 3 columns/],
    ['t,u,id\n,u,id', /tokens.csv:2: the token is empty/],
    ['t,,id', /tokens.csv:1: the user name is empty/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseTokenFile(text, 'tokens.csv'), message);
  }
});

test('no credentials are anonymous, unless that is off', async () => {
  const cases: [Record<string, string>, string][] = [
    [{}, 'system:anonymous'],
    [{ authorization: '' }, 'system:anonymous'],
    [{ authorization: 'Bearer ' }, 'system:anonymous'],
    [{ authorization: 'Basic dXNlcjpwYXNz' }, 'system:anonymous'],
  ];
  const { authenticator } = await setUp();
  for (const [headers, name] of cases) {
    assert.equal((await authenticator.authenticate(requestWith(headers)))?.name, name);
  }
  const closed = await setUp({ anonymous: false });
  assert.equal(await closed.authenticator.authenticate(requestWith({})), null);
});

test('bearerToken reads the header in any case and the WebSocket subprotocol', () => {
  const protocol = `base64url.bearer.authorization.k8s.io.${Buffer.from('tok').toString('base64url')}`;
  const cases: [Record<string, string>, string][] = [
    [{ authorization: 'bearer tok' }, 'tok'],
    [{ authorization: ' Bearer tok ' }, 'tok'],
    [{ authorization: 'Token tok' }, ''],
    [{ 'sec-websocket-protocol': `v4.channel.k8s.io, ${protocol}` }, 'tok'],
  ];
  for (const [headers, token] of cases) assert.equal(bearerToken(headers), token);
});

test('a service account token says who, and where it is bound', async () => {
  const { tokens, bearer } = await setUp();
  const { token, expiresMs } = await tokens.issue({
    serviceAccount: robot,
    audiences: [DEFAULT_ISSUER],
    expirationSeconds: 600,
    bound: { kind: 'Pod', name: 'p', uid: 'pod-1' },
    node: { name: 'n1' },
  });
  assert.equal(expiresMs, NOW + 600_000);
  const user = await bearer(token);
  assert.match(user?.extra?.['authentication.kubernetes.io/credential-id']?.[0] ?? '', /^JTI=/);
  assert.deepEqual(user, {
    name: 'system:serviceaccount:ns:robot',
    uid: 'sa-1',
    groups: ['system:serviceaccounts', 'system:serviceaccounts:ns', 'system:authenticated'],
    extra: {
      'authentication.kubernetes.io/credential-id':
        user?.extra?.['authentication.kubernetes.io/credential-id'],
      'authentication.kubernetes.io/pod-name': ['p'],
      'authentication.kubernetes.io/pod-uid': ['pod-1'],
      'authentication.kubernetes.io/node-name': ['n1'],
    },
  });
});

test('a token ends with its time, its account and its pod, though it was verified before', async () => {
  const bound = { kind: 'Pod', name: 'p', uid: 'pod-1' } as const;
  const grant = { serviceAccount: robot, audiences: [DEFAULT_ISSUER], expirationSeconds: 600 };
  const ends: [string, (s: Awaited<ReturnType<typeof setUp>>) => void | Promise<void>][] = [
    ['expired', ({ clock }) => clock.advance(600_000)],
    ['account gone', ({ reader }) => reader.remove('', 'serviceaccounts', 'robot', 'ns')],
    [
      'account made again',
      ({ reader }) =>
        reader.put('', 'serviceaccounts', {
          metadata: { namespace: 'ns', name: 'robot', uid: 'sa-2' },
        }),
    ],
    ['pod gone', ({ reader }) => reader.remove('', 'pods', 'p', 'ns')],
  ];
  for (const [name, end] of ends) {
    const world = await setUp();
    const { token } = await world.tokens.issue({ ...grant, bound });
    assert.ok(await world.bearer(token), name);
    await end(world);
    assert.equal(await world.bearer(token), null, name);
  }
});

test('tokens of another audience, key or algorithm are refused', async () => {
  const { tokens, bearer, authenticator } = await setUp();
  const other = await setUp();
  const grant = { serviceAccount: robot, audiences: [DEFAULT_ISSUER], expirationSeconds: 600 };
  const vault = (await tokens.issue({ ...grant, audiences: ['vault'] })).token;
  assert.equal(await bearer(vault), null);
  assert.equal((await authenticator.reviewToken(vault, ['vault', 'x'])).ok, true);
  assert.equal(await bearer((await other.tokens.issue(grant)).token), null);
  const [, payload] = (await tokens.issue(grant)).token.split('.');
  const none = Buffer.from('{"alg":"none"}').toString('base64url');
  assert.equal(await bearer(`${none}.${payload}.`), null);
});

test('bootstrap tokens need their secret, its purpose and its time', async () => {
  const { reader, bearer, clock } = await setUp();
  const encode = (data: Record<string, string>): Record<string, string> =>
    Object.fromEntries(
      Object.entries(data).map(([key, value]) => [key, Buffer.from(value).toString('base64')]),
    );
  const secret = (data: Record<string, string>): void =>
    reader.put('', 'secrets', {
      metadata: { namespace: 'kube-system', name: 'bootstrap-token-abcdef' },
      type: 'bootstrap.kubernetes.io/token',
      data: encode({
        'token-id': 'abcdef',
        'token-secret': '0123456789abcdef',
        'usage-bootstrap-authentication': 'true',
        ...data,
      }),
    });
  assert.equal(await bearer('abcdef.0123456789abcdef'), null);
  secret({ expiration: '2026-01-01T00:10:00Z', 'auth-extra-groups': 'system:bootstrappers:x' });
  assert.deepEqual(await bearer('abcdef.0123456789abcdef'), {
    name: 'system:bootstrap:abcdef',
    groups: ['system:bootstrappers', 'system:bootstrappers:x', 'system:authenticated'],
  });
  assert.equal(await bearer('abcdef.0123456789abcdee'), null);
  await clock.advance(600_000);
  assert.equal(await bearer('abcdef.0123456789abcdef'), null);
  secret({ 'usage-bootstrap-authentication': 'false' });
  assert.equal(await bearer('abcdef.0123456789abcdef'), null);
});

test('front-proxy headers count only on a front proxy connection', async () => {
  const { authenticator } = await setUp();
  const headers = {
    'x-remote-user': 'jane',
    'x-remote-group': 'dev, ops',
    'x-remote-extra-example.com%2fteam': 'red',
  };
  const trusted = await authenticator.authenticate(requestWith(headers, { frontProxy: 'proxy' }));
  assert.deepEqual(trusted, {
    name: 'jane',
    groups: ['dev', 'ops', 'system:authenticated'],
    extra: { 'example.com/team': ['red'] },
  });
  const stranger = await authenticator.authenticate(requestWith(headers));
  assert.equal(stranger?.name, 'system:anonymous');
});
