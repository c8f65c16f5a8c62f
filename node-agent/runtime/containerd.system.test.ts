import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import {
  missingForTestRuntime,
  startTestRuntime,
  TEST_IMAGE,
  type TestRuntime,
} from '#node-agent/testing.ts';
import { connectContainerd, featuresOf, handlerFeatures } from '#node-agent/runtime/containerd.ts';
import { isRuntimeError } from '#node-agent/runtime/service.ts';
import { runtimeSuite } from '#node-agent/runtime/suite.ts';

const skip = missingForTestRuntime() ?? false;
let started: TestRuntime | undefined;

before(async () => {
  if (!skip) started = await startTestRuntime();
});
after(() => started?.close());

runtimeSuite(
  'containerd',
  () => {
    assert.ok(started);
    return { runtime: started.client, image: TEST_IMAGE, logDir: join(started.dir, 'logs') };
  },
  skip,
);

test('a socket where nobody answers is named as such', async () => {
  const client = connectContainerd({ endpoint: 'unix:///tmp/G-no-such.sock' });
  await assert.rejects(client.version(), (error) => {
    assert.ok(isRuntimeError(error, 'Unavailable'), String(error));
    return /not reachable/.test(error.message);
  });
  client.close();
});

test('features by version', () => {
  assert.equal(featuresOf('containerd', '1.6.20~ds1').imageVolumes, false);
  assert.equal(featuresOf('containerd', 'v2.1.0').imageVolumes, true);
  assert.equal(featuresOf('containerd', '2.0.4').userNamespaces, false);
  assert.equal(featuresOf('gantry-microvm').recursiveReadOnlyMounts, true);
  assert.equal(featuresOf('other', '9.9').userNamespaces, false);
  const version = { features: featuresOf('containerd', '2.1.9') };
  const handlers = [
    { name: '', features: { recursiveReadOnlyMounts: true, userNamespaces: true } },
    { name: 'old', features: { recursiveReadOnlyMounts: false, userNamespaces: false } },
  ];
  const of = (name: string) => handlerFeatures(name, version, handlers);
  assert.equal(of('').userNamespaces, true);
  assert.equal(of('').imageVolumes, true);
  assert.equal(of('old').userNamespaces, false);
  assert.equal(of('old').recursiveReadOnlyMounts, false);
  assert.equal(of('unknown').userNamespaces, false);
});
