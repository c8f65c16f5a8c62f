import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import * as net from 'node:net';
import { join } from 'node:path';
import { eventually } from '#base/testing.ts';
import type { Event, Node, Pod } from '#api/types.ts';
import { type Transport, TransportError } from '#client/transport.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import { inPhase, sh, testCluster } from '#node-agent/testing-cluster.ts';

/** What goes on while something a node needs is away or hangs, and how a user hears of it. */
let runtime: RuntimeClient;
let line: ReturnType<typeof cuttable>;
const servers: (Server | net.Server)[] = [];
const sockets = new Set<net.Socket>();

/** A transport that can be cut: what is under way breaks, what is new is refused. */
function cuttable(transport: Transport) {
  let cut = new AbortController();
  let away = false;
  return {
    transport: {
      async request(request) {
        if (away) throw new TransportError('connection refused');
        const signal = request.signal ? AbortSignal.any([request.signal, cut.signal]) : cut.signal;
        return transport.request({ ...request, signal });
      },
      close: () => transport.close(),
    } satisfies Transport,
    cut() {
      away = true;
      cut.abort(new TransportError('connection reset'));
    },
    mend() {
      cut = new AbortController();
      away = false;
    },
  };
}

/** How long the API server stays away besides what the test needs; minutes only when asked for. */
const OUTAGE_MS = Number(process.env['GANTRY_TEST_OUTAGE_MS'] ?? 0);
/** By then the slowest retry has found that the server is back, however long it was away. */
const BACK_MS = 35_000;

const cluster = testCluster({
  timeoutMs: 90_000 + OUTAGE_MS,
  wrap(transport) {
    line = cuttable(transport);
    return line.transport;
  },
  started() {
    runtime = connectContainerd({ endpoint: containerdPaths(containerdDir()).socket });
  },
  ending() {
    for (const socket of sockets) socket.destroy();
    for (const one of servers) one.close();
    runtime.close();
  },
});
const { run, request, create, until, remove } = cluster;
const containerdDir = (): string => join(cluster.node.rootDir, 'containerd');

const shell = (script: string, more = {}): Pod['spec']['containers'] => [sh(script, more)];

/** An event of the pod, as `Reason: message`. */
const said = (name: string, pattern: RegExp): Promise<string> =>
  eventually(`an event ${pattern} of pod ${name}`, async () => {
    const path = `/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D${name}`;
    const { body } = await request('GET', path);
    const events = body['items'] as unknown as Event[];
    return events.map((e) => `${e.reason}: ${e.message}`).find((text) => pattern.test(text));
  });

const runs = inPhase('Running');

async function listen(one: Server | net.Server): Promise<number> {
  servers.push(one);
  one.on('connection', (socket: net.Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve));
  return (one.address() as net.AddressInfo).port;
}

run('while the API server is away pods go on, and their status is told after', async () => {
  await create('stays', { containers: shell('while :; do sleep 0.2; done') });
  await create('ends', {
    restartPolicy: 'Never',
    containers: shell('while [ ! -e /end ]; do sleep 0.1; done; echo bye >/dev/termination-log'),
  });
  await until('stays', runs);
  await until('ends', runs);
  line.cut();
  const containers = await runtime.listContainers();
  const idOf = (pod: string): string =>
    containers.find((c) => c.labels['io.kubernetes.pod.name'] === pod)?.id ?? '';
  await runtime.stopContainer(idOf('stays'), 0);
  await runtime.execSync(idOf('ends'), ['touch', '/end'], 5_000);
  await eventually('a second container, and the end of the other', async () => {
    const now = await runtime.listContainers();
    const again = now.find((c) => c.metadata.attempt === 1 && c.state === 'CONTAINER_RUNNING');
    const over = now.find((c) => c.id === idOf('ends'))?.state === 'CONTAINER_EXITED';
    return again !== undefined && over;
  });
  await new Promise((resolve) => setTimeout(resolve, OUTAGE_MS));
  line.mend();
  const backAtMs = Date.now();
  const stays = await until('stays', (p) => p.status?.containerStatuses?.[0]?.restartCount === 1);
  assert.equal(stays.status?.phase, 'Running');
  const ends = await until('ends', (p) => p.status?.phase === 'Succeeded');
  assert.equal(ends.status?.containerStatuses?.[0]?.state?.terminated?.message, 'bye\n');
  // What is new comes through as well.
  await create('later', { containers: shell('while :; do sleep 0.2; done') });
  await until('later', runs);
  assert.ok(Date.now() - backAtMs < BACK_MS, `${Date.now() - backAtMs} ms after it was back`);
  if (OUTAGE_MS > 0) console.log(`all told ${Date.now() - backAtMs} ms after ${OUTAGE_MS} ms away`);
});

run('a registry that hangs is told of, and holds no deletion up', async () => {
  const port = await listen(net.createServer(() => undefined));
  const image = `127.0.0.1:${port}/none:1`;
  await create('hangs', { containers: [{ name: 'main', image }] });
  await said('hangs', /^Pulling: /);
  const begun = Date.now();
  await remove('hangs');
  assert.ok(Date.now() - begun < 10_000, 'deleted while its pull hangs');
});

run('an image that is no image is told of', async () => {
  const registry = createHttpServer((_request, response) => {
    response.setHeader('content-type', 'application/vnd.oci.image.manifest.v1+json');
    response.end('this is no image');
  });
  const image = `127.0.0.1:${await listen(registry)}/junk:1`;
  await create('junk', { containers: [{ name: 'main', image }] });
  await said('junk', /^Failed: Failed to pull image/);
  const pod = await until('junk', (p) =>
    Boolean(p.status?.containerStatuses?.[0]?.state?.waiting?.reason?.startsWith('ErrImage')),
  );
  assert.equal(pod.status?.phase, 'Pending');
  await remove('junk');
});

run('a probe that hangs counts as failed when its time is over', async () => {
  const livenessProbe = {
    exec: { command: ['sleep', '1000'] },
    timeoutSeconds: 1,
    periodSeconds: 1,
    failureThreshold: 1,
  };
  await create('probed', { containers: shell('while :; do sleep 0.2; done', { livenessProbe }) });
  await said('probed', /^Unhealthy: Liveness probe failed: command timed out/);
  await until('probed', (p) => (p.status?.containerStatuses?.[0]?.restartCount ?? 0) > 0);
  await remove('probed');
});

run('a volume that cannot be made is told of', async () => {
  const hostPath = { path: '/proc/none/at/all', type: 'DirectoryOrCreate' };
  const volumeMounts = [{ name: 'v', mountPath: '/v' }];
  await create('unwritable', {
    containers: shell('true', { volumeMounts }),
    volumes: [{ name: 'v', hostPath }],
  });
  await said('unwritable', /^FailedMount: .*volume "v"/);
  await remove('unwritable');
});

run('a runtime that hangs makes the node NotReady, and nothing stays stuck after', async () => {
  const daemon = Number(
    readFileSync(join(containerdPaths(containerdDir()).socket, '../containerd.pid'), 'utf8'),
  );
  const ready = async () => {
    const { body } = await request('GET', '/api/v1/nodes/n1');
    return (body as unknown as Node).status?.conditions?.find((c) => c.type === 'Ready');
  };
  process.kill(daemon, 'SIGSTOP');
  try {
    await create('late', { containers: shell('while :; do sleep 0.2; done') });
    const condition = await eventually('the node is NotReady', async () => {
      const found = await ready();
      return found?.status === 'False' && found;
    });
    assert.match(condition.message ?? '', /container runtime did not finish/);
  } finally {
    process.kill(daemon, 'SIGCONT');
  }
  await until('late', runs);
  await eventually('the node is Ready again', async () => (await ready())?.status === 'True');
});
