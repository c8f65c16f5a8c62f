import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { defaultAddress } from '#base/default-address.ts';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { cannotRun, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { run } from '#e2e/processes.ts';
import { shellManifest, webManifest } from '#e2e/workloads.ts';

const skip = cannotRun() ?? (existsSync('/proc/sys/net/ipv6') ? false : 'this kernel has no IPv6');
const PODS = '10.245.0.0/16,fd00:10:245::/56';
const SERVICES = '10.97.0.0/16,fd00:10:97::/112';

/** Two nodes with pods of both families; between them IPv6 travels in the overlay. */
describe('a dual-stack cluster', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const json = async (args: string) => JSON.parse(await kubectl(`${args} -o json`));
  const inShell = (script: string) =>
    cluster.kubectl(`exec shell -- sh -c '${script}'`, { mayFail: true, timeoutMs: 30_000 });
  type Addresses = { podIPs: { ip: string }[]; hostIPs: { ip: string }[] };
  const web = async (): Promise<Addresses> => (await json('get pods -l app=web')).items[0].status;

  before(async () => {
    const flags = ['--cluster-cidr', PODS, '--service-cluster-ip-range', SERVICES];
    cluster = await layOutCluster({
      upFlags: [...flags, '--nodes', '2', '--node-network', '10.252.11.0/24'],
    });
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    const spec = 'type: NodePort\n  ipFamilyPolicy: RequireDualStack';
    const grace = 'terminationGracePeriodSeconds: 2';
    const manifest = webManifest({ name: 'web', replicas: 1, spec });
    await kubectl('apply -f -', manifest.replace(grace, `${grace}\n      nodeName: e2e-node-2`));
    await kubectl(
      'apply -f -',
      shellManifest('shell').replace('spec:', 'spec:\n  nodeName: e2e-node'),
    );
    await kubectl('rollout status deployment/web --timeout=60s');
    await kubectl('wait --for=condition=Ready pod/shell --timeout=60s');
  });
  after(async () => {
    await cluster.destroy();
  });

  test('nodes have ranges and pods addresses of both families', async () => {
    const { items } = await json('get nodes');
    for (const { spec } of items as { spec: { podCIDRs: string[] } }[]) {
      assert.match(spec.podCIDRs.join(' '), /^10\.245\.\d+\.0\/24 fd00:10:245:\w*:*\/64$/);
    }
    const { podIPs } = await web();
    assert.equal(podIPs.length, 2);
    assert.match(podIPs[1]?.ip ?? '', /^fd00:10:245:/);
  });

  test('Services have the families they ask for, and a slice for each', async () => {
    const { spec } = await json('get service web');
    assert.deepEqual(spec.ipFamilies, ['IPv4', 'IPv6']);
    assert.equal(spec.clusterIPs.length, 2);
    const slices = await json('get endpointslices -l kubernetes.io/service-name=web');
    const types = (slices.items as { addressType: string }[]).map((slice) => slice.addressType);
    assert.deepEqual(types.sort(), ['IPv4', 'IPv6']);
    const single = (await json('get service kubernetes')).spec;
    assert.deepEqual(single.ipFamilies, ['IPv4']);
  });

  test('pods of two nodes reach each other, and Services, by IPv6', async () => {
    const [, six] = (await web()).podIPs;
    const { clusterIPs } = (await json('get service web')).spec;
    for (const url of [`http://[${six?.ip}]:8080/`, `http://[${clusterIPs[1]}]/`, 'http://web/']) {
      assert.match(await inShell(`timeout 5 wget -qO- "${url}"`), /^web-/, url);
    }
    const names = await inShell('nslookup web.default.svc.cluster.local');
    for (const address of clusterIPs) assert.ok(names.includes(address), names);
    const { nodePort } = (await json('get service web')).spec.ports[0];
    const { podCIDRs } = (await json('get node e2e-node')).spec;
    const gateway = podCIDRs[1].replace('/64', '1');
    const answer = await run('curl', ['-sg', '-m', '5', `http://[${gateway}]:${nodePort}/`]);
    assert.match(answer.stdout, /^web-/, 'the node port at an IPv6 address of the node');
  });

  test('a network policy is for both families', async () => {
    const { podIPs } = await web();
    const reached = async (): Promise<number> => {
      const urls = podIPs.map(({ ip }) =>
        ip.includes(':') ? `http://[${ip}]:8080/` : `http://${ip}:8080/`,
      );
      const script = urls.map((url) => `timeout 1 wget -qO- "${url}"`).join('; ');
      return (await inShell(script)).match(/web-.* v1/g)?.length ?? 0;
    };
    assert.equal(await reached(), 2);
    const policy = (from: string) => `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: web }
spec: { podSelector: { matchLabels: { app: web } }, ingress: [${from}] }
`;
    await kubectl('apply -f -', policy(''));
    await eventually('nothing passes', async () => (await reached()) === 0);
    await kubectl('apply -f -', policy('{ from: [{ ipBlock: { cidr: "fd00:10:245::/56" } }] }'));
    await eventually('IPv6 passes', async () => (await reached()) === 1);
    await kubectl('delete networkpolicy web');
    await eventually('all again', async () => (await reached()) === 2);
  });

  test('down leaves no rules or routes of either family', async () => {
    assert.equal((await cluster.down()).code, 0);
    for (const args of [['-6', 'route'], ['route'], ['link']]) {
      assert.doesNotMatch((await run('ip', args)).stdout, /gantry-e2e|fd00:10:245|10\.245\./);
    }
    assert.doesNotMatch((await run('nft', ['list', 'tables'])).stdout, /gantry-e2e/);
  });
});

const machineIp = defaultAddress('IPv6');
const skipSix = skip || (machineIp ? false : 'this machine has no IPv6 address');

/** The API server, its Service, DNS and the node are where nothing has an IPv4 address. */
describe('a cluster of IPv6 alone', { skip: skipSix, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const json = async (args: string) => JSON.parse(await kubectl(`${args} -o json`));

  before(async () => {
    const ranges = ['--cluster-cidr', PODS, '--service-cluster-ip-range', SERVICES];
    const upFlags = ranges.map((flag) => flag.split(',').at(-1) ?? flag);
    cluster = await layOutCluster({ upFlags });
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    await kubectl('apply -f -', webManifest({ name: 'web', replicas: 1, spec: 'type: NodePort' }));
    await kubectl('apply -f -', shellManifest('shell'));
    await kubectl('rollout status deployment/web --timeout=60s');
    await kubectl('wait --for=condition=Ready pod/shell --timeout=60s');
  });
  after(async () => {
    await cluster.destroy();
  });

  test('pods are probed and reached directly, by name and by node port', async () => {
    const [pod] = (await json('get pods -l app=web')).items;
    assert.match(pod.status.podIP, /^fd00:10:245:/);
    assert.equal(pod.status.hostIP, machineIp);
    const { clusterIP, ports } = (await json('get service web')).spec;
    const urls = [`http://[${pod.status.podIP}]:8080/`, `http://[${clusterIP}]/`, 'http://web/'];
    for (const url of urls) {
      const script = `timeout 5 wget -qO- "${url}"`;
      assert.match(await kubectl(`exec shell -- sh -c '${script}'`), /^web-/, url);
    }
    const nodePort = `http://[${machineIp}]:${ports[0].nodePort}/`;
    assert.match((await run('curl', ['-sg', '-m', '5', nodePort])).stdout, /^web-/);
  });

  test('the API is where the Service kubernetes says, and reaches the node', async () => {
    const [slice] = (await json('get endpointslices -l kubernetes.io/service-name=kubernetes'))
      .items;
    assert.equal(slice.addressType, 'IPv6');
    assert.deepEqual(slice.endpoints[0].addresses, [machineIp]);
    const { spec } = await json('get service kubernetes');
    const answer = await run('curl', ['-skg', '-m', '5', `https://[${spec.clusterIP}]/version`]);
    assert.match(answer.stdout, /gitVersion/);
    assert.match(await kubectl('get --raw /api/v1/nodes/e2e-node/proxy/healthz'), /ok/);
  });
});
