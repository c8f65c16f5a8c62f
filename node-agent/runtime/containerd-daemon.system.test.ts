import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { until } from '#base/testing.ts';
import { detectHost, missingForContainerd } from './containerd-config.ts';
import {
  containerdLeftState,
  containerdPaths,
  ensureContainerd,
  setRegistries,
  stopContainerd,
} from './containerd-daemon.ts';
import { criVersion } from './containerd-probe.ts';
import {
  listProcesses,
  type ProcessInfo,
  mountsBelow,
  readProcess,
  withDescendants,
} from './containerd-processes.ts';
import { startLocalImages } from '#node-agent/images-local/start.ts';
import { PAUSE_IMAGE } from '#node-agent/images-local/pause.ts';
import { connectContainerd } from './containerd.ts';
import type { PodSandboxConfig } from './service.ts';

const missing = missingForContainerd(detectHost());
const skip = missing.length > 0 && `no containerd of our own here: ${missing.join('; ')}`;
const dir = mkdtempSync(join(tmpdir(), 'gantry-containerd-'));
const untilGone = (pid: number): Promise<void> =>
  until(`the end of process ${pid}`, () => readProcess(pid) === undefined);
const options = { dir, cniConfDir: join(dir, 'cni'), sandboxImage: PAUSE_IMAGE };

after(async () => {
  if (!skip) await stopContainerd(dir);
  rmSync(dir, { recursive: true, force: true });
});

test('what is missing is said before anything is started', async () => {
  const host = { ...detectHost(), root: false, containerd: undefined };
  await assert.rejects(ensureContainerd({ ...options, host }), /sudo.*apt-get install containerd/);
  assert.equal(existsSync(containerdPaths(dir).runDir), false);
});

test('a daemon is started once, found again, healed after kill -9, and stopped', {
  skip,
}, async () => {
  const first = await ensureContainerd(options);
  assert.match((await criVersion(first.endpoint, 2_000)).version, /^v?\d+\.\d+/);
  assert.deepEqual(await ensureContainerd(options), first);

  rmSync(containerdPaths(dir).pidFile);
  assert.equal((await ensureContainerd(options)).pid, first.pid, 'found without its pid file');

  process.kill(first.pid, 'SIGKILL');
  await untilGone(first.pid);
  writeFileSync(containerdPaths(dir).pidFile, `${process.pid}`);
  const second = await ensureContainerd(options);
  assert.notEqual(second.pid, first.pid);
  assert.ok(second.pid !== process.pid, "another process's pid in the file is not believed");

  const third = await ensureContainerd({ ...options, sandboxImage: 'gantry.internal/pause:2' });
  assert.notEqual(third.pid, second.pid, 'a changed configuration restarts it');
  assert.equal(readProcess(second.pid), undefined);

  assert.equal(containerdLeftState(dir), true);
  await stopContainerd(dir);
  assert.equal(readProcess(third.pid), undefined);
  assert.equal(containerdLeftState(dir), false);
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(dir), false);
  await stopContainerd(dir);
});

test('two starts at once give one daemon', { skip }, async () => {
  const [a, b] = await Promise.all([ensureContainerd(options), ensureContainerd(options)]);
  assert.deepEqual(a, b);
  const { configFile, lockFile } = containerdPaths(dir);
  assert.equal(listProcesses().filter(({ command }) => command.includes(configFile)).length, 1);
  writeFileSync(lockFile, '4194304');
  assert.deepEqual(await ensureContainerd(options), a, "a dead process's lock does not hold");
  assert.equal(existsSync(lockFile), false);
  await stopContainerd(dir);
});

test('a daemon that cannot start says why', { skip }, async () => {
  const host = { ...detectHost(), containerd: '/bin/false' };
  await assert.rejects(ensureContainerd({ ...options, host }), /containerd ended at its start/);
});

test('state of an earlier boot is forgotten', { skip }, async () => {
  const { bootFile, stateDir } = containerdPaths(dir);
  await ensureContainerd(options);
  await stopContainerd(dir);
  const { pid } = await ensureContainerd(options);
  process.kill(pid, 'SIGKILL');
  await untilGone(pid);
  writeFileSync(bootFile, 'another boot');
  writeFileSync(join(stateDir, 'stale'), '');
  await ensureContainerd(options);
  assert.equal(existsSync(join(stateDir, 'stale')), false);
});

test('pods outlive the daemon, and end with the instance even when it is dead', {
  skip,
  timeout: 20_000,
}, async () => {
  const stop = new AbortController();
  const storeDir = join(dir, 'images');
  const local = await startLocalImages({ storeDir }, { signal: stop.signal });
  const { registries } = local;
  const first = await ensureContainerd({ ...options, registries });
  const client = connectContainerd({ endpoint: first.endpoint });
  try {
    const sandbox = await client.runPodSandbox(hostPod, '');
    const isPause = ({ command, parent }: ProcessInfo): boolean =>
      command[0] === '/pause' && isShimOf(parent, first.endpoint);
    // A sandbox is ready when its process has been started, which turns into pause a bit later.
    await until('the pause process', () => listProcesses().some(isPause));
    const before = listProcesses().find(isPause);
    assert.ok(before);

    process.kill(first.pid, 'SIGKILL');
    await untilGone(first.pid);
    assert.ok(readProcess(before.pid), 'the pod runs on without its daemon');
    const second = await ensureContainerd({ ...options, registries });
    assert.equal((await client.podSandboxStatus(sandbox)).state, 'SANDBOX_READY');

    process.kill(second.pid, 'SIGKILL');
    await untilGone(second.pid);
    await stopContainerd(dir);
    assert.equal(readProcess(before.pid), undefined);
    assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(dir), false);
  } finally {
    client.close();
    stop.abort();
    await local.done;
  }
});

function isShimOf(pid: number, endpoint: string): boolean {
  return readProcess(pid)?.command.includes(endpoint.replace('unix://', '')) ?? false;
}

const hostPod: PodSandboxConfig = {
  metadata: { name: 'p', uid: 'p', namespace: 'n', attempt: 0 },
  hostname: '',
  logDirectory: '',
  portMappings: [],
  labels: {},
  annotations: {},
  linux: { securityContext: { namespaceOptions: { network: 'NODE' } } },
};

test('registries are written as hosts.toml', () => {
  setRegistries(dir, { 'gantry.internal': 'http://127.0.0.1:5000' });
  const file = join(containerdPaths(dir).certsDir, 'gantry.internal/hosts.toml');
  assert.match(readFileSync(file, 'utf8'), /127\.0\.0\.1:5000/);
  setRegistries(dir, { 'gantry.internal': 'http://127.0.0.1:5001' });
  assert.match(readFileSync(file, 'utf8'), /127\.0\.0\.1:5001/);
});

test('mounts below a folder are found, with escaped names, and not those beside it', () => {
  const line = (point: string) => `1 2 0:3 / ${point} rw - tmpfs tmpfs rw`;
  const text = ['/run/a', '/run/a/b\\040c', '/run/ab', '/'].map(line).join('\n');
  assert.deepEqual(mountsBelow(text, ['/run/a']), ['/run/a', '/run/a/b c']);
});

test('descendants come after their parents', () => {
  const process = (pid: number, parent: number) => ({ pid, parent, state: 'S', command: [] });
  const all = [process(4, 3), process(3, 2), process(9, 1), process(5, 2)];
  assert.deepEqual(withDescendants(2, all), [2, 3, 5, 4]);
});
