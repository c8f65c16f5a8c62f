import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { EndpointSlice, Node, Pod, Service } from '#api/types.ts';
import { createInformers } from '#client/informer-factory.ts';
import { endpointSlices, namespaces, nodes, pods, services } from '#client/resources.ts';
import { type SimulatedApi, simulateApi } from '#client/simulated-api.ts';
import { PAUSE_IMAGE } from '#node-agent/images-local/pause.ts';
import { startLocalImages } from '#node-agent/images-local/start.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { findProgram } from '#node-agent/runtime/containerd-config.ts';
import { ensureContainerd, stopContainerd } from '#node-agent/runtime/containerd-daemon.ts';
import type { PodSandboxConfig } from '#node-agent/runtime/service.ts';
import { addTestImage, missingForTestRuntime, TEST_IMAGE } from '#node-agent/testing.ts';
import { testbedMissing } from './netns-testbed.ts';
import { removeNetwork, startNetwork } from './start.ts';

/**
 * The whole node network with real containers. It changes kernel settings and routes, so this file
 * runs itself again inside a network namespace, where the second half below does the work.
 */
const INSIDE = 'GANTRY_TEST_IN_NAMESPACE';
const skip = testbedMissing() || missingForTestRuntime() || false;

if (process.env[INSIDE] === undefined) {
  test('pods, Services and DNS of one node, in a network namespace', { skip }, async () => {
    const namespace = `gstart${randomBytes(3).toString('hex')}`;
    execFileSync('ip', ['netns', 'add', namespace]);
    try {
      const env: NodeJS.ProcessEnv = { ...process.env, [INSIDE]: 'yes' };
      delete env.NODE_TEST_CONTEXT;
      const own = [process.execPath, '--no-warnings', import.meta.filename];
      await promisify(execFile)('nsenter', [`--net=/run/netns/${namespace}`, ...own], {
        env,
        timeout: 60_000,
      }).catch((error: Error & { stdout: string }) => assert.fail(error.stdout));
    } finally {
      execFileSync('ip', ['netns', 'delete', namespace]);
    }
  });
} else {
  defineTests();
}

function defineTests(): void {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-network-'));
  const containerdDir = join(dir, 'containerd');
  const cniConfDir = join(dir, 'cni');
  const stop = new AbortController();
  let api: SimulatedApi;
  let runtime: RuntimeClient;
  const containers = new Map<string, { id: string; sandbox: string; ip: string }>();

  before(async () => {
    execFileSync('/bin/sh', [
      '-ec',
      'ip link set lo up; ip link add up0 type veth peer name up1;' +
        'ip addr add 192.0.2.10/24 dev up0; ip link set up0 mtu 1400 up; ip link set up1 up',
    ]);
    api = simulateApi();
    await api.create(namespaces, { metadata: { name: 'shop' } });
    await startNode();
  });

  /** As Docker leaves a machine. */
  function dropForwarded(): void {
    if (findProgram('iptables', process.env.PATH))
      execFileSync('iptables', ['-w', '-P', 'FORWARD', 'DROP']);
  }

  async function startNode(): Promise<void> {
    dropForwarded();
    const { signal } = stop;
    const resolvConf = join(dir, 'resolv.conf');
    writeFileSync(resolvConf, '');
    const network = await startNetwork(
      {
        informers: createInformers(api, { signal }),
        nodeName: 'n1',
        nodeIp: '192.0.2.10',
        podCidr: '10.244.0.0/24',
        clusterCidr: '10.244.0.0/16',
        serviceCidr: '10.96.0.0/16',
        clusterDnsIp: '10.96.0.10',
        clusterDomain: 'cluster.local',
        cniConfDir,
        rootDir: dir,
        upstreamResolvConf: resolvConf,
      },
      { signal },
    );
    await addTestImage(join(dir, 'images'));
    const local = await startLocalImages({ storeDir: join(dir, 'images') }, { signal });
    const { endpoint } = await ensureContainerd({
      dir: containerdDir,
      cniConfDir,
      sandboxImage: PAUSE_IMAGE,
      registries: local.registries,
    });
    runtime = connectContainerd({ endpoint });
    await network.ready;
    await runtime.pullImage(TEST_IMAGE, undefined);
  }

  after(async () => {
    runtime?.close();
    await stopContainerd(containerdDir);
    stop.abort(new Error('test is over'));
    await removeNetwork();
    rmSync(dir, { recursive: true, force: true });
  });

  async function runPod(name: string, command: string[]): Promise<string> {
    const sandbox = sandboxConfig(name);
    const sandboxId = await runtime.runPodSandbox(sandbox, '');
    const config = containerConfig(name, command);
    const id = await runtime.createContainer(sandboxId, config, sandbox);
    await runtime.startContainer(id);
    const ip = (await runtime.podSandboxStatus(sandboxId)).network?.ip ?? '';
    containers.set(name, { id, sandbox: sandboxId, ip });
    return ip;
  }

  async function inPod(name: string, command: string): Promise<string> {
    const id = containers.get(name)?.id ?? '';
    const result = await runtime.execSync(id, ['/bin/sh', '-c', command], 5_000);
    return Buffer.from(result.stdout).toString() + Buffer.from(result.stderr).toString();
  }

  test('pods get addresses of the range and reach each other', async () => {
    const serve = 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www';
    const a = await runPod('a', ['/bin/sh', '-c', serve]);
    const b = await runPod('b', ['/bin/sh', '-c', serve]);
    assert.match(a, /^10\.244\.0\.\d+$/);
    assert.notEqual(a, b);
    assert.match(execFileSync('ip', ['link', 'show', 'gantry0'], { encoding: 'utf8' }), /mtu 1400/);
    assert.match(await eventually('b', `wget -q -O - http://${a}:8080/`, /^a$/m), /^a$/m);
  });

  test('a Service works by name as soon as it has endpoints', async () => {
    const spec = {
      clusterIP: '10.96.0.50',
      ports: [{ port: 80, protocol: 'TCP', nodePort: 30080 }],
    };
    const web: Service = { metadata: { namespace: 'shop', name: 'web' }, spec };
    await api.create(services, web);
    const slice: EndpointSlice = {
      metadata: {
        namespace: 'shop',
        name: 'web-1',
        labels: { 'kubernetes.io/service-name': 'web' },
      },
      addressType: 'IPv4',
      ports: [{ name: '', port: 8080, protocol: 'TCP' }],
      endpoints: [{ addresses: [containers.get('a')?.ip ?? ''], nodeName: 'n1' }],
    };
    await api.create(endpointSlices, slice);
    assert.match(await eventually('b', 'wget -q -O - http://web.shop/', /^a$/m), /^a$/m);
    assert.match(await eventually('a', 'wget -q -O - http://web.shop/', /^a$/m), /^a$/m);
    assert.match(await fetchText('http://10.96.0.50/'), /^a$/m);
    assert.match(await fetchText('http://127.0.0.1:30080/'), /^a$/m);
    assert.match(await fetchText('http://192.0.2.10:30080/'), /^a$/m);
    const name = 'web.shop.svc.cluster.local';
    assert.match(await inPod('b', `nslookup ${name} 10.96.0.10`), /10\.96\.0\.50/);
  });

  test('traffic stays in the zone that the node turns out to be in', async () => {
    const web: Service = {
      metadata: { namespace: 'shop', name: 'near' },
      spec: { clusterIP: '10.96.0.51', ports: [{ port: 80, protocol: 'TCP' }] },
    };
    const endpoint = (name: string, zone: string) => ({
      addresses: [containers.get(name)?.ip ?? ''],
      nodeName: 'n1',
      zone,
      hints: { forZones: [{ name: zone }] },
    });
    const slice: EndpointSlice = {
      metadata: {
        namespace: 'shop',
        name: 'near-1',
        labels: { 'kubernetes.io/service-name': 'near' },
      },
      addressType: 'IPv4',
      ports: [{ name: '', port: 8080, protocol: 'TCP' }],
      endpoints: [endpoint('a', 'east'), endpoint('b', 'west')],
    };
    await api.create(services, web);
    await api.create(endpointSlices, slice);
    const answers = async (): Promise<string> => {
      const texts = Array.from({ length: 12 }, () => fetchText('http://10.96.0.51/'));
      return [...new Set(await Promise.all(texts))].sort().join('').replaceAll('\n', '');
    };
    await untilTrue(async () => (await answers()) === 'ab');
    const labels = { 'topology.kubernetes.io/zone': 'west' };
    await api.create(nodes, { metadata: { name: 'n1', labels } });
    await untilTrue(async () => (await answers()) === 'b');
  });

  test("a pod's host port is open on the node", async () => {
    const ports = [{ containerPort: 8080, hostPort: 4080 }];
    const pod: Pod = {
      metadata: { namespace: 'shop', name: 'b' },
      spec: { nodeName: 'n1', containers: [{ name: 'c', ports }] },
      status: { phase: 'Running', podIP: containers.get('b')?.ip ?? '' },
    };
    await api.create(pods, pod);
    await untilTrue(async () => /^b$/m.test(await fetchText('http://192.0.2.10:4080/')));
  });

  test('the pods of another node are reached by way of it, as long as it is there', async () => {
    const routes = (): string => execFileSync('ip', ['route'], { encoding: 'utf8' });
    const other: Node = {
      metadata: { name: 'n2' },
      spec: { podCIDR: '10.244.1.0/24' },
      status: { addresses: [{ type: 'InternalIP', address: '192.0.2.11' }] },
    };
    await api.create(nodes, other);
    const route = '10.244.1.0/24 via 192.0.2.11 dev up0';
    await untilTrue(async () => routes().includes(route));
    await api.delete(nodes, { name: 'n2' });
    await untilTrue(async () => !routes().includes(route));
  });

  test('stopping the runtime leaves no process, mount, address or interface of a pod', async () => {
    await stopContainerd(containerdDir);
    assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(dir), false);
    const links = execFileSync('ip', ['-o', 'link'], { encoding: 'utf8' });
    assert.doesNotMatch(links, /master gantry0/);
    const leases = execFileSync('ls', [join(dir, 'pod-addresses/gantry')], { encoding: 'utf8' });
    assert.doesNotMatch(leases, /^10\./m);
    await removeNetwork();
    assert.doesNotMatch(readFileSync('/proc/net/dev', 'utf8'), /gantry0/);
  });

  async function eventually(name: string, command: string, wanted: RegExp): Promise<string> {
    let output = '';
    await untilTrue(async () => {
      output = await inPod(name, command);
      return wanted.test(output);
    });
    return output;
  }
}

async function fetchText(url: string): Promise<string> {
  try {
    return await (await fetch(url)).text();
  } catch {
    return '';
  }
}

/** Tries again until it is so, at most five seconds; then once more, for the assertion to see. */
async function untilTrue(condition: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (Date.now() < deadline) {
    if (await condition()) return;
    await new Promise((turn) => setImmediate(turn));
  }
  assert.ok(await condition());
}

function sandboxConfig(name: string): PodSandboxConfig {
  return {
    metadata: { name, uid: name, namespace: 'shop', attempt: 0 },
    hostname: name,
    logDirectory: '',
    dnsConfig: {
      servers: ['10.96.0.10'],
      searches: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
      options: ['ndots:5'],
    },
    portMappings: [],
    labels: {},
    annotations: {},
    linux: { securityContext: { namespaceOptions: { network: 'POD', pid: 'CONTAINER' } } },
  };
}

function containerConfig(name: string, command: string[]) {
  return {
    metadata: { name, attempt: 0 },
    image: { image: TEST_IMAGE },
    command,
    args: [],
    workingDir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: '',
    stdin: false,
    stdinOnce: false,
    tty: false,
    linux: { resources: {}, securityContext: { namespaceOptions: {} } },
  };
}
