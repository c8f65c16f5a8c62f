import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { cannotRun, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { BUSYBOX } from '#e2e/workloads.ts';

const skip = cannotRun() ?? false;
const NODES = ['e2e-node', 'e2e-node-2'];
const STAY = 'trap "exit 0" TERM; while true; do sleep 1; done';
const FAKE = 'example.com/dongle';

type Condition = { type: string; status: string; reason?: string };
type Item = {
  metadata: {
    name: string;
    uid: string;
    labels: Record<string, string>;
    ownerReferences?: unknown[];
    deletionTimestamp?: string;
  };
  spec: { nodeName: string; containers: { image: string }[] };
  status: {
    phase: string;
    reason?: string;
    conditions?: Condition[];
    completedIndexes?: string;
    failedIndexes?: string;
    updateRevision?: string;
    readyReplicas?: number;
    updatedReplicas?: number;
  };
};

/** What upstream's conformance tests ask of workloads, on two nodes, in the order of its list. */
describe('workloads by the rules of the conformance tests', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const apply = (manifest: object) => kubectl('apply -f -', JSON.stringify(manifest));
  const get = async (what: string): Promise<Item> =>
    JSON.parse(await kubectl(`get ${what} -o json`)) as Item;
  const podsOf = async (label: string): Promise<Item[]> => {
    const { items } = JSON.parse(await kubectl(`get pods -l ${label} -o json`)) as {
      items: Item[];
    };
    return items;
  };
  const isReady = ({ metadata, status }: Item): boolean =>
    !metadata.deletionTimestamp &&
    (status.conditions ?? []).some(({ type, status: is }) => type === 'Ready' && is === 'True');
  const isThere = async (what: string): Promise<boolean> =>
    (await kubectl(`get ${what} --ignore-not-found -o name`)) !== '';

  before(async () => {
    cluster = await layOutCluster({
      upFlags: ['--nodes', '2', '--node-network', '10.252.11.0/24'],
    });
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
  });
  after(async () => {
    await cluster.destroy();
  });

  test('jobs fail and succeed by their policies', async () => {
    const rules = {
      exits: {
        script: 'exit 42',
        spec: {
          podFailurePolicy: {
            rules: [{ action: 'FailJob', onExitCodes: { operator: 'In', values: [42] } }],
          },
        },
      },
      indexes: {
        script: 'test $JOB_COMPLETION_INDEX != 1',
        spec: {
          completionMode: 'Indexed',
          completions: 3,
          parallelism: 3,
          backoffLimitPerIndex: 1,
        },
      },
      leader: {
        script: `test $JOB_COMPLETION_INDEX = 0 || { ${STAY}; }`,
        spec: {
          completionMode: 'Indexed',
          completions: 3,
          parallelism: 3,
          successPolicy: { rules: [{ succeededIndexes: '0' }] },
        },
      },
    };
    for (const [name, { script, spec }] of Object.entries(rules)) {
      const template = podSpec(script, { restartPolicy: 'Never' });
      const job = { ...spec, template: { spec: template } };
      await apply({ apiVersion: 'batch/v1', kind: 'Job', metadata: { name }, spec: job });
    }
    const ended = (name: string) =>
      eventually(`job ${name} ended`, async () => {
        const { status } = await get(`job ${name}`);
        const end = (status.conditions ?? []).find(({ type }) => /^(Complete|Failed)$/.test(type));
        return end && { status, why: `${end.type} ${end.reason}` };
      });
    assert.equal((await ended('exits')).why, 'Failed PodFailurePolicy');
    const indexes = await ended('indexes');
    assert.equal(indexes.why, 'Failed FailedIndexes');
    assert.deepEqual([indexes.status.completedIndexes, indexes.status.failedIndexes], ['0,2', '1']);
    const leader = await ended('leader');
    assert.equal(leader.why, 'Complete SuccessPolicy');
    assert.equal(leader.status.completedIndexes, '0');
    await kubectl('delete job --all');
  });

  test('a StatefulSet rolls out behind its partition, in order', async () => {
    const labels = { app: 'ordered' };
    const set = (version: string, partition: number) => ({
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'ordered' },
      spec: {
        serviceName: 'ordered',
        replicas: 3,
        selector: { matchLabels: labels },
        updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition } },
        template: { metadata: { labels, annotations: { version } }, spec: podSpec(STAY) },
      },
    });
    /** `n` for a pod of the new revision, `o` for one of the old. */
    const revisions = async (): Promise<string> => {
      const { status } = await get('statefulset ordered');
      if (status.readyReplicas !== 3) return '';
      const isNew = ({ metadata }: Item): boolean =>
        metadata.labels['controller-revision-hash'] === status.updateRevision;
      const pods = (await podsOf('app=ordered')).filter(isReady);
      return pods.map((pod) => (isNew(pod) ? 'n' : 'o')).join('');
    };
    await apply(set('1', 0));
    await eventually('three', async () => (await revisions()) === 'nnn');
    await apply(set('2', 2));
    await eventually('the canary', async () => (await revisions()) === 'oon');
    await kubectl('delete pod ordered-0');
    await eventually('the old one came back as old', async () => (await revisions()) === 'oon');
    await apply(set('2', 0));
    await eventually('all new', async () => (await revisions()) === 'nnn');
    await kubectl('delete statefulset ordered');
  });

  test('a StatefulSet pod that the node rejects is made anew until it fits', async () => {
    const ports = [{ containerPort: 21017, hostPort: 21017 }];
    const spec = podSpec(STAY, { nodeName: NODES[0] }, { ports });
    await apply(pod('blocker', spec));
    await kubectl('wait --for=condition=Ready pod/blocker --timeout=60s');
    const labels = { app: 'rejected' };
    await apply({
      apiVersion: 'apps/v1',
      kind: 'StatefulSet',
      metadata: { name: 'rejected' },
      spec: {
        serviceName: 'rejected',
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec },
      },
    });
    const uids = new Set<string>();
    await eventually('it was made again', async () => {
      for (const { metadata } of await podsOf('app=rejected')) uids.add(metadata.uid);
      return uids.size > 1;
    });
    await kubectl('delete pod blocker');
    await eventually('it runs', async () => (await podsOf('app=rejected')).some(isReady));
    await kubectl('delete statefulset rejected');
  });

  test('a DaemonSet is rolled back without a restart of what is well', async () => {
    const labels = { app: 'daemon' };
    const set = (image: string) => ({
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      metadata: { name: 'daemon' },
      spec: {
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: podSpec(STAY, {}, { image }) },
      },
    });
    const well = async () => (await podsOf('app=daemon')).filter(isReady);
    await apply(set(BUSYBOX));
    await eventually('one on each node', async () => (await well()).length === 2);
    await apply(set('gantry.internal/missing:1'));
    await eventually('one is replaced', async () =>
      (await podsOf('app=daemon')).some(({ spec }) =>
        /missing/.test(spec.containers[0]?.image ?? ''),
      ),
    );
    const [kept, ...more] = await well();
    assert.ok(kept && more.length === 0, 'one stays');
    await kubectl('rollout undo daemonset/daemon');
    const pods = await eventually('both are well', async () => {
      const now = await well();
      return now.length === 2 && now;
    });
    assert.ok(pods.some(({ metadata }) => metadata.uid === kept.metadata.uid));
    await kubectl('delete daemonset daemon');
  });

  test('owners and namespaces go in order', async () => {
    const controller = (name: string, replicas: number) => ({
      apiVersion: 'v1',
      kind: 'ReplicationController',
      metadata: { name },
      spec: {
        replicas,
        selector: { app: name },
        template: { metadata: { labels: { app: name } }, spec: podSpec(STAY) },
      },
    });
    await apply(controller('leaving', 4));
    await apply(controller('staying', 0));
    const { metadata } = await get('rc staying');
    const pods = await eventually('four pods', async () => {
      const found = await podsOf('app=leaving');
      return found.length === 4 && found;
    });
    const owner = { apiVersion: 'v1', kind: 'ReplicationController', name: 'staying' };
    const patch = { metadata: { ownerReferences: [{ ...owner, uid: metadata.uid }] } };
    for (const one of pods.slice(0, 2))
      await kubectl(`patch pod ${one.metadata.name} -p '${JSON.stringify(patch)}'`);
    await kubectl('delete rc leaving --cascade=foreground');
    const left = await podsOf('app=leaving');
    assert.equal(left.length, 2);
    assert.ok(left.every((one) => one.metadata.ownerReferences?.length === 1));
    await kubectl('delete rc staying');

    await kubectl('create namespace ordered');
    const held = { name: 'held', namespace: 'ordered', finalizers: ['example.com/held'] };
    await apply({ ...pod('held', podSpec(STAY)), metadata: held });
    await kubectl('-n ordered create configmap kept');
    await kubectl('delete namespace ordered --wait=false');
    await eventually('the pod is on its way', async () =>
      Boolean((await get('-n ordered pod held')).metadata.deletionTimestamp),
    );
    assert.ok(await isThere('-n ordered configmap kept'), 'pods go first');
    await kubectl(`-n ordered patch pod held --type=merge -p '{"metadata":{"finalizers":null}}'`);
    await eventually('all is gone', async () => !(await isThere('namespace ordered')));
  });

  test('a budget holds evictions back, and preemption takes the least', async () => {
    const labels = { app: 'guarded' };
    await apply({ ...pod('guarded', podSpec(STAY)), metadata: { name: 'guarded', labels } });
    await kubectl('wait --for=condition=Ready pod/guarded --timeout=60s');
    const budget = (minAvailable: number) => ({
      apiVersion: 'policy/v1',
      kind: 'PodDisruptionBudget',
      metadata: { name: 'guarded' },
      spec: { minAvailable, selector: { matchLabels: labels } },
    });
    const evict = () =>
      cluster.kubectl('create --raw /api/v1/namespaces/default/pods/guarded/eviction -f -', {
        input: JSON.stringify({
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name: 'guarded' },
        }),
        mayFail: true,
      });
    await apply(budget(1));
    await eventually('refused', async () =>
      /violate the pod's disruption budget/.test(await evict()),
    );
    await apply(budget(0));
    await eventually('allowed', async () => /Success/.test(await evict()));

    const resources = { capacity: { [FAKE]: '5' }, allocatable: { [FAKE]: '5' } };
    for (const node of NODES)
      await kubectl(
        `patch node ${node} --subresource=status -p '${JSON.stringify({ status: resources })}'`,
      );
    for (const [name, value] of Object.entries({ low: 1, mid: 2, high: 1000 }))
      await kubectl(`create priorityclass ${name} --value=${value}`);
    const taking = (name: string, count: number, node?: string) => {
      const amount = { [FAKE]: String(count) };
      const more = {
        priorityClassName: name,
        ...(node ? { nodeSelector: { 'kubernetes.io/hostname': node } } : {}),
      };
      return apply(
        pod(name, podSpec(STAY, more, { resources: { requests: amount, limits: amount } })),
      );
    };
    await taking('low', 4, NODES[0]);
    await taking('mid', 3, NODES[1]);
    await kubectl('wait --for=condition=Ready pod/low pod/mid --timeout=60s');
    await taking('high', 3);
    await kubectl('wait --for=condition=Ready pod/high --timeout=60s');
    assert.equal((await get('pod high')).spec.nodeName, NODES[0]);
    assert.ok(isReady(await get('pod mid')), 'the other is not touched');
  });
});

function podSpec(script: string, more: object = {}, container: object = {}) {
  return {
    terminationGracePeriodSeconds: 1,
    containers: [{ name: 'c', image: BUSYBOX, command: ['sh', '-c', script], ...container }],
    ...more,
  };
}

const pod = (name: string, spec: object) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name },
  spec,
});
