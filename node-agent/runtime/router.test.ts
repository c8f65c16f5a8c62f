import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { createRouter } from '#node-agent/runtime/router.ts';
import {
  type Container,
  type Image,
  isRuntimeError,
  type PodSandbox,
  type PodSandboxConfig,
  type RuntimeEvent,
} from '#node-agent/runtime/service.ts';

/** A runtime that notes what it is asked, with one sandbox and one container from before. */
function double(name: string) {
  const asked: string[] = [];
  const say =
    (what: string) =>
    async (id: string): Promise<never> => {
      asked.push(`${what} ${id}`);
      return undefined as never;
    };
  const has = (id: string | undefined, own: string): boolean => id === undefined || id === own;
  const runtime = {
    runPodSandbox: async () => `${name}-new`,
    stopPodSandbox: say('stop'),
    removePodSandbox: say('remove'),
    podSandboxStatus: say('status'),
    listPodSandboxes: async (filter: { id?: string } = {}) =>
      has(filter.id, `${name}-pod`) ? [{ id: `${name}-pod` } as PodSandbox] : [],
    listContainers: async (filter: { id?: string } = {}) =>
      has(filter.id, `${name}-c`) ? [{ id: `${name}-c` } as Container] : [],
    startContainer: say('start'),
    ...(name === 'main' ? { signalContainer: say('signal') } : {}),
    checkpointContainer: say('checkpoint'),
    exec: async ({ containerId }: { containerId: string }) => `http://${name}/${containerId}`,
    listImages: async () => [{ id: 'same', repoTags: [name] } as unknown as Image],
    imageStatus: async () => (name === 'vm' ? ({ id: name } as Image) : null),
    removeImage: say('remove-image'),
    imageFsInfo: async () => [{ mountpoint: `/${name}`, usedBytes: 1, inodesUsed: 1 }],
    pullImage: say('pull'),
    async *events(signal: AbortSignal): AsyncGenerator<RuntimeEvent> {
      yield { type: 'resync', reason: name };
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    },
    close: () => void asked.push('close'),
  };
  return { asked, runtime: runtime as unknown as RuntimeClient };
}

function routed() {
  const main = double('main');
  const vm = double('vm');
  const router = createRouter(main.runtime, {
    reserved: ['microvm'],
    missing: (handler) => `no ${handler} yet`,
  });
  return { main, vm, router };
}

const sandbox = {} as PodSandboxConfig;

test('the handler chooses, ids lead back, also those of an earlier life', async () => {
  const { main, vm, router } = routed();
  router.add('microvm', vm.runtime);
  assert.equal(await router.client.runPodSandbox(sandbox, 'microvm'), 'vm-new');
  assert.equal(await router.client.runPodSandbox(sandbox, 'runc'), 'main-new');
  for (const id of ['vm-new', 'main-new', 'vm-pod', 'main-pod', 'unknown'])
    await router.client.stopPodSandbox(id);
  await router.client.startContainer('vm-c');
  await router.client.checkpointContainer('vm-c', '/x', 0);
  assert.deepEqual(vm.asked, ['stop vm-new', 'stop vm-pod', 'start vm-c', 'checkpoint vm-c']);
  assert.deepEqual(main.asked, ['stop main-new', 'stop main-pod', 'stop unknown']);
  const flags = { stdin: false, stdout: true, stderr: true, tty: false };
  const signal = (id: string) => router.client.signalContainer?.(id, 10);
  await signal('main-c');
  assert.equal(main.asked.at(-1), 'signal main-c');
  await assert.rejects(async () => signal('vm-c'), /sends no signals/);
  const url = await router.client.exec({ containerId: 'vm-c', command: ['x'], ...flags });
  assert.equal(url, 'http://vm/vm-c');
});

test('a reserved handler without its runtime says why, and nothing else suffers', async () => {
  const { router } = routed();
  await assert.rejects(router.client.runPodSandbox(sandbox, 'microvm'), (error) => {
    assert.ok(isRuntimeError(error, 'Unavailable'));
    return error.message === 'no microvm yet';
  });
  assert.equal(await router.client.runPodSandbox(sandbox, ''), 'main-new');
  assert.throws(() => router.imagesFor('microvm'), /no microvm yet/);
});

test('lists and images are those of all, the same image once', async () => {
  const { main, vm, router } = routed();
  router.add('microvm', vm.runtime);
  assert.deepEqual(
    (await router.client.listPodSandboxes()).map(({ id }) => id),
    ['main-pod', 'vm-pod'],
  );
  assert.equal((await router.client.listImages()).length, 1);
  assert.equal((await router.client.imageStatus('x'))?.id, 'vm');
  await router.client.removeImage('x');
  assert.deepEqual([main.asked, vm.asked], [['remove-image x'], ['remove-image x']]);
  await router.imagesFor('microvm').pullImage('y', undefined);
  assert.deepEqual(vm.asked.at(-1), 'pull y');
});

test('events are those of all, also of one that is added later', async () => {
  const { vm, router } = routed();
  const stop = new AbortController();
  const seen: string[] = [];
  for await (const event of router.client.events(stop.signal)) {
    seen.push(event.type === 'resync' ? event.reason : event.type);
    if (seen.length === 1) router.add('microvm', vm.runtime);
    else stop.abort();
  }
  assert.deepEqual(seen, ['main', 'vm']);
});
