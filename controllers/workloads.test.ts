import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { ADMIN, startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Job, KubeObject, PersistentVolumeClaim, Pod, PodTemplateSpec } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { createInformers, type Informers } from '#client/informer-factory.ts';
import * as resources from '#client/resources.ts';
import { targetNode } from '#controllers/daemonset-pods.ts';
import { start } from '#controllers/start.ts';

/**
 * The workload controllers against a real API server in this process, with its defaults, its
 * validation and the rights of the controller manager; the test plays scheduler and node agents.
 */

const MANAGER = {
  name: 'system:kube-controller-manager',
  uid: '',
  groups: ['system:authenticated'],
  extra: {},
};
const NODES = ['n0', 'n1'];
const merge = (body: unknown) => ({ type: 'merge', body }) as const;
const stop = new AbortController();
let server: TestServer;
let api: Api;
let informers: Informers;
let done: Promise<void>;
/** What the played agents could not do. */
const troubles: string[] = [];

before(async () => {
  server = await startTestServer();
  const { handle } = server;
  api = createApi(inProcessTransport(handle, ADMIN), { userAgent: 'test' });
  const { signal } = stop;
  informers = createInformers(api, { signal });
  const manager = createApi(inProcessTransport(handle, MANAGER), { userAgent: 'controllers' });
  // A node without an agent would be given up, and the workloads with it.
  const controllers = ['*', '-node-lifecycle-controller', '-pod-garbage-collector-controller'];
  const config = { api: manager, rootCa: server.caPem, controllers };
  ({ done } = start(config, { signal, log: silentLog }));
  for (const name of NODES) {
    await api.create(resources.nodes, { metadata: { name } });
    // New nodes are tainted until their agent says that it is ready.
    await api.patch(resources.nodes, { name }, merge({ spec: { taints: null } }));
  }
  await api.create(resources.namespaces, { metadata: { name: 'w' } });
  await until(resources.serviceAccounts, 'service account', (all) => all.length > 0);
  playAgents();
});

after(async () => {
  stop.abort(new Error('the test is over'));
  await Promise.allSettled([done, informers.done()]);
  await server.close();
});

/** Binds pods, makes them ready, ends those of jobs and confirms deletions. */
function playAgents(): void {
  let turn = 0;
  informers.of(resources.pods).onChange(({ type, object: pod }) => {
    const { namespace, name = '', deletionTimestamp } = pod.metadata;
    if (type === 'deleted') return;
    const key = { namespace, name };
    const act = async (): Promise<unknown> => {
      if (deletionTimestamp) return api.delete(resources.pods, key, { gracePeriodSeconds: 0 });
      if (!pod.spec.nodeName) {
        const target = { kind: 'Node', name: targetNode(pod) || NODES[turn++ % 2] };
        const binding = { apiVersion: 'v1', kind: 'Binding', metadata: { name }, target };
        return api.post(resources.pods, key, 'binding', binding);
      }
      const phase = pod.status?.phase;
      const isJob = pod.spec.restartPolicy === 'Never';
      if (phase === 'Pending') return say(pod, 'Running', 'True');
      if (phase === 'Running' && isJob) return say(pod, 'Succeeded', 'False');
      return undefined;
    };
    act().catch((error: unknown) => {
      const text = String(error);
      if (!/not found|already assigned|modified|Conflict/i.test(text)) troubles.push(text);
    });
  });
}

function say(pod: Pod, phase: string, ready: string): Promise<unknown> {
  const { namespace, name = '' } = pod.metadata;
  const lastTransitionTime = new Date().toISOString();
  const conditions = [{ type: 'Ready', status: ready, lastTransitionTime }];
  const patch = { type: 'merge', body: { status: { phase, conditions } } } as const;
  return api.patch(resources.pods, { namespace, name }, patch, { subresource: 'status' });
}

/** Waits, by watch, until `test` holds for a resource's objects in the test's namespace. */
async function until<T extends KubeObject>(
  resource: Resource<T>,
  what: string,
  test: (objects: T[]) => boolean,
): Promise<T[]> {
  const informer = informers.of(resource);
  await informer.synced();
  const now = (): T[] => informer.list(resource.namespaced ? 'w' : undefined);
  if (test(now())) return now();
  const met = Promise.withResolvers<T[]>();
  const timer = setTimeout(() => {
    const seen = JSON.stringify(now().map(({ metadata, status }) => [metadata.name, status]));
    const said = informers.of(resources.events).list('w');
    const events = said.map(({ reason, message }) => `${reason} ${message}`).join('\n');
    met.reject(new Error(`not within 10 s: ${what}; there are ${seen}\n${events}`));
  }, 10_000);
  const leave = informer.onChange(() => {
    if (test(now())) met.resolve(now());
  });
  try {
    return await met.promise;
  } finally {
    clearTimeout(timer);
    leave();
  }
}

function template(app: string, image = 'v1', restartPolicy = 'Always'): PodTemplateSpec {
  return {
    metadata: { labels: { app } },
    spec: { restartPolicy, containers: [{ name: 'c', image }] },
  };
}

test('a stateful set with claims is created, rolled and scaled', async () => {
  const key = { namespace: 'w', name: 'db' };
  const spec = { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } };
  await api.create(resources.statefulSets, {
    metadata: { ...key },
    spec: {
      replicas: 2,
      serviceName: 'db',
      selector: { matchLabels: { app: 'db' } },
      template: template('db'),
      volumeClaimTemplates: [{ metadata: { name: 'data' }, spec }],
      persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Delete' },
    },
  });
  const settled = (replicas: number, updated: boolean) =>
    until(resources.statefulSets, `${replicas} members`, (all) => {
      const { status, metadata } = all[0] ?? {};
      return (
        status?.readyReplicas === replicas &&
        status.replicas === replicas &&
        status.observedGeneration === metadata?.generation &&
        (!updated || status.currentRevision === status.updateRevision)
      );
    });
  await settled(2, true);
  const isBound = (all: PersistentVolumeClaim[]): boolean =>
    all.length === 2 && all.every((claim) => claim.status?.phase === 'Bound');
  await until(resources.persistentVolumeClaims, 'claims of the default class', isBound);
  const volumes = await until(resources.persistentVolumes, 'volumes', (all) => all.length === 2);
  assert.ok(volumes.every((volume) => volume.spec?.csi?.driver === 'local.gantry.dev'));
  const patched = await api.patch(
    resources.statefulSets,
    key,
    merge({ spec: { template: template('db', 'v2') } }),
  );
  await until(resources.statefulSets, 'v2', (all) => {
    const { status } = all[0] ?? {};
    return (
      status?.observedGeneration === patched.metadata.generation &&
      status?.updatedReplicas === 2 &&
      status.readyReplicas === 2 &&
      status.currentRevision === status.updateRevision
    );
  });
  const revisions = await api.list(resources.controllerRevisions, { namespace: 'w' });
  assert.equal(revisions.items.length, 2);
  await api.patch(resources.statefulSets, key, merge({ spec: { replicas: 1 } }));
  await settled(1, true);
  await until(
    resources.persistentVolumeClaims,
    'the claim of the surplus member gone',
    (all) => all.length === 1,
  );
  await api.delete(resources.statefulSets, key);
  await until(resources.persistentVolumeClaims, 'no claims', (all) => all.length === 0);
  await until(resources.persistentVolumes, 'no volumes', (all) => all.length === 0);
});

test('a daemon set runs on each node and rolls', async () => {
  const key = { namespace: 'w', name: 'agent' };
  await api.create(resources.daemonSets, {
    metadata: { ...key },
    spec: { selector: { matchLabels: { app: 'agent' } }, template: template('agent') },
  });
  const isUp = (generation: number) =>
    until(resources.daemonSets, `generation ${generation}`, (all) => {
      const { status } = all[0] ?? {};
      return (
        status?.observedGeneration === generation &&
        status.numberAvailable === 2 &&
        status.updatedNumberScheduled === 2
      );
    });
  await isUp(1);
  await api.patch(
    resources.daemonSets,
    key,
    merge({ spec: { template: template('agent', 'v2') } }),
  );
  await isUp(2);
  const { items } = await api.list(resources.pods, { namespace: 'w', labelSelector: 'app=agent' });
  assert.deepEqual(new Set(items.map((pod) => pod.spec.nodeName)), new Set(NODES));
  await api.delete(resources.daemonSets, key);
});

test('jobs run to completion, also those of a cron job', async () => {
  const work = template('work', 'v1', 'Never');
  await api.create(resources.jobs, {
    metadata: { namespace: 'w', name: 'work' },
    spec: { completions: 3, parallelism: 2, completionMode: 'Indexed', template: work },
  });
  const isDone = (all: Job[]): boolean =>
    all[0]?.status?.conditions?.some((one) => one.type === 'Complete') ?? false;
  const [job] = await until(resources.jobs, 'complete', isDone);
  assert.equal(job?.status?.completedIndexes, '0-2');
  assert.equal(job?.status?.succeeded, 3);
  await api.delete(
    resources.jobs,
    { namespace: 'w', name: 'work' },
    {
      propagationPolicy: 'Background',
    },
  );
  await until(resources.pods, 'no pods of the job', (all) =>
    all.every((pod) => pod.metadata.labels?.['app'] !== 'work'),
  );
  await api.create(resources.cronJobs, {
    metadata: { namespace: 'w', name: 'tick' },
    spec: { schedule: '@every 1s', jobTemplate: { spec: { template: work } } },
  });
  await until(resources.cronJobs, 'a success', (all) =>
    Boolean(all[0]?.status?.lastSuccessfulTime),
  );
  await api.delete(resources.cronJobs, { namespace: 'w', name: 'tick' });
});

test('a replication controller, its budget and a quota agree', async () => {
  await api.create(resources.resourceQuotas, {
    metadata: { namespace: 'w', name: 'q' },
    spec: { hard: { replicationcontrollers: '1', 'count/configmaps': '9' } },
  });
  await until(
    resources.resourceQuotas,
    'counted',
    (all) => all[0]?.status?.used?.['replicationcontrollers'] === '0',
  );
  await api.create(resources.replicationControllers, {
    metadata: { namespace: 'w', name: 'old' },
    spec: { replicas: 2, selector: { app: 'old' }, template: template('old') },
  });
  await api.create(resources.podDisruptionBudgets, {
    metadata: { namespace: 'w', name: 'b' },
    spec: { maxUnavailable: 1, selector: { matchLabels: { app: 'old' } } },
  });
  await until(
    resources.replicationControllers,
    'two pods',
    (all) => all[0]?.status?.readyReplicas === 2,
  );
  await until(
    resources.podDisruptionBudgets,
    'one may go',
    (all) => all[0]?.status?.disruptionsAllowed === 1,
  );
  await until(
    resources.resourceQuotas,
    'one counted',
    (all) => all[0]?.status?.used?.['replicationcontrollers'] === '1',
  );
  await api.delete(
    resources.replicationControllers,
    { namespace: 'w', name: 'old' },
    {
      propagationPolicy: 'Background',
    },
  );
  await until(
    resources.resourceQuotas,
    'given back',
    (all) => all[0]?.status?.used?.['replicationcontrollers'] === '0',
  );
});

test('a claim and a volume are bound, and protected until nobody needs them', async () => {
  await api.create(resources.persistentVolumes, {
    metadata: { name: 'v' },
    spec: {
      capacity: { storage: '5Gi' },
      accessModes: ['ReadWriteOnce'],
      hostPath: { path: '/tmp/v' },
      storageClassName: 'manual',
    },
  });
  await api.create(resources.persistentVolumeClaims, {
    metadata: { namespace: 'w', name: 'c' },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'manual',
      resources: { requests: { storage: '1Gi' } },
    },
  });
  const [claim] = await until(
    resources.persistentVolumeClaims,
    'bound',
    (all) => all[0]?.status?.phase === 'Bound',
  );
  assert.deepEqual(claim?.status?.capacity, { storage: '5Gi' });
  await until(resources.persistentVolumes, 'bound', (all) => all[0]?.status?.phase === 'Bound');
  await api.delete(resources.persistentVolumes, { name: 'v' });
  await api.delete(resources.persistentVolumeClaims, { namespace: 'w', name: 'c' });
  await until(resources.persistentVolumes, 'gone', (all) => all.length === 0);
  assert.deepEqual(troubles, []);
});
