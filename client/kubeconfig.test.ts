import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { loadKubeconfig } from '#client/kubeconfig.ts';

const directory = mkdtempSync(join(tmpdir(), 'kubeconfig-'));
after(() => rmSync(directory, { recursive: true }));

const config = (user: string): string => `apiVersion: v1
kind: Config
current-context: main
clusters:
- name: here
  cluster:
    server: https://127.0.0.1:6443
    certificate-authority-data: ${Buffer.from('CA').toString('base64')}
contexts:
- name: main
  context: {cluster: here, user: me, namespace: team}
- name: broken
  context: {cluster: elsewhere, user: me}
users:
- name: me
  user: ${user}
`;

test('inline certificates and the context namespace', () => {
  const data = Buffer.from('CERT').toString('base64');
  const found = loadKubeconfig(config(`{client-certificate-data: ${data}}`));
  assert.equal(found.server, 'https://127.0.0.1:6443');
  assert.equal(found.ca, 'CA');
  assert.equal(found.cert, 'CERT');
  assert.equal(found.namespace, 'team');
});

test('files are found beside the kubeconfig', () => {
  writeFileSync(join(directory, 'me.crt'), 'FILE CERT');
  const path = join(directory, 'config');
  writeFileSync(path, config('{client-certificate: me.crt, tokenFile: token}'));
  const found = loadKubeconfig(path);
  assert.equal(found.cert, 'FILE CERT');
  assert.equal(found.tokenFile, join(directory, 'token'));
});

test('errors name the file, the entry and what is known', () => {
  const text = config('{token: t}');
  assert.throws(() => loadKubeconfig(text, { context: 'nope' }), /"nope".*known: main, broken/);
  assert.throws(() => loadKubeconfig(text, { context: 'broken' }), /cluster "elsewhere"/);
  assert.throws(() => loadKubeconfig('/nowhere/config'), /cannot read \/nowhere\/config/);
  assert.throws(() => loadKubeconfig('a: [\n'), /kubeconfig: /);
});
