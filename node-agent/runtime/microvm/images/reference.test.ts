import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isRuntimeError } from '#node-agent/runtime/service.ts';
import { choosePlatform, readImageConfig, readManifest } from './manifest.ts';
import { parseReference, taggedName } from '#base/oci/image-reference.ts';
import { parseHostsToml } from './registry-hosts.ts';

const DIGEST = `sha256:${'a'.repeat(64)}`;

test('names in their short and long forms', () => {
  const table: Record<string, string | undefined> = {
    busybox: 'docker.io/library/busybox:latest',
    'a/b:1': 'docker.io/a/b:1',
    'docker.io/busybox': 'docker.io/library/busybox:latest',
    'localhost:5000/x:v1': 'localhost:5000/x:v1',
    'gantry.internal/test/busybox:1': 'gantry.internal/test/busybox:1',
    'reg:5000/x': 'reg:5000/x:latest',
    [`a.b/c@${DIGEST}`]: undefined,
  };
  for (const [name, full] of Object.entries(table))
    assert.equal(taggedName(parseReference(name)), full, name);
  assert.equal(parseReference(`a.b/c:1@${DIGEST}`).digest, DIGEST);
  for (const bad of ['', 'A/b', 'a/b:', 'a b', 'a@sha256:1', 'a//b', 'x/../y'])
    assert.throws(() => parseReference(bad), /invalid reference format/, bad);
});

test('hosts.toml names mirrors in order, then the server', () => {
  const text = [
    'server = "https://registry.example"',
    '[host."http://127.0.0.1:5000"]',
    '  capabilities = ["pull", "resolve"]',
    '[host."https://push.example"]',
    '  capabilities = ["push"]',
    "[host.'mirror.example']",
    '  skip_verify = true',
  ].join('\n');
  assert.deepEqual(parseHostsToml(text, 'https://x'), [
    { url: 'http://127.0.0.1:5000', skipVerify: false },
    { url: 'https://mirror.example', skipVerify: true },
    { url: 'https://registry.example', skipVerify: false },
  ]);
  assert.deepEqual(parseHostsToml('', 'https://x'), [{ url: 'https://x', skipVerify: false }]);
});

test('an image that is not made for this machine says what it is made for', () => {
  const one = (architecture: string) => ({
    mediaType: '',
    digest: DIGEST,
    size: 1,
    platform: { os: 'linux', architecture },
  });
  assert.equal(choosePlatform('x', [one('arm64'), one('amd64')], 'amd64').digest, DIGEST);
  assert.throws(
    () => choosePlatform('x', [one('arm64'), one('s390x')], 'amd64'),
    (error) =>
      isRuntimeError(error) && /linux\/arm64, linux\/s390x.*has linux\/amd64/.test(error.message),
  );
  const config = Buffer.from('{"architecture":"arm64","os":"linux","rootfs":{"diff_ids":[]}}');
  assert.throws(() => readImageConfig('x', config, 0, 'amd64'), /made for linux\/arm64/);
});

test('manifests that are none are named', () => {
  for (const text of ['', '[', '{}', '{"config":{"digest":"x"},"layers":[]}', '{"layers":3}'])
    assert.throws(() => readManifest('x', Buffer.from(text)), /image "x"/, text);
});
