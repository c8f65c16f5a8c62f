import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '#base/log.ts';
import type { Api } from '#client/api.ts';
import { choosePodNetwork, cniConfDir } from '#node-agent/pods/pod-network.ts';

test('the pod network is ours where the node may read what its rules are made of', async () => {
  const asked: string[] = [];
  const apiThatAllows = (allowed: readonly string[]) =>
    ({
      create: async (
        _: unknown,
        review: { spec: { resourceAttributes: { resource: string } } },
      ) => {
        const { resource } = review.spec.resourceAttributes;
        asked.push(resource);
        return { status: { allowed: allowed.includes(resource) } };
      },
    }) as unknown as Api;
  const around = { log: silentLog };
  const all = ['endpointslices', 'networkpolicies', 'namespaces'];
  assert.equal(await choosePodNetwork({ api: apiThatAllows(all) }, around), 'own');
  assert.equal(await choosePodNetwork({ api: apiThatAllows(['endpointslices']) }, around), 'cni');
  assert.equal(
    await choosePodNetwork({ api: apiThatAllows([]), podNetwork: 'own' }, around),
    'own',
  );
  const away = { create: () => Promise.reject(new Error('away')) } as unknown as Api;
  assert.equal(await choosePodNetwork({ api: away }, around), 'own');
  assert.equal(cniConfDir({ rootDir: '/r' }, 'own'), '/r/cni');
  assert.equal(cniConfDir({ rootDir: '/r' }, 'cni'), '/etc/cni/net.d');
  assert.equal(cniConfDir({ rootDir: '/r', cniConfDir: '/c' }, 'cni'), '/c');
});
