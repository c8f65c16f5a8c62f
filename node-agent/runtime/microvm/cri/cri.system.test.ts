import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { until } from '#base/testing.ts';
import { startLocalImages } from '#node-agent/images-local/start.ts';
import { makeShared, unmountAll } from '#node-agent/storage/mounts.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { findProgram, hostsToml } from '#node-agent/runtime/containerd-config.ts';
import { openImages } from '#node-agent/runtime/microvm/images/image-service.ts';
import {
  type ContainerConfig,
  isRuntimeError,
  LABEL,
  type PodSandboxConfig,
} from '#node-agent/runtime/service.ts';
import { addTestImage, TEST_IMAGE } from '#node-agent/testing.ts';
import { startCri } from './cri.ts';
import { fakeVmm, type FakeProgram } from './fake-vmm.ts';
import type { PodNetwork } from './pod-network.ts';
import { openRecords } from './records.ts';

/** The CRI server with a guest that runs nothing: what it remembers, tells and cleans up. */
const needs = ['mkfs.erofs', 'mke2fs', 'busybox'].filter(
  (name) => !findProgram(name, process.env['PATH']),
);
const skip =
  process.geteuid?.() !== 0
    ? 'mounts need root'
    : needs.length > 0 && `not installed: ${needs.join(', ')}`;

const stop = new AbortController();
let dir = '';
/** Container id → how a test talks with its process. */
const programs: Parameters<FakeProgram>[0][] = [];
const vmm = fakeVmm((program) => {
  programs.push(program);
  const [word, ...rest] = program.argv;
  if (word === 'say') {
    program.say(`${rest.join(' ')}\n`);
    program.exit(0);
  }
  if (word === 'fail') program.exit(Number(rest[0]));
  if (word === 'echo' || word === 'dial')
    program.onInput((text) => (text === null ? program.exit(7) : program.say(text)));
  if (word === 'polite') program.onSignal((number) => program.exit(number));
});
const networks = new Set<string>();
const network: PodNetwork = {
  async setUp({ id }) {
    networks.add(id);
    return { ips: [{ address: '10.1.2.3/24', gateway: '10.1.2.1' }] };
  },
  async tearDown({ id }) {
    networks.delete(id);
  },
  guestNetwork: async () => ({
    hostname: 'h',
    mac: '',
    mtu: 1500,
    addresses: [],
    routes: [],
    sysctls: {},
  }),
  traffic: async () => ({ rx: { bytes: 1, errors: 0 }, tx: { bytes: 2, errors: 0 } }),
  problem: () => undefined,
};

let server: { close(): Promise<void> };
let life = new AbortController();
let client: RuntimeClient;

async function launch(): Promise<void> {
  life = new AbortController();
  const socket = join(dir, 'cri.sock');
  server = await startCri({
    socket,
    vmm,
    network,
    records: openRecords(join(dir, 'pods')),
    images: (inUse) =>
      openImages({
        dir: join(dir, 'images'),
        certsDir: join(dir, 'certs.d'),
        inUse,
        log: silentLog,
      }),
    clock: systemClock,
    log: silentLog,
    signal: life.signal,
  });
  client = connectContainerd({ endpoint: socket });
}

async function restart(meanwhile: () => void): Promise<void> {
  client.close();
  life.abort(new Error('killed'));
  await server.close();
  meanwhile();
  await launch();
}

before(async () => {
  if (skip) return;
  dir = mkdtempSync('/tmp/G-cri-');
  mkdirSync(join(dir, 'pods'));
  await makeShared(join(dir, 'pods'));
  await addTestImage(join(dir, 'store'));
  const local = await startLocalImages({ storeDir: join(dir, 'store') }, { signal: stop.signal });
  for (const [host, url] of Object.entries(local.registries)) {
    mkdirSync(join(dir, 'certs.d', host), { recursive: true });
    writeFileSync(join(dir, 'certs.d', host, 'hosts.toml'), hostsToml(url));
  }
  await launch();
  await client.pullImage(TEST_IMAGE, undefined);
});
after(async () => {
  if (!dir) return;
  client.close();
  await server.close();
  stop.abort(new Error('the test is over'));
  await unmountAll(dir);
  rmSync(dir, { recursive: true, force: true });
});

let serial = 0;
const sandboxConfig = (special: Partial<PodSandboxConfig['linux']> = {}): PodSandboxConfig => {
  const uid = `u${serial++}`;
  return {
    metadata: { name: 'p', namespace: 'ns', uid, attempt: 0 },
    hostname: 'p',
    logDirectory: join(dir, 'logs', uid),
    dnsConfig: { servers: ['10.96.0.10'], searches: ['a.b'], options: ['ndots:5'] },
    portMappings: [],
    labels: { [LABEL.podUid]: uid },
    annotations: {},
    linux: { securityContext: { namespaceOptions: {} }, ...special },
  };
};

async function pod() {
  const config = sandboxConfig();
  const id = await client.runPodSandbox(config, 'microvm');
  const create = (command: string[], special: Partial<ContainerConfig> = {}) => {
    const name = `c${serial++}`;
    const container: ContainerConfig = {
      metadata: { name, attempt: 0 },
      image: { image: TEST_IMAGE },
      command,
      args: [],
      workingDir: '',
      envs: [],
      mounts: [],
      devices: [],
      labels: { app: name },
      annotations: {},
      logPath: `${name}.log`,
      stdin: false,
      stdinOnce: false,
      tty: false,
      linux: { resources: {}, securityContext: { namespaceOptions: {} } },
      ...special,
    };
    return client.createContainer(id, container, config);
  };
  return {
    id,
    config,
    create,
    async run(command: string[], special: Partial<ContainerConfig> = {}) {
      const container = await create(command, special);
      await client.startContainer(container);
      const program = programs.at(-1);
      assert.ok(program);
      return { id: container, program };
    },
    async remove() {
      await client.stopPodSandbox(id);
      await client.removePodSandbox(id);
    },
  };
}

async function exited(id: string) {
  for (;;) {
    const status = await client.containerStatus(id);
    if (status.state === 'CONTAINER_EXITED') return status;
  }
}

const leftovers = () => ({
  networks: networks.size,
  vms: vmm.vms.size,
  pods: readdirSync(join(dir, 'pods')),
  mounts: readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((l) => l.includes(`${dir}/pods/`)).length,
});
const NOTHING = { networks: 0, vms: 0, pods: [], mounts: 0 };

test('a container runs, is found by filters, and leaves nothing', { skip }, async () => {
  const p = await pod();
  const status = await client.podSandboxStatus(p.id);
  assert.deepEqual(
    [status.state, status.network?.ip, status.runtimeHandler],
    ['SANDBOX_READY', '10.1.2.3', 'microvm'],
  );
  const { id } = await p.run(['say', 'hello']);
  const ended = await exited(id);
  assert.deepEqual([ended.exitCode, ended.reason], [0, 'Completed']);
  assert.match(readFileSync(ended.logPath, 'utf8'), /^\S+Z stdout F hello\n$/);
  const { id: other } = await p.run(['wait']);
  const ids = async (filter: object) => (await client.listContainers(filter)).map((c) => c.id);
  assert.deepEqual(await ids({ podSandboxId: p.id }), [id, other]);
  assert.deepEqual(await ids({ id: other.slice(0, 12) }), [other]);
  assert.deepEqual(await ids({ labelSelector: { app: 'none' } }), []);
  assert.equal(
    (await client.listContainerStats({ id: other }))[0]?.memory?.workingSetBytes?.value,
    3,
  );
  const vm = vmm.vms.get(p.id);
  const guest = vm?.created.get(other);
  assert.deepEqual(
    guest?.mounts.map(({ target }) => target),
    ['/etc/resolv.conf', '/etc/hostname'],
  );
  const share = join(dir, 'pods', p.id, 'share');
  assert.equal(
    readFileSync(join(share, other, '0'), 'utf8'),
    'search a.b\nnameserver 10.96.0.10\noptions ndots:5\n',
  );
  assert.equal(vm?.disks.size, 3, 'one image, two writable layers');
  await p.remove();
  await p.remove();
  assert.deepEqual(leftovers(), NOTHING);
});

test('volumes are bound while the container lives, single files and read-only too', {
  skip,
}, async () => {
  const p = await pod();
  const hostDir = join(dir, 'volume');
  mkdirSync(hostDir, { recursive: true });
  writeFileSync(join(hostDir, 'key'), '1');
  const id = await p.create(['wait'], {
    mounts: [
      { containerPath: '/v', hostPath: hostDir },
      { containerPath: '/k', hostPath: join(hostDir, 'key'), readonly: true },
    ],
  });
  const guest = vmm.vms.get(p.id)?.created.get(id);
  const at = (target: string): string => {
    const source = guest?.mounts.find((mount) => mount.target === target)?.source;
    assert.ok(source && 'share' in source);
    return join(dir, 'pods', p.id, 'share', source.share);
  };
  writeFileSync(join(hostDir, 'later'), 'live');
  assert.equal(readFileSync(join(at('/v'), 'later'), 'utf8'), 'live');
  assert.equal(readFileSync(at('/k'), 'utf8'), '1');
  assert.throws(() => writeFileSync(at('/k'), '2'), /EROFS/);
  await client.removeContainer(id);
  assert.ok(existsSync(join(hostDir, 'key')), 'the volume itself stays');
  await p.remove();
  assert.deepEqual(leftovers(), NOTHING);
});

test('a container that cannot be made takes nothing from those that run', { skip }, async () => {
  const p = await pod();
  await p.run(['wait']);
  const vm = vmm.vms.get(p.id);
  const before = [...(vm?.disks ?? [])];
  const socket = { containerPath: '/s', hostPath: join(dir, 'cri.sock') };
  await assert.rejects(p.create(['wait'], { mounts: [socket] }), /socket of the host/);
  const device = { containerPath: '/dev/x', hostPath: '/dev/null', permissions: 'rw' };
  await assert.rejects(p.create(['wait'], { devices: [device] }), /only block devices/);
  assert.deepEqual([...(vm?.disks ?? [])], before);
  await p.remove();
  assert.deepEqual(leftovers(), NOTHING);
});

test('stops politely, then by force; a bad command is a start error', { skip }, async () => {
  const p = await pod();
  const polite = await p.run(['polite']);
  await client.stopContainer(polite.id, 10);
  assert.equal((await exited(polite.id)).exitCode, 15);
  const stubborn = await p.run(['wait']);
  const slow = client.stopContainer(stubborn.id, 60);
  await client.stopContainer(stubborn.id, 0);
  await slow;
  assert.equal((await exited(stubborn.id)).exitCode, 137);
  const bad = await p.create(['/no/such']);
  await assert.rejects(client.startContainer(bad), isRuntimeError);
  const status = await exited(bad);
  assert.deepEqual([status.reason, status.exitCode], ['StartError', 128]);
  assert.match(status.message, /no such file/);
  await assert.rejects(p.create([], { image: { image: 'none' } }), (e) =>
    isRuntimeError(e, 'NotFound'),
  );
  await assert.rejects(
    client.updateContainerResources(polite.id, { memoryLimitInBytes: 2 ** 40 }),
    /more than the 512 MiB/,
  );
  await p.remove();
});

test('a second life finds everything again, without losing or repeating a line', {
  skip,
}, async () => {
  const p = await pod();
  const talker = await p.run(['wait']);
  const ender = await p.run(['wait']);
  const dead = await pod();
  const lost = await dead.run(['wait']);
  talker.program.say('one\ntwo');
  const { logPath } = await client.containerStatus(talker.id);
  await until('the first line', () => /one/.test(readFileSync(logPath, 'utf8')));
  await restart(() => {
    talker.program.say('-2\nthree\n');
    ender.program.exit(5);
    vmm.vms.get(dead.id)?.die('killed', '');
  });
  assert.equal((await client.containerStatus(talker.id)).state, 'CONTAINER_RUNNING');
  assert.equal((await exited(ender.id)).exitCode, 5);
  const gone = await exited(lost.id);
  assert.deepEqual([gone.exitCode, gone.reason], [137, 'Error']);
  assert.match(gone.message, /ended while its runtime was not running/);
  assert.equal((await client.podSandboxStatus(dead.id)).state, 'SANDBOX_NOTREADY');
  await until('all lines', () => /three/.test(readFileSync(logPath, 'utf8')));
  const lines = readFileSync(logPath, 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(' ').slice(3).join(' '));
  assert.deepEqual(lines, ['one', 'two-2', 'three']);
  await p.remove();
  await dead.remove();
  assert.deepEqual(leftovers(), NOTHING);
});

test('a VM that dies takes its containers along and says why', { skip }, async () => {
  const p = await pod();
  const { id } = await p.run(['wait']);
  vmm.vms
    .get(p.id)
    ?.die('exit code 1', 'Kernel panic - not syncing: Out of memory and no killable processes');
  const status = await exited(id);
  assert.deepEqual([status.exitCode, status.reason], [137, 'OOMKilled']);
  assert.match(status.message, /exit code 1[^]*no killable processes/);
  assert.equal((await client.podSandboxStatus(p.id)).state, 'SANDBOX_NOTREADY');
  await p.remove();
  assert.deepEqual(leftovers(), NOTHING);
});

test('what fails half way leaves nothing, and its name is free again', { skip }, async () => {
  const config = sandboxConfig();
  vmm.failNext = new Error('no memory for a VM');
  await assert.rejects(client.runPodSandbox(config, ''), /no memory for a VM/);
  assert.deepEqual(leftovers(), NOTHING);
  const id = await client.runPodSandbox(config, '');
  await assert.rejects(client.runPodSandbox(config, ''), /is reserved for/);
  await client.removePodSandbox(id);
  const hostNetwork = sandboxConfig({ securityContext: { namespaceOptions: { network: 'NODE' } } });
  await assert.rejects(
    client.runPodSandbox(hostNetwork, ''),
    /ns\/p: spec.hostNetwork cannot be given/,
  );
  assert.deepEqual(leftovers(), NOTHING);
});

test('a flood of output is cut into lines and stays out of memory', { skip }, async () => {
  const p = await pod();
  const { id, program } = await p.run(['wait']);
  program.say('x'.repeat(20_000));
  program.say('y\n', 'stderr');
  for (let i = 0; i < 50; i++) program.say('z'.repeat(70_000));
  program.exit(0);
  const { logPath } = await exited(id);
  const lines = readFileSync(logPath, 'utf8').trim().split('\n');
  assert.ok(lines.every((line) => line.length < 16_500));
  assert.equal(
    lines.map((line) => line.replace(/^\S+ std\w+ [FP] /, '')).join('').length,
    20_000 + 1 + 50 * 70_000,
  );
  await p.remove();
});

test('exec and attach over a WebSocket, with input, its end and the exit code', {
  skip,
}, async () => {
  const p = await pod();
  const { id } = await p.run(['wait']);
  const url = await client.exec({
    containerId: id,
    command: ['echo'],
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
  });
  const socket = new WebSocket(url.replace('http', 'ws'), [
    'v5.channel.k8s.io',
    'v4.channel.k8s.io',
  ]);
  socket.binaryType = 'arraybuffer';
  const got: Record<number, string> = {};
  const closed = new Promise((resolve) => socket.addEventListener('close', resolve));
  socket.addEventListener('message', ({ data }) => {
    const bytes = Buffer.from(data as ArrayBuffer);
    got[bytes[0] ?? -1] = (got[bytes[0] ?? -1] ?? '') + bytes.subarray(1).toString();
    if (got[1] === 'hello') socket.send(Uint8Array.of(255, 0));
  });
  await new Promise((resolve) => socket.addEventListener('open', resolve));
  assert.equal(socket.protocol, 'v5.channel.k8s.io');
  socket.send(Buffer.from('\0hello'));
  await closed;
  assert.equal(got[1], 'hello');
  assert.deepEqual(JSON.parse(got[3] ?? '').details.causes, [{ reason: 'ExitCode', message: '7' }]);
  const again = await fetch(url, { headers: {} });
  assert.equal(again.status, 400);
  const sync = await client.execSync(id, ['fail', '3'], 5_000);
  assert.equal(sync.exitCode, 3);
  await assert.rejects(client.execSync(id, ['wait'], 100), (e) =>
    isRuntimeError(e, 'DeadlineExceeded'),
  );
  await p.remove();
});

test('what the runtime cannot do is told as such', { skip }, async () => {
  const { conditions } = { conditions: await client.status() };
  assert.match(
    conditions.find((c) => c.type === 'RuntimeReady')?.message ?? '',
    /under TCG: nothing runs here/,
  );
});
