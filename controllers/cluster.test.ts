import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import { ADMIN, startTestServer, type TestServer } from '#apiserver/testing.ts';
import { isStatusError } from '#api/status.ts';
import type { Deployment, KubeObject, ObjectKey, Pod } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { createInformers, type Informers } from '#client/informer-factory.ts';
import * as resources from '#client/resources.ts';
import { start } from '#controllers/start.ts';

/** All controllers against a real API server in this process; the test plays the node. */

const stop = new AbortController();
let server: TestServer;
let api: Api;
let informers: Informers;
let done: Promise<void>;

before(async () => {
  server = await startTestServer();
  const { handle } = server;
  const apiAs = (userAgent: string): Api =>
    createApi(inProcessTransport(handle, ADMIN), { userAgent });
  api = apiAs('test');
  const { signal } = stop;
  informers = createInformers(api, { signal, freeze: true });
  const config = { api: apiAs('controllers'), rootCa: server.caPem };
  ({ done } = start(config, { signal, log: silentLog }));
});

after(async () => {
  stop.abort(new Error('the test is over'));
  const ended = await Promise.allSettled([done, informers.done()]);
  await server.close();
  assert.deepEqual(
    ended.map((one) => one.status),
    ['fulfilled', 'fulfilled'],
  );
});

/** Waits, by watch, until `test` holds for a resource's objects. */
async function until<T extends KubeObject>(
  resource: Resource<T>,
  what: string,
  test: (objects: T[]) => boolean,
): Promise<T[]> {
  const informer = informers.of(resource);
  await informer.synced();
  if (test(informer.list())) return informer.list();
  const met = Promise.withResolvers<T[]>();
  const timer = setTimeout(() => {
    const seen = informer.list().map((object) => object.metadata.name);
    met.reject(new Error(`not within 10 s: ${what}; there are ${seen.join(', ')}`));
  }, 10_000);
  const leave = informer.onChange(() => {
    if (test(informer.list())) met.resolve(informer.list());
  });
  try {
    return await met.promise;
  } finally {
    clearTimeout(timer);
    leave();
  }
}

const inSpace =
  (namespace: string) =>
  (object: KubeObject): boolean =>
    object.metadata.namespace === namespace;

async function makeSpace(name: string): Promise<void> {
  await api.create(resources.namespaces, { metadata: { name } });
  await until(resources.serviceAccounts, 'default service account', (all) =>
    all.some(inSpace(name)),
  );
}

function web(namespace: string, image = 'v1'): Deployment {
  return {
    metadata: { namespace, name: 'web' },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: {
          containers: [{ name: 'c', image, ports: [{ name: 'http', containerPort: 8080 }] }],
        },
      },
    },
  };
}

/** What a node agent would say of a pod that runs well. */
async function makeReady(pod: Pod, ip: string): Promise<void> {
  const key: ObjectKey = { namespace: pod.metadata.namespace, name: pod.metadata.name ?? '' };
  const lastTransitionTime = new Date().toISOString();
  const conditions = [{ type: 'Ready', status: 'True', lastTransitionTime }];
  const status = { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions };
  const patch = { type: 'merge', body: { status } } as const;
  await api.patch(resources.pods, key, patch, { subresource: 'status' });
}

let lastIp = 1;
async function makeAllReady(namespace: string, count: number): Promise<void> {
  const isNew = (pod: Pod): boolean => inSpace(namespace)(pod) && !pod.status?.podIP;
  const found = await until(
    resources.pods,
    `${count} new pods`,
    (all) => all.filter(isNew).length === count,
  );
  for (const pod of found.filter(isNew)) await makeReady(pod, `10.0.0.${lastIp++}`);
}

test('a namespace gets its service account and the root CA, and they come back', async () => {
  await makeSpace('born');
  const find = (all: KubeObject[]): KubeObject | undefined =>
    all.find((o) => inSpace('born')(o) && o.metadata.name === 'kube-root-ca.crt');
  const maps = await until(resources.configMaps, 'root CA', (all) => find(all) !== undefined);
  const uid = find(maps)?.metadata.uid;
  await api.delete(resources.configMaps, { namespace: 'born', name: 'kube-root-ca.crt' });
  await until(resources.configMaps, 'root CA again', (all) => {
    const again = find(all);
    return again !== undefined && again.metadata.uid !== uid;
  });
});

test('a deployment makes pods, a service finds them, a new image rolls', async () => {
  await makeSpace('roll');
  await api.create(resources.deployments, web('roll'));
  await api.create(resources.services, {
    metadata: { namespace: 'roll', name: 'web' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] },
  });
  await makeAllReady('roll', 3);
  const slices = await until(
    resources.endpointSlices,
    '3 ready endpoints',
    (all) =>
      all
        .filter(inSpace('roll'))
        .flatMap((s) => s.endpoints ?? [])
        .filter((e) => e.conditions?.ready).length === 3,
  );
  assert.equal(slices.find(inSpace('roll'))?.ports?.[0]?.port, 8080);
  await until(
    resources.endpoints,
    '3 addresses',
    (all) => all.find(inSpace('roll'))?.subsets?.[0]?.addresses?.length === 3,
  );
  const isDone = (all: Deployment[]): boolean => {
    const { status, metadata } = all.find(inSpace('roll')) ?? {};
    return (
      status?.availableReplicas === 3 &&
      status.updatedReplicas === 3 &&
      status.replicas === 3 &&
      status.observedGeneration === metadata?.generation
    );
  };
  await until(resources.deployments, 'rolled out', isDone);
  const patch = { type: 'merge', body: { spec: { template: web('roll', 'v2').spec?.template } } };
  await api.patch(resources.deployments, { namespace: 'roll', name: 'web' }, patch as never);
  for (let round = 0; round < 3; round++) await makeAllReady('roll', 1);
  const [deployment] = (await until(resources.deployments, 'rolled to v2', isDone)).filter(
    inSpace('roll'),
  );
  assert.equal(deployment?.metadata.annotations?.['deployment.kubernetes.io/revision'], '2');
  const progressing = deployment?.status?.conditions?.find((c) => c.type === 'Progressing');
  assert.equal(progressing?.reason, 'NewReplicaSetAvailable');
});

test('deleting a deployment deletes its replica sets and pods', async () => {
  await makeSpace('gone');
  await api.create(resources.deployments, web('gone'));
  await until(resources.pods, '3 pods', (all) => all.filter(inSpace('gone')).length === 3);
  await api.delete(resources.deployments, { namespace: 'gone', name: 'web' });
  await until(resources.replicaSets, 'no sets', (all) => !all.some(inSpace('gone')));
  await until(resources.pods, 'no pods', (all) => !all.some(inSpace('gone')));
});

test('foreground deletion ends with the owner, orphaning keeps the dependents', async () => {
  await makeSpace('kept');
  const key = { namespace: 'kept', name: 'web' };
  await api.create(resources.deployments, web('kept'));
  await until(resources.pods, '3 pods', (all) => all.filter(inSpace('kept')).length === 3);
  await api.delete(resources.deployments, key, { propagationPolicy: 'Orphan' });
  await until(resources.deployments, 'no deployment', (all) => !all.some(inSpace('kept')));
  const [set] = (await api.list(resources.replicaSets, { namespace: 'kept' })).items;
  assert.equal(set?.metadata.ownerReferences, undefined);
  const name = set?.metadata.name ?? '';
  await api.delete(
    resources.replicaSets,
    { namespace: 'kept', name },
    { propagationPolicy: 'Foreground' },
  );
  await until(resources.replicaSets, 'no sets', (all) => !all.some(inSpace('kept')));
  assert.equal((await api.list(resources.pods, { namespace: 'kept' })).items.length, 0);
});

test('a deleted namespace is emptied and goes', async () => {
  await makeSpace('ends');
  await api.create(resources.deployments, web('ends'));
  await until(resources.pods, '3 pods', (all) => all.filter(inSpace('ends')).length === 3);
  await api.delete(resources.namespaces, { name: 'ends' });
  await until(
    resources.namespaces,
    'namespace gone',
    (all) => !all.some((o) => o.metadata.name === 'ends'),
  );
  for (const resource of [resources.pods, resources.replicaSets, resources.configMaps]) {
    const left = await api.list(resource as Resource, { namespace: 'ends' });
    assert.deepEqual(left.items, []);
  }
  await assert.rejects(api.get(resources.namespaces, { name: 'ends' }), (e) =>
    isStatusError(e, 'NotFound'),
  );
});
