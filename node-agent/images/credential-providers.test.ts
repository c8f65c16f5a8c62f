import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import type { Pod } from '#api/types.ts';
import { silentLog } from '#base/log.ts';
import {
  type AccountSource,
  createCredentialSource,
  readProviders,
} from '#node-agent/images/credential-providers.ts';

const POD: Pod = { metadata: { name: 'p', namespace: 'ns', uid: 'u' }, spec: { containers: [] } };
const NONE: AccountSource = {
  account: async () => undefined,
  tokens: { token: () => Promise.reject(new Error('no tokens')) },
};

const dir = mkdtempSync(join(tmpdir(), 'gantry-credentials-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** A provider that answers `auth` for a time, and writes down what it was asked. */
function program(name: string, answer: object | string, exitCode = 0): void {
  const text = typeof answer === 'string' ? answer : JSON.stringify(answer);
  writeFileSync(join(dir, `${name}.json`), text);
  const script = `#!/bin/sh
{ cat; echo " $1 $FLAVOUR"; } >> ${dir}/${name}.asked
cat ${dir}/${name}.json
exit ${exitCode}
`;
  writeFileSync(join(dir, name), script);
  chmodSync(join(dir, name), 0o755);
}

const asked = (name: string): string[] =>
  readFileSync(join(dir, `${name}.asked`), 'utf8')
    .trim()
    .split('\n');

const VERSION = 'credentialprovider.kubelet.k8s.io/v1';
const response = (fields: object) => ({
  apiVersion: VERSION,
  kind: 'CredentialProviderResponse',
  ...fields,
});

function config(...providers: object[]): string {
  const file = join(dir, 'config.yaml');
  const value = {
    apiVersion: 'kubelet.config.k8s.io/v1',
    kind: 'CredentialProviderConfig',
    providers,
  };
  writeFileSync(file, JSON.stringify(value));
  return file;
}

const provider = (name: string, fields: object = {}) => ({
  name,
  apiVersion: VERSION,
  matchImages: ['*.reg.test', 'other.test:5000/team'],
  defaultCacheDuration: '10m',
  ...fields,
});

test('a provider is asked for images it matches, and its answer holds as long as it says', async () => {
  const auth = {
    '*.reg.test': { username: 'all', password: 'a' },
    'eu.reg.test/team': { username: 'team', password: 't' },
    'elsewhere.test': { username: 'no', password: 'n' },
  };
  program('cloud', response({ cacheKeyType: 'Registry', cacheDuration: '1h', auth }));
  const file = config(provider('cloud', { args: ['get'], env: [{ name: 'FLAVOUR', value: 'f' }] }));
  const clock = manualClock(0);
  const credentials = createCredentialSource(readProviders(file, dir), {
    clock,
    log: silentLog,
    accounts: NONE,
  });
  const users = async (image: string) =>
    (await credentials(image, POD)).map(({ auth }) => auth.username);
  assert.deepEqual(await users('eu.reg.test/team/app:1'), ['team', 'all']);
  assert.deepEqual(await users('nowhere.test/app'), []);
  assert.deepEqual(await users('eu.reg.test/other'), ['all'], 'by registry: not asked again');
  const [first, ...more] = asked('cloud');
  assert.equal(
    first,
    `{"apiVersion":"${VERSION}","kind":"CredentialProviderRequest","image":"eu.reg.test/team/app:1"} get f`,
  );
  assert.deepEqual(more, []);
  await clock.advance(3_600_001);
  await users('eu.reg.test/other');
  assert.equal(asked('cloud').length, 2);
});

test('a provider that fails does not stop the pull', async () => {
  program('broken', 'no JSON');
  program('refuses', response({ cacheKeyType: 'Image', auth: {} }), 1);
  program('old', { ...response({ cacheKeyType: 'Image' }), apiVersion: 'other/v1' });
  program('works', response({ cacheKeyType: 'Image', auth: { 'a.reg.test': { username: 'u' } } }));
  const file = config(...['broken', 'refuses', 'old', 'works'].map((name) => provider(name)));
  const around = { clock: manualClock(0), log: silentLog, accounts: NONE };
  const credentials = createCredentialSource(readProviders(file, dir), around);
  const found = await credentials('a.reg.test/x', POD);
  const auth = { serverAddress: 'a.reg.test', username: 'u', password: '' };
  assert.deepEqual(found, [{ auth }]);
});

test('what is wrong with a configuration is told with its place', () => {
  program('there', '{}');
  const fails = (fields: object, what: RegExp): void => {
    assert.throws(() => readProviders(config(provider('there', fields)), dir), what);
  };
  fails({ name: 'absent' }, /config.yaml: providers\[0\].name: there is no program .*absent/);
  fails({ name: '' }, /providers\[0\].name/);
  fails({ matchImages: [] }, /providers\[0\].matchImages: at least one/);
  fails({ apiVersion: 'v2' }, /providers\[0\].apiVersion must be/);
  fails({ defaultCacheDuration: 'soon' }, /defaultCacheDuration: a duration/);
  fails({ tokenAttributes: {} }, /tokenAttributes.serviceAccountTokenAudience/);
  const token = {
    serviceAccountTokenAudience: 'a',
    cacheType: 'Token',
    requireServiceAccount: false,
  };
  fails({ tokenAttributes: { ...token, cacheType: 'Pod' } }, /cacheType must be Token/);
  const required = { ...token, requiredServiceAccountAnnotationKeys: ['k'] };
  fails({ tokenAttributes: required }, /requireServiceAccount must be true/);
  const twofold = { ...required, requireServiceAccount: true };
  const both = { ...twofold, optionalServiceAccountAnnotationKeys: ['k'] };
  fails({ tokenAttributes: both }, /annotation k is both/);
  const twice = config(provider('there'), provider('there'));
  assert.throws(() => readProviders(twice, dir), /there is named twice/);
  assert.throws(() => readProviders(config(), dir), /at least one is required/);
  assert.throws(() => readProviders(join(dir, 'none.yaml'), dir), /none.yaml: ENOENT/);
});

test('a provider gets a token and annotations of the service account, and its answer is the account’s', async () => {
  const auth = { 'eu.reg.test': { username: 'u', password: 'p' } };
  program('robot', response({ cacheKeyType: 'Registry', cacheDuration: '1h', auth }));
  const tokenAttributes = {
    serviceAccountTokenAudience: 'reg',
    cacheType: 'ServiceAccount',
    requireServiceAccount: true,
    requiredServiceAccountAnnotationKeys: ['reg/role'],
    optionalServiceAccountAnnotationKeys: ['reg/extra'],
  };
  const file = config(provider('robot', { args: [], tokenAttributes }));
  let tokens = 0;
  const accounts: AccountSource = {
    account: async (namespace, name) => ({
      metadata: {
        namespace,
        name,
        uid: `uid-${name}`,
        ...(name === 'plain' ? {} : { annotations: { 'reg/role': 'reader', other: 'x' } }),
      },
    }),
    tokens: { token: async (_pod, audience) => `token-${audience}-${++tokens}` },
  };
  const around = { clock: manualClock(0), log: silentLog, accounts };
  const credentials = createCredentialSource(readProviders(file, dir), around);
  const podOf = (serviceAccountName: string): Pod => ({
    ...POD,
    spec: { containers: [], serviceAccountName },
  });
  const account = (name: string) => ({ uid: `uid-${name}`, namespace: 'ns', name });
  const [found] = await credentials('eu.reg.test/app', podOf('robot'));
  assert.deepEqual(found?.account, account('robot'));
  assert.equal(found?.auth.password, 'p');
  const [first] = asked('robot');
  const said = JSON.parse(first?.replace(/ [^}]*$/, '') ?? '');
  assert.equal(said.serviceAccountToken, 'token-reg-1');
  assert.deepEqual(said.serviceAccountAnnotations, { 'reg/role': 'reader' });
  await credentials('eu.reg.test/other', podOf('robot'));
  assert.equal(asked('robot').length, 1, 'another token of the same account: remembered');
  assert.deepEqual(
    (await credentials('eu.reg.test/app', podOf('second')))[0]?.account,
    account('second'),
  );
  assert.equal(asked('robot').length, 2, 'another account: asked');
  assert.deepEqual(
    await credentials('eu.reg.test/app', podOf('plain')),
    [],
    'a required note is missing',
  );
  assert.deepEqual(await credentials('eu.reg.test/app', POD), [], 'no account');
});
