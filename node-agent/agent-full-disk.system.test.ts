import assert from 'node:assert/strict';
import { appendFileSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import type { Pod } from '#api/types.ts';
import { eventually } from '#base/testing.ts';
import { FOREVER, inPhase, isReady, PODS, sh, testCluster } from '#node-agent/testing-cluster.ts';

/** The disk that the node keeps everything on has no byte left. */
const MIB = 1024 * 1024;
const cluster = testCluster({
  rootBytes: 96 * MIB,
  // Otherwise pods would be evicted in time, which has tests of its own.
  eviction: { evictionHard: 'memory.available<1Mi' },
  timeoutMs: 120_000,
});
const { run, create, until, request } = cluster;
const filler = (): string => join(cluster.node.rootDir, 'filler');

function fill(): void {
  for (let size = 4 * MIB; size >= 1; size = Math.floor(size / 4)) {
    for (;;) {
      try {
        appendFileSync(filler(), Buffer.alloc(size));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
        break;
      }
    }
  }
  assert.equal(statfsSync(cluster.node.rootDir).bavail, 0);
}

const idOf = (pod: Pod): string => pod.status?.containerStatuses?.[0]?.containerID ?? '';
const config = (text: string) =>
  request('PUT', '/api/v1/namespaces/default/configmaps/c', {
    metadata: { name: 'c' },
    data: { text },
  });

async function saysFull(name: string): Promise<boolean> {
  const { body } = await request('GET', '/api/v1/namespaces/default/events');
  const { items } = body as unknown as {
    items: { type: string; message: string; involvedObject: { name: string } }[];
  };
  return items.some(
    ({ type, message, involvedObject }) =>
      type === 'Warning' &&
      involvedObject.name === name &&
      /no space left on device/i.test(message),
  );
}

run('a full disk is told of, loses nothing, and all goes on when there is room again', async () => {
  await request('POST', '/api/v1/namespaces/default/configmaps', {
    metadata: { name: 'c' },
    data: { text: 'first' },
  });
  const volumes = [{ name: 'c', configMap: { name: 'c' } }];
  const volumeMounts = [{ name: 'c', mountPath: '/c' }];
  const readinessProbe = {
    exec: { command: ['sh', '-c', 'test "$(cat /c/text)" = second'] },
    periodSeconds: 1,
  };
  await create('old', { containers: [sh(FOREVER)] });
  await create('reader', { volumes, containers: [sh(FOREVER, { volumeMounts, readinessProbe })] });
  const old = await until('old', isReady);
  await until('reader', inPhase('Running'));

  fill();
  await create('new', { volumes, containers: [sh(FOREVER, { volumeMounts })] });
  await eventually('the pod says why it does not start', () => saysFull('new'));
  assert.equal((await config('second')).code, 200);
  rmSync(filler());
  await until('new', isReady);
  await until('reader', isReady);

  fill();
  // An agent that is started anew finds no room either, and goes on with what there is.
  await cluster.node.restart();
  assert.equal(idOf(await until('old', isReady)), idOf(old));
  await create('gone', { containers: [sh(FOREVER)] });
  await cluster.remove('gone');
  // The runtime cannot even forget a container without room to write that.
  await request('DELETE', `${PODS}/new`);
  rmSync(filler());
  await cluster.gone('new');
  assert.equal(idOf(await until('old', isReady)), idOf(old));
  await create('last', { containers: [sh(FOREVER)] });
  await until('last', isReady);
});
