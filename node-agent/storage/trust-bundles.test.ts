import assert from 'node:assert/strict';
import { test } from 'node:test';
import { simulateApi } from '#client/simulated-api.ts';
import { dynamicResource } from '#client/resources.ts';
import { trustBundles } from '#node-agent/storage/trust-bundles.ts';

const pem = (text: string): string =>
  `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----`;
const resource = dynamicResource({
  group: 'certificates.k8s.io',
  version: 'v1beta1',
  resource: 'clustertrustbundles',
  kind: 'ClusterTrustBundle',
  namespaced: false,
});

test('bundles are found by name, or by signer and labels, and joined without doubles', async () => {
  const api = simulateApi();
  const bundle = (name: string, live: string, trustBundle: string) =>
    api.create(resource, {
      metadata: { name, labels: { live } },
      spec: { signerName: 'a.test/ca', trustBundle },
    });
  await bundle('one', 'yes', `# comment\n${pem('AA')}\n`);
  await bundle('two', 'yes', `${pem('AA')}\n${pem('BB')}`);
  await bundle('old', 'no', pem('CC'));
  const read = trustBundles(api);
  const signerName = 'a.test/ca';
  assert.equal(await read({ name: 'one' }), `${pem('AA')}\n`);
  assert.equal(
    await read({ signerName, labelSelector: { matchLabels: { live: 'yes' } } }),
    `${pem('AA')}\n${pem('BB')}\n`,
  );
  assert.match(await read({ signerName, labelSelector: {} }), /CC/);
  await assert.rejects(read({ name: 'none' }), /ClusterTrustBundle "none" not found/);
  assert.equal(await read({ name: 'none', optional: true }), '');
  await assert.rejects(read({ signerName }), /matched zero ClusterTrustBundles/);
});
