import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import {
  cannotRun,
  layOutCluster,
  machineTraces,
  NETWORK_NAME,
  type TestCluster,
} from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { shellManifest, webManifest } from '#e2e/workloads.ts';

const skip = cannotRun() ?? false;
const NODES = ['e2e-node', 'e2e-node-2', 'e2e-node-3'];
const NODE_NETWORK = '10.252.9.0/24';

/** One machine plays three nodes, each in a network namespace of its own. */
describe('several nodes on one machine', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  type WebPod = { name: string; uid: string; ip: string; node: string };
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const inPod = (pod: string, script: string) =>
    cluster.kubectl(`exec ${pod} -- sh -c '${script}'`, { mayFail: true, timeoutMs: 30_000 });
  const webPods = async (): Promise<WebPod[]> => {
    const { items } = JSON.parse(await kubectl('get pods -l app=web -o json'));
    type Item = {
      metadata: { name: string; uid: string };
      spec: { nodeName: string };
      status: { podIP: string };
    };
    return (items as Item[]).map(({ metadata, spec, status }) => ({
      name: metadata.name,
      uid: metadata.uid,
      ip: status.podIP,
      node: spec.nodeName,
    }));
  };
  const allReady = () => kubectl('wait --for=condition=Ready node --all --timeout=60s');

  before(async () => {
    cluster = await layOutCluster({ upFlags: ['--nodes', '3', '--node-network', NODE_NETWORK] });
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    const spread =
      'topologySpreadConstraints: [{ maxSkew: 1, topologyKey: kubernetes.io/hostname, ' +
      'whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: web } } }]';
    const manifest = webManifest({ name: 'web', replicas: 3 });
    const grace = 'terminationGracePeriodSeconds: 2';
    await kubectl('apply -f -', manifest.replace(grace, `${grace}\n      ${spread}`));
    await kubectl('apply -f -', shellManifest('shell'));
    await kubectl('rollout status deployment/web --timeout=60s');
    await kubectl('wait --for=condition=Ready pod/shell --timeout=60s');
  });
  after(async () => {
    await cluster.destroy();
  });

  test('all are Ready, each with its own address and pod range', async () => {
    const { items } = JSON.parse(await kubectl('get nodes -o json'));
    type Item = {
      metadata: { name: string };
      spec: { podCIDR: string };
      status: { addresses: { address: string }[] };
    };
    const nodes = items as Item[];
    assert.deepEqual(nodes.map(({ metadata }) => metadata.name).sort(), NODES);
    assert.equal(new Set(nodes.map(({ spec }) => spec.podCIDR)).size, 3);
    assert.equal(new Set(nodes.map(({ status }) => status.addresses[0]?.address)).size, 3);
  });

  test('pods spread over them; logs and exec reach each', async () => {
    const pods = await webPods();
    assert.deepEqual(pods.map(({ node }) => node).sort(), NODES);
    for (const { name, ip } of pods) {
      assert.match(await inPod(name, 'echo from $POD_NAME'), new RegExp(`from ${name}`));
      assert.match(await inPod(name, 'hostname -i'), new RegExp(ip));
      await kubectl(`logs ${name}`);
    }
  });

  test('pods of different nodes reach each other, directly and through a Service', async () => {
    const pods = await webPods();
    for (const { name } of pods) {
      for (const other of pods) {
        const answer = await inPod(name, `timeout 5 wget -qO- http://${other.ip}:8080/`);
        assert.match(answer, new RegExp(other.name), `${name} to ${other.name}`);
      }
      const answers = await inPod(
        name,
        'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do wget -qO- http://web/; done',
      );
      const seen = pods.filter((other) => answers.includes(other.name));
      assert.ok(seen.length > 1, `${name} saw ${answers}`);
    }
    const api =
      'nc -w 2 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo open';
    for (const { name } of pods) assert.match(await inPod(name, api), /open/);
  });

  test('a node port answers on every node', async () => {
    const port = await kubectl("get service web -o jsonpath='{.spec.ports[0].nodePort}'");
    const addresses = await kubectl(
      'get nodes -o jsonpath=\'{.items[*].status.addresses[?(@.type=="InternalIP")].address}\'',
    );
    for (const address of addresses.split(' ')) {
      const answer = await fetch(`http://${address}:${port}/`, {
        signal: AbortSignal.timeout(5_000),
      });
      assert.match(await answer.text(), /^web-/, address);
    }
    // Also for a pod that is itself among those that the other node may choose.
    for (const { name } of await webPods()) {
      for (const address of addresses.split(' ')) {
        const call = `timeout 3 wget -qO- http://${address}:${port}/`;
        const answers = await inPod(name, Array.from({ length: 8 }, () => call).join('; '));
        assert.equal(answers.match(/web-.* v1/g)?.length, 8, `${name} by ${address}: ${answers}`);
      }
    }
  });

  test('a network policy holds across nodes', async () => {
    const pods = await webPods();
    const reached = async (from: string): Promise<number> => {
      const answers = pods.map(({ ip }) => `timeout 1 wget -qO- http://${ip}:8080/`);
      return (await inPod(from, answers.join('; '))).match(/web-.* v1/g)?.length ?? 0;
    };
    await kubectl(
      'apply -f -',
      `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web }
spec:
  podSelector: { matchLabels: { app: web } }
  ingress: [{ from: [{ podSelector: { matchLabels: { app: shell } } }], ports: [{ port: http }] }]
`,
    );
    const [first] = pods;
    assert.ok(first);
    await eventually('only itself', async () => (await reached(first.name)) === 1);
    assert.equal(await reached('shell'), 3);
    await kubectl('label pod shell app=stranger --overwrite');
    await eventually('the label is gone', async () => (await reached('shell')) === 0);
    await kubectl('delete networkpolicy web');
    await eventually('all again', async () => (await reached('shell')) === 3);
    const ready = await kubectl("get deployment web -o jsonpath='{.status.readyReplicas}'");
    assert.equal(ready, '3', 'probes come from the node and always pass');
  });

  test('an agent that dies is started again, and so is the whole cluster', async () => {
    const before = await webPods();
    const recordFile = join(cluster.dataDir, 'run', 'node-e2e-node-2.json');
    const pidOf = (): number =>
      (JSON.parse(readFileSync(recordFile, 'utf8')) as { pid: number }).pid;
    const agent = pidOf();
    process.kill(agent, 'SIGKILL');
    await eventually('another agent', async () => pidOf() !== agent);

    process.kill(await cluster.pid(), 'SIGKILL');
    const again = await cluster.up();
    assert.equal(again.code, 0, again.stdout + again.stderr);
    await allReady();
    const key = (pods: WebPod[]): string[] => pods.map(({ uid, ip }) => `${uid} ${ip}`).sort();
    assert.deepEqual(key(await webPods()), key(before));
    const [first, second] = before;
    assert.ok(first && second);
    const answer = await inPod(first.name, `timeout 5 wget -qO- http://${second.ip}:8080/`);
    assert.match(answer, new RegExp(second.name));
  });

  test('down leaves nothing', async () => {
    const result = await cluster.down();
    assert.equal(result.code, 0, result.stderr);
    assert.match(result.stdout, /network namespaces of 2 nodes/);
    const left = (program: string, ...args: string[]): string[] =>
      execFileSync(program, args, { encoding: 'utf8' })
        .split('\n')
        .filter((line) => line.includes(NETWORK_NAME) || line.includes(cluster.dataDir));
    assert.deepEqual(left('ip', 'netns'), []);
    assert.deepEqual(left('ip', 'link'), []);
    assert.deepEqual(left('ip', 'route'), []);
    assert.deepEqual(left('nft', 'list', 'tables'), []);
    assert.deepEqual(left('ps', '-eo', 'pid,args'), []);
    assert.deepEqual(machineTraces(cluster.dataDir), []);
  });
});
