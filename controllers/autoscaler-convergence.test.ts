import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTime } from '#api/time.ts';
import type { Deployment, HorizontalPodAutoscaler, KubeObject } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { deployments, horizontalPodAutoscalers, pods } from '#client/resources.ts';
import type { SimulatedApi } from '#client/simulated-api.ts';
import { deploymentController } from '#controllers/deployment-controller.ts';
import { horizontalPodAutoscalerController } from '#controllers/horizontal-pod-autoscaler-controller.ts';
import { isActive, isReady } from '#controllers/pods.ts';
import { replicaSetController } from '#controllers/replicaset-controller.ts';
import { simulate } from '#controllers/simulation.ts';

const key = { namespace: 'd', name: 'web' };
const REQUEST_MILLI = 100;

/** Adds the scale subresource and a metrics API that shares `load.milli` among the ready pods. */
function withMetrics(api: SimulatedApi, load: { milli: number }, now: () => number): Api {
  const deployment = (): Deployment => api.all(deployments)[0] ?? assert.fail('no deployment');
  const scale = (): KubeObject => ({
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { ...key },
    spec: { replicas: deployment().spec?.replicas ?? 0 },
    status: { replicas: deployment().status?.replicas ?? 0, selector: 'app=web' },
  });
  const metrics = (): KubeObject[] => {
    const serving = api.all(pods).filter((pod) => isActive(pod) && isReady(pod));
    const cpu = `${Math.round(load.milli / Math.max(1, serving.length))}m`;
    const containers = [{ name: 'c', usage: { cpu } }];
    const timestamp = formatTime(now());
    return serving.map(({ metadata }) => ({ metadata, timestamp, window: '15s', containers }));
  };
  return {
    ...api,
    get: (async (resource, at, options) =>
      options?.subresource === 'scale' ? scale() : api.get(resource, at, options)) as Api['get'],
    list: (async (resource, options) =>
      resource.group === 'metrics.k8s.io'
        ? { apiVersion: '', kind: '', metadata: {}, items: metrics() }
        : api.list(resource, options)) as Api['list'],
    update: (async (resource, object, options) => {
      if (options?.subresource !== 'scale') return api.update(resource, object, options);
      const { replicas } = object.spec as { replicas: number };
      await api.patch(deployments, key, { type: 'merge', body: { spec: { replicas } } });
      return scale();
    }) as Api['update'],
  };
}

test('replicas follow the load up within a minute and down after five', async () => {
  const load = { milli: 60 };
  let now = (): number => 0;
  const sim = simulate({
    seed: 1,
    controllers: [horizontalPodAutoscalerController, deploymentController, replicaSetController],
    wrap: (api) => withMetrics(api, load, () => now()),
  });
  now = () => sim.clock.now();
  const resources = { requests: { cpu: `${REQUEST_MILLI}m` } };
  await sim.api.create(deployments, {
    metadata: { ...key },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'c', image: 'i', resources }] },
      },
    },
  });
  const cpu = { name: 'cpu', target: { type: 'Utilization', averageUtilization: 60 } };
  await sim.api.create(horizontalPodAutoscalers, {
    metadata: { ...key },
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
      minReplicas: 1,
      maxReplicas: 8,
      metrics: [{ type: 'Resource', resource: cpu }],
    },
  });
  const replicas = (): number => sim.api.all(deployments)[0]?.spec?.replicas ?? 0;
  // New pods do not count at once: their first CPU figures say nothing.
  await sim.advance(400_000);
  assert.equal(replicas(), 1);
  load.milli = 300;
  await sim.until(() => replicas() === 5, 'grown', 60_000);
  await sim.advance(60_000);
  assert.equal(replicas(), 5);
  load.milli = 60;
  await sim.advance(200_000);
  assert.equal(replicas(), 5);
  await sim.until(() => replicas() === 1, 'shrunk', 200_000);
  const status = (): HorizontalPodAutoscaler['status'] =>
    sim.api.all(horizontalPodAutoscalers)[0]?.status;
  await sim.advance(16_000);
  assert.equal(status()?.currentReplicas, 1);
  assert.ok(sim.said.some((line) => line.includes('New size: 5; reason: cpu resource')));
  await sim.stop();
});
