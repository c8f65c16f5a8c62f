import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KubeObject, Pod, ResourceQuota } from '#api/types.ts';
import { configMaps, pods, resourceQuotas, services } from '#client/resources.ts';
import {
  kindsOf,
  planQuota,
  resourceQuotaController,
} from '#controllers/resourcequota-controller.ts';
import { simulate } from '#controllers/simulation.ts';

const key = { namespace: 'd', name: 'q' };

function pod(name: string, cpu: string, more: Partial<Pod['spec']> = {}): Pod {
  const resources = cpu ? { requests: { cpu, memory: '64Mi' } } : {};
  return {
    metadata: { namespace: 'd', name },
    spec: { containers: [{ name: 'c', image: 'i', resources }], ...more },
  };
}

function quota(hard: Record<string, string>, scopes?: string[]): ResourceQuota {
  return { metadata: { ...key }, spec: { hard, ...(scopes ? { scopes } : {}) } };
}

function usedBy(of: ResourceQuota, list: KubeObject[]): Record<string, string> | undefined {
  const kind = { group: '', plural: 'pods' };
  const [write] = planQuota({ quota: of, objects: [{ kind, objects: list }] }, 0).actions;
  assert.ok(write?.type === 'updateStatus');
  return (write.object as ResourceQuota).status?.used;
}

test('names lead to kinds', () => {
  const names = {
    pods: '1',
    'requests.cpu': '1',
    'services.nodeports': '1',
    'count/deployments.apps': '1',
    'requests.storage': '1',
    'fast.storageclass.storage.k8s.io/requests.storage': '1',
    'requests.example.com/gpu': '1',
  };
  assert.deepEqual(
    kindsOf(names).map(({ group, plural }) => `${plural}.${group}`),
    ['pods.', 'services.', 'deployments.apps', 'persistentvolumeclaims.'],
  );
});

test('amounts are added in the form in which they came', () => {
  const hard = { pods: '5', 'requests.cpu': '2', 'requests.memory': '1Gi', 'limits.cpu': '1' };
  const used = usedBy(quota(hard), [pod('a', '250m'), pod('b', '500m'), pod('c', '')]);
  assert.deepEqual(used, {
    pods: '3',
    'requests.cpu': '750m',
    'requests.memory': '128Mi',
    'limits.cpu': '0',
  });
});

test('scopes choose among pods; ended ones count as objects only', () => {
  const list = [pod('a', '1'), pod('b', ''), pod('c', '', { activeDeadlineSeconds: 5 })];
  const ended: Pod = { ...pod('e', '1'), status: { phase: 'Succeeded' } };
  const hard = { pods: '5' };
  assert.equal(usedBy(quota(hard, ['BestEffort']), list)?.['pods'], '2');
  assert.equal(usedBy(quota(hard, ['NotBestEffort']), list)?.['pods'], '1');
  assert.equal(usedBy(quota(hard, ['Terminating']), list)?.['pods'], '1');
  const counts = { pods: '5', 'count/pods': '5' };
  assert.deepEqual(usedBy(quota(counts), [...list, ended]), { pods: '3', 'count/pods': '4' });
});

test('the status follows the spec and what comes and goes', async () => {
  const sim = simulate({ seed: 1, controllers: [resourceQuotaController], runPods: false });
  const status = () => sim.api.all(resourceQuotas)[0]?.status;
  await sim.api.create(resourceQuotas, quota({ pods: '5', configmaps: '3' }));
  await sim.until(() => status()?.used?.['pods'] === '0', 'counted');
  assert.deepEqual(status(), {
    hard: { pods: '5', configmaps: '3' },
    used: { pods: '0', configmaps: '0' },
  });
  await sim.api.create(pods, pod('a', '1'));
  await sim.api.create(configMaps, { metadata: { namespace: 'd', name: 'm' } });
  await sim.until(() => status()?.used?.['pods'] === '1', 'one pod');
  await sim.until(() => status()?.used?.['configmaps'] === '1', 'one map');
  await sim.api.delete(pods, { namespace: 'd', name: 'a' });
  await sim.advance(100);
  assert.equal(status()?.used?.['pods'], '0');
  const body = { spec: { hard: { services: '2', pods: null, configmaps: null } } };
  await sim.api.patch(resourceQuotas, key, { type: 'merge', body });
  await sim.api.create(services, { metadata: { namespace: 'd', name: 's' } });
  await sim.until(() => status()?.used?.['services'] === '1', 'one service');
  assert.deepEqual(Object.keys(status()?.hard ?? {}), ['services']);
  await sim.stop();
});
