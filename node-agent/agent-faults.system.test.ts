import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createServer as createHttpServer, type Server } from 'node:http';
import * as net from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Event, Node, Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import { type Transport, TransportError } from '#client/transport.ts';
import { connectContainerd, type RuntimeClient } from '#node-agent/runtime/containerd.ts';
import { containerdPaths } from '#node-agent/runtime/containerd-daemon.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';

/** What goes on while something a node needs is away or hangs, and how a user hears of it. */
const skip = missingForTestRuntime() ?? false;
const PODS = '/api/v1/namespaces/default/pods';
let server: TestServer;
let node: TestNode;
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

before(async () => {
  if (skip) return;
  server = await startTestServer();
  const groups = ['system:nodes', 'system:authenticated'];
  line = cuttable(inProcessTransport(server.handle, { name: 'system:node:n1', groups }));
  node = await startTestNode({ api: createApi(line.transport, { userAgent: 'kubelet' }) });
  await server.call('POST', '/api/v1/namespaces/default/serviceaccounts', {
    metadata: { name: 'default' },
  });
  runtime = connectContainerd({ endpoint: containerdPaths(containerdDir()).socket });
});

after(async () => {
  if (skip) return;
  for (const socket of sockets) socket.destroy();
  for (const one of servers) one.close();
  runtime.close();
  await node.close();
  await server.close();
});

const containerdDir = (): string => join(node.rootDir, 'containerd');
const run = (name: string, body: () => Promise<void>): void =>
  void test(name, { skip, timeout: 90_000 }, body);

async function create(name: string, spec: Partial<Pod['spec']>): Promise<void> {
  const answer = await server.call('POST', PODS, {
    metadata: { name },
    spec: {
      nodeName: 'n1',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      ...spec,
    },
  });
  assert.equal(answer.code, 201, answer.text);
}

const shell = (script: string, more = {}): Pod['spec']['containers'] => [
  { name: 'main', image: TEST_IMAGE, command: ['sh', '-c', script], ...more },
];

async function until<T>(ask: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const podAs = (name: string, ok: (pod: Pod) => boolean): Promise<Pod> =>
  until(async () => {
    const pod = (await server.call('GET', `${PODS}/${name}`)).body as unknown as Pod;
    return ok(pod) && pod;
  });

/** An event of the pod, as `Reason: message`. */
const said = (name: string, pattern: RegExp): Promise<string> =>
  until(async () => {
    const path = `/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D${name}`;
    const { body } = await server.call('GET', path);
    const events = body['items'] as unknown as Event[];
    return events.map((e) => `${e.reason}: ${e.message}`).find((text) => pattern.test(text));
  });

const gone = (name: string): Promise<boolean> =>
  until(async () => (await server.call('GET', `${PODS}/${name}`)).code === 404);

const runs = ({ status }: Pod): boolean => status?.phase === 'Running';

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
  await podAs('stays', runs);
  await podAs('ends', runs);
  line.cut();
  const containers = await runtime.listContainers();
  const idOf = (pod: string): string =>
    containers.find((c) => c.labels['io.kubernetes.pod.name'] === pod)?.id ?? '';
  await runtime.stopContainer(idOf('stays'), 0);
  await runtime.execSync(idOf('ends'), ['touch', '/end'], 5_000);
  await until(async () => {
    const now = await runtime.listContainers();
    const again = now.find((c) => c.metadata.attempt === 1 && c.state === 'CONTAINER_RUNNING');
    const over = now.find((c) => c.id === idOf('ends'))?.state === 'CONTAINER_EXITED';
    return again !== undefined && over;
  });
  line.mend();
  const stays = await podAs('stays', (p) => p.status?.containerStatuses?.[0]?.restartCount === 1);
  assert.equal(stays.status?.phase, 'Running');
  const ends = await podAs('ends', (p) => p.status?.phase === 'Succeeded');
  assert.equal(ends.status?.containerStatuses?.[0]?.state?.terminated?.message, 'bye\n');
});

run('a registry that hangs is told of, and holds no deletion up', async () => {
  const port = await listen(net.createServer(() => undefined));
  const image = `127.0.0.1:${port}/none:1`;
  await create('hangs', { containers: [{ name: 'main', image }] });
  await said('hangs', /^Pulling: /);
  const begun = Date.now();
  await server.call('DELETE', `${PODS}/hangs`);
  await gone('hangs');
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
  const pod = await podAs('junk', (p) =>
    Boolean(p.status?.containerStatuses?.[0]?.state?.waiting?.reason?.startsWith('ErrImage')),
  );
  assert.equal(pod.status?.phase, 'Pending');
  await server.call('DELETE', `${PODS}/junk`);
  await gone('junk');
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
  await podAs('probed', (p) => (p.status?.containerStatuses?.[0]?.restartCount ?? 0) > 0);
  await server.call('DELETE', `${PODS}/probed`);
  await gone('probed');
});

run('a volume that cannot be made is told of', async () => {
  const hostPath = { path: '/proc/none/at/all', type: 'DirectoryOrCreate' };
  const volumeMounts = [{ name: 'v', mountPath: '/v' }];
  await create('unwritable', {
    containers: shell('true', { volumeMounts }),
    volumes: [{ name: 'v', hostPath }],
  });
  await said('unwritable', /^FailedMount: .*volume "v"/);
  await server.call('DELETE', `${PODS}/unwritable`);
  await gone('unwritable');
});

run('a runtime that hangs makes the node NotReady, and nothing stays stuck after', async () => {
  const daemon = Number(
    readFileSync(join(containerdPaths(containerdDir()).socket, '../containerd.pid'), 'utf8'),
  );
  const ready = async () => {
    const { body } = await server.call('GET', '/api/v1/nodes/n1');
    return (body as unknown as Node).status?.conditions?.find((c) => c.type === 'Ready');
  };
  process.kill(daemon, 'SIGSTOP');
  try {
    await create('late', { containers: shell('while :; do sleep 0.2; done') });
    const condition = await until(async () => {
      const found = await ready();
      return found?.status === 'False' && found;
    });
    assert.match(condition.message ?? '', /container runtime did not finish/);
  } finally {
    process.kill(daemon, 'SIGCONT');
  }
  await podAs('late', runs);
  await until(async () => (await ready())?.status === 'True');
});
