import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CLUSTER_INFO, verifyDetached } from '#api/bootstrap-token.ts';
import type { Secret } from '#api/types.ts';
import { configMaps, secrets } from '#client/resources.ts';
import { bootstrapSignerController } from '#controllers/bootstrap-signer-controller.ts';
import { simulate } from '#controllers/simulation.ts';
import { tokenCleanerController } from '#controllers/token-cleaner-controller.ts';

const base64 = (text: string): string => Buffer.from(text).toString('base64');
const token = { id: 'abcdef', secret: '0123456789abcdef' };

const tokenSecret = (fields: Record<string, string>): Secret => ({
  metadata: { namespace: 'kube-system', name: `bootstrap-token-${token.id}` },
  type: 'bootstrap.kubernetes.io/token',
  data: Object.fromEntries(
    Object.entries({
      'token-id': token.id,
      'token-secret': token.secret,
      'usage-bootstrap-signing': 'true',
      ...fields,
    }).map(([key, value]) => [key, base64(value)]),
  ),
});

test('cluster-info is signed by living tokens, which go when their time is up', async () => {
  const world = simulate({
    seed: 1,
    controllers: [bootstrapSignerController, tokenCleanerController],
    runPods: false,
  });
  const { api, clock } = world;
  const data = async () => (await api.get(configMaps, CLUSTER_INFO)).data ?? {};
  let signature = '';
  const isSigned = async (): Promise<boolean> => {
    signature = (await data())['jws-kubeconfig-abcdef'] ?? '';
    return signature !== '';
  };
  const wait = async (what: string, test: () => Promise<boolean>): Promise<void> => {
    for (let step = 0; step < 200; step++) {
      if (await test()) return;
      await world.advance(100);
    }
    throw new Error(what);
  };
  await api.create(configMaps, { metadata: CLUSTER_INFO, data: { kubeconfig: 'one', more: 'x' } });
  const expiration = new Date(clock.now() + 10_000).toISOString();
  await api.create(secrets, tokenSecret({ expiration }));
  await wait('signed', isSigned);
  assert.ok(verifyDetached(signature, 'one', token));
  assert.equal((await data())['more'], 'x');

  const current = await api.get(configMaps, CLUSTER_INFO);
  await api.update(configMaps, { ...current, data: { ...current.data, kubeconfig: 'two' } });
  await wait('signed again', async () => {
    await isSigned();
    return verifyDetached(signature, 'two', token);
  });

  await wait('the token is gone', async () => {
    const { items } = await api.list(secrets, { namespace: 'kube-system' });
    return items.length === 0;
  });
  await wait('its signature, too', async () => !(await isSigned()));
  await world.stop();
});
