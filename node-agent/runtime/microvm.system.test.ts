import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { until } from '#base/testing.ts';
import {
  missingForTestMicrovms,
  startTestMicrovmRuntime,
  type TestMicrovmRuntime,
} from '#node-agent/runtime/microvm/testing.ts';
import { runtimeSuite } from '#node-agent/runtime/suite.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';
import type { ContainerConfig, PodSandboxConfig } from '#node-agent/runtime/service.ts';

const skip = missingForTestMicrovms() ?? false;
let started: TestMicrovmRuntime | undefined;

before(async () => {
  if (!skip) started = await startTestMicrovmRuntime();
});
after(() => started?.close());

runtimeSuite(
  'microVM',
  () => {
    assert.ok(started);
    return { runtime: started.client, image: TEST_IMAGE, logDir: join(started.dir, 'logs') };
  },
  skip,
);

/** A pod with one container; their ids. */
async function runPod(runtime: TestMicrovmRuntime, name: string, script: string) {
  const sandbox: PodSandboxConfig = {
    metadata: { name, namespace: 'test', uid: name, attempt: 0 },
    hostname: name,
    logDirectory: join(runtime.dir, 'logs', name),
    portMappings: [],
    labels: {},
    annotations: {},
    linux: { securityContext: { namespaceOptions: { pid: 'CONTAINER' } } },
  };
  const container: ContainerConfig = {
    metadata: { name: 'main', attempt: 0 },
    image: { image: TEST_IMAGE },
    command: ['sh', '-c', script],
    args: [],
    workingDir: '',
    envs: [],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: 'main.log',
    stdin: false,
    stdinOnce: false,
    tty: false,
    linux: { resources: {}, securityContext: { namespaceOptions: { pid: 'CONTAINER' } } },
  };
  await runtime.client.pullImage(TEST_IMAGE, undefined);
  const podId = await runtime.client.runPodSandbox(sandbox, 'microvm');
  const id = await runtime.client.createContainer(podId, container, sandbox);
  await runtime.client.startContainer(id);
  return { podId, id, log: join(sandbox.logDirectory, 'main.log') };
}

const numbers = (log: string): number[] =>
  readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => Number(line.split(' ')[3]));

test('a VM runs on while its runtime is away, and no line is lost or repeated', {
  skip,
  timeout: 60_000,
}, async () => {
  assert.ok(started);
  const runtime = started;
  const script = 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done';
  const { podId, id, log } = await runPod(runtime, 'counter', script);
  await until('the first lines', () => numbers(log).length > 3);
  const before = numbers(log).length;
  await runtime.restart();
  await until('lines of the time between', () => numbers(log).length > before + 15);
  const seen = numbers(log);
  assert.deepEqual(
    seen,
    Array.from({ length: seen.length }, (_, index) => index + 1),
  );
  assert.equal((await runtime.client.execSync(id, ['echo', 'x'], 5_000)).exitCode, 0);
  await runtime.client.removePodSandbox(podId);
});

test('a killed VM is an exit with its reason; nothing of it is left', {
  skip,
  timeout: 60_000,
}, async () => {
  assert.ok(started);
  const { client, vms } = started;
  const { podId, id } = await runPod(started, 'victim', 'sleep 1000');
  const vm = vms.get(podId);
  assert.ok(vm);
  process.kill(vm.pid, 'SIGKILL');
  for (;;) {
    const status = await client.containerStatus(id);
    if (status.state !== 'CONTAINER_EXITED') continue;
    assert.deepEqual([status.exitCode, status.reason], [137, 'Error']);
    assert.match(status.message, /the microVM ended/);
    break;
  }
  assert.equal((await client.podSandboxStatus(podId)).state, 'SANDBOX_NOTREADY');
  await client.removePodSandbox(podId);
  const left = readFileSync('/proc/self/mountinfo', 'utf8');
  assert.ok(!left.includes(podId));
});
