import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { issueNodeCredentials } from '#apiserver/kubeconfig.ts';
import { startTestServer, type TestAnswer, type TestServer } from '#apiserver/testing.ts';
import { systemClock } from '#base/clock.ts';
import { createLog } from '#base/log.ts';
import { eventually } from '#base/testing.ts';
import type { ContainerStatus, Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import type { Transport } from '#client/transport.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
  type TestNodeOptions,
} from '#node-agent/testing.ts';

/** Longer than anything of a pod takes on a busy machine; shorter than a test's own limit. */
const LIMIT_MS = 45_000;
const LOOK_MS = 20;
const NAMESPACE = '/api/v1/namespaces/default';
/** Where the objects are that tests make most. */
export const PODS = `${NAMESPACE}/pods`;

type Container = Pod['spec']['containers'][number];

export type TestClusterOptions = Omit<TestNodeOptions, 'api' | 'log' | 'nodeName' | 'tls'> & {
  /** Why the file's tests do not run. Default: what containers miss on this machine. */
  skip?: string | false | undefined;
  /** Give the node a serving certificate, so that the API server reaches it. */
  tls?: true;
  /** How long a test may take. Default: 60 s. */
  timeoutMs?: number;
  /** Done to the server before the node starts. */
  prepare?: (server: TestServer) => Promise<unknown>;
  /** Done when the node is Ready. */
  started?: () => unknown;
  /** Done before the node is stopped; only after `started`. */
  ending?: () => unknown;
  /** Stands between the node and the server. */
  wrap?: (transport: Transport) => Transport;
};

/** An API server and the node `n1` in one process, and what tests ask of them. */
export type TestCluster = {
  readonly server: TestServer;
  readonly node: TestNode;
  /** A test of the file. */
  run: (name: string, body: () => Promise<void>) => void;
  /** An administrator's request, whatever comes of it. */
  request: TestServer['call'];
  /** A request that must succeed; returns its answer's body. */
  call: (...of: Parameters<TestServer['call']>) => Promise<TestAnswer['body']>;
  /** Makes a pod of namespace `default`, bound to the node; without token and with a second's grace. */
  create: (name: string, spec: Partial<Pod['spec']>, metadata?: object) => Promise<void>;
  /** The object of a path, once it is as wanted. */
  get: <T>(path: string, ok: (object: T) => boolean) => Promise<T>;
  /** The pod, once it is as wanted. */
  until: (name: string, ok: (pod: Pod) => boolean) => Promise<Pod>;
  /** Resolves when the pod is no more. */
  gone: (name: string) => Promise<void>;
  /** Deletes the pod and waits until it is no more. */
  remove: (name: string, options?: { gracePeriodSeconds?: number }) => Promise<void>;
};

/**
 * Starts an API server and a node before the tests of the calling file, ends them after, and sees that
 * nothing stays mounted. To be called once, at the top of the file.
 */
export function testCluster(options: TestClusterOptions = {}): TestCluster {
  const {
    skip = missingForTestRuntime(),
    tls,
    timeoutMs = 60_000,
    prepare,
    started,
    ending,
    wrap,
    ...own
  } = options;
  let server: TestServer;
  let node: TestNode;
  /** What undoes each step of the start. */
  const undo: (() => unknown)[] = [];

  before(async () => {
    if (skip) return;
    server = await startTestServer();
    undo.push(() => server.close());
    await prepare?.(server);
    const groups = ['system:nodes', 'system:authenticated'];
    const transport = inProcessTransport(server.handle, { name: 'system:node:n1', groups });
    await call('POST', `${NAMESPACE}/serviceaccounts`, { metadata: { name: 'default' } });
    node = await startTestNode({
      ...own,
      api: createApi(wrap?.(transport) ?? transport, { userAgent: 'kubelet' }),
      ...(tls ? { tls: await credentials(server) } : {}),
      ...(process.env['GANTRY_TEST_LOG'] ? { log: createLog({ level: 'debug' }) } : {}),
    });
    undo.push(async () => {
      await node.close();
      const mounted = readFileSync('/proc/self/mountinfo', 'utf8');
      assert.ok(!mounted.includes(node.dir), 'something of the node is still mounted');
    });
    await started?.();
    if (ending) undo.push(ending);
  });

  after(async () => {
    for (const step of undo.reverse()) await step();
  });

  const request: TestServer['call'] = (...of) => server.call(...of);
  const call: TestCluster['call'] = async (...of) => {
    const answer = await request(...of);
    assert.ok(answer.code < 300, answer.text);
    return answer.body;
  };
  async function get<T>(path: string, ok: (object: T) => boolean): Promise<T> {
    let last = '';
    const look = async (): Promise<T | undefined> => {
      const { code, body, text } = await request('GET', path);
      last = text;
      return code < 300 && ok(body as T) ? (body as T) : undefined;
    };
    return eventually(() => `${path} as wanted; it is ${last}`, look, LIMIT_MS, LOOK_MS);
  }
  const gone = async (name: string): Promise<void> => {
    const look = async () => (await request('GET', `${PODS}/${name}`)).code === 404;
    await eventually(() => `pod ${name} is gone`, look, LIMIT_MS, LOOK_MS);
  };

  return {
    get server() {
      return server;
    },
    get node() {
      return node;
    },
    run: (name, body) => void test(name, { skip: skip ?? false, timeout: timeoutMs }, body),
    request,
    call,
    async create(name, spec, metadata = {}) {
      await call('POST', PODS, {
        metadata: { name, ...metadata },
        spec: {
          nodeName: 'n1',
          automountServiceAccountToken: false,
          terminationGracePeriodSeconds: 1,
          ...spec,
        },
      });
    },
    get,
    until: (name, ok) => get(`${PODS}/${name}`, ok),
    gone,
    async remove(name, how) {
      await request('DELETE', `${PODS}/${name}`, how);
      await gone(name);
    },
  };
}

const credentials = (server: TestServer): ReturnType<typeof issueNodeCredentials> =>
  issueNodeCredentials(server.dataDir, {
    nodeName: 'n1',
    ips: ['127.0.0.1'],
    server: server.url,
    clock: systemClock,
  });

/** A container named `main` of the test image that runs a script. */
export const sh = (script: string, of: Partial<Container> = {}): Container => ({
  name: 'main',
  image: TEST_IMAGE,
  command: ['/bin/sh', '-c', script],
  ...of,
});

/** A script that ends when it is killed. */
export const FOREVER = 'while :; do sleep 0.1; done';

export const isReady = (pod: Pod | undefined): boolean =>
  pod?.status?.conditions?.find((c) => c.type === 'Ready')?.status === 'True';

export const inPhase = (phase: string) => (pod: Pod | undefined) => pod?.status?.phase === phase;

/** The status of the pod's first container. */
export const mainStatus = (pod: Pod): ContainerStatus => {
  const [status] = pod.status?.containerStatuses ?? [];
  assert.ok(status, `pod ${pod.metadata.name} has no container status`);
  return status;
};
