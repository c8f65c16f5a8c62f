import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openImageStore } from '#base/oci/image-store.ts';
import { startTestServer, type TestServer } from '#apiserver/testing.ts';
import type { Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { inProcessTransport } from '#client/in-process-transport.ts';
import {
  missingForTestRuntime,
  startTestNode,
  TEST_IMAGE,
  type TestNode,
} from '#node-agent/testing.ts';

/** Storage that outlives pods, and mounts that spread between them and the host. */
const skip = missingForTestRuntime() ?? false;
let server: TestServer;
let node: TestNode;

before(async () => {
  if (skip) return;
  server = await startTestServer();
  const groups = ['system:nodes', 'system:authenticated'];
  const transport = inProcessTransport(server.handle, { name: 'system:node:n1', groups });
  node = await startTestNode({ api: createApi(transport, { userAgent: 'kubelet' }) });
  await call('POST', '/api/v1/namespaces/default/serviceaccounts', {
    metadata: { name: 'default' },
  });
});

after(async () => {
  if (skip) return;
  await node.close();
  await server.close();
  assert.equal(readFileSync('/proc/self/mountinfo', 'utf8').includes(node.dir), false);
});

const NAMESPACE = '/api/v1/namespaces/default';
const run = (name: string, body: () => Promise<void>): void =>
  void test(name, { skip, timeout: 60_000 }, body);

async function call(verb: string, path: string, body: object, headers = {}) {
  const answer = await server.call(verb, path, body, headers);
  assert.ok(answer.code < 300, answer.text);
  return answer.body as Record<string, unknown>;
}

const create = (name: string, script: string, spec: object, own: object = {}) =>
  call('POST', `${NAMESPACE}/pods`, {
    metadata: { name },
    spec: {
      nodeName: 'n1',
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 0,
      containers: [{ name: 'main', image: TEST_IMAGE, command: ['sh', '-c', script], ...own }],
      ...spec,
    },
  });

async function until(name: string, ok: (pod: Pod) => boolean): Promise<Pod> {
  for (;;) {
    const { body } = await server.call('GET', `${NAMESPACE}/pods/${name}`);
    if (ok(body as unknown as Pod)) return body as unknown as Pod;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
const phase = (wanted: string) => (pod: Pod) => pod.status?.phase === wanted;

run('a claim keeps what one pod wrote for the next', async () => {
  const path = join(node.dir, 'disk');
  mkdirSync(path);
  const claim = await call('POST', `${NAMESPACE}/persistentvolumeclaims`, {
    metadata: { name: 'data' },
    spec: {
      accessModes: ['ReadWriteOnce'],
      storageClassName: '',
      volumeName: 'disk',
      resources: { requests: { storage: '1Gi' } },
    },
  });
  const { uid } = claim['metadata'] as { uid: string };
  const onNode = { key: 'kubernetes.io/hostname', operator: 'In', values: ['n1'] };
  await call('POST', '/api/v1/persistentvolumes', {
    metadata: { name: 'disk' },
    spec: {
      accessModes: ['ReadWriteOnce'],
      capacity: { storage: '1Gi' },
      claimRef: { kind: 'PersistentVolumeClaim', namespace: 'default', name: 'data', uid },
      local: { path },
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [onNode] }] } },
    },
  });
  const volumes = [{ name: 'd', persistentVolumeClaim: { claimName: 'data' } }];
  const own = { volumeMounts: [{ name: 'd', mountPath: '/data' }] };
  await create('writer', 'echo kept > /data/file', { volumes }, own);
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal((await until('writer', () => true)).status?.phase, 'Pending', 'not bound yet');
  await call(
    'PATCH',
    `${NAMESPACE}/persistentvolumeclaims/data/status`,
    { status: { phase: 'Bound' } },
    { 'content-type': 'application/merge-patch+json' },
  );
  await until('writer', phase('Succeeded'));
  await server.call('DELETE', `${NAMESPACE}/pods/writer`);
  await create('reader', 'test "$(cat /data/file)" = kept', { volumes }, own);
  await until('reader', (pod) => pod.status?.phase === 'Succeeded');
});

run('a mount made in a privileged pod reaches the host and other containers', async () => {
  const mount = (mountPropagation: string) => ({
    volumeMounts: [{ name: 'v', mountPath: '/v', mountPropagation }],
  });
  const image = { name: 'see', image: TEST_IMAGE };
  const look = 'until test -e /v/in/seen; do sleep 0.1; done';
  await create(
    'mounter',
    'mkdir /v/in; mount -t tmpfs none /v/in; touch /v/in/seen; while :; do sleep 0.2; done',
    {
      volumes: [{ name: 'v', emptyDir: {} }],
      containers: [
        {
          name: 'main',
          image: TEST_IMAGE,
          command: [
            'sh',
            '-c',
            'mkdir /v/in; mount -t tmpfs none /v/in; touch /v/in/seen; while :; do sleep 0.2; done',
          ],
          securityContext: { privileged: true },
          ...mount('Bidirectional'),
        },
        { ...image, command: ['sh', '-c', look], ...mount('HostToContainer') },
      ],
    },
  );
  const pod = await until('mounter', ({ status }) =>
    Boolean(status?.containerStatuses?.find((c) => c.name === 'see')?.state?.terminated),
  );
  const seen = pod.status?.containerStatuses?.find((c) => c.name === 'see')?.state?.terminated;
  assert.equal(seen?.exitCode, 0);
  const mounted = () => execFileSync('cat', ['/proc/self/mountinfo']).toString();
  const uid = pod.metadata.uid ?? '';
  assert.match(mounted(), new RegExp(`pods/${uid}/volumes/\\S+/v/in `));
  await server.call('DELETE', `${NAMESPACE}/pods/mounter`);
  while (mounted().includes(uid)) await new Promise((resolve) => setTimeout(resolve, 50));
});

run('an image is a volume to read, on any containerd', async () => {
  const store = openImageStore(join(node.dir, 'images'));
  const file = (path: string, text: string) =>
    ({ type: 'file', path, mode: 0o755, content: Buffer.from(text) }) as const;
  const layers = [
    await store.addLayer([file('data.json', '{"a":1}'), file('deep/old', 'old')]),
    await store.addLayer([file('deep/new', 'new'), file('deep/old', 'newer')]),
  ];
  const reference = 'gantry.internal/test/data:1';
  store.addImage(reference, layers, {});
  const script = [
    'test "$(cat /i/data.json)" = "{\\"a\\":1}"',
    'test "$(cat /i/deep/old)" = newer',
    'test "$(cat /sub/new)" = new',
    '! touch /i/x',
  ].join(' && ');
  const volumes = [{ name: 'i', image: { reference, pullPolicy: 'Always' } }];
  const own = {
    volumeMounts: [
      { name: 'i', mountPath: '/i' },
      { name: 'i', mountPath: '/sub', subPath: 'deep' },
    ],
  };
  await create('image', `${script} && while :; do sleep 0.1; done`, { volumes }, own);
  const pod = await until('image', ({ status }) => status?.phase !== 'Pending');
  assert.equal(pod.status?.phase, 'Running', JSON.stringify(pod.status?.containerStatuses));
  const uid = pod.metadata.uid ?? '';
  const mounts = () => readFileSync('/proc/self/mountinfo', 'utf8');
  assert.match(mounts(), new RegExp(`pods/${uid}/volumes/kubernetes.io~image/i ro`));
  await node.restart(); // the next agent finds the mount, and knows how to take it away
  await server.call('DELETE', `${NAMESPACE}/pods/image`);
  while (mounts().includes(uid)) await new Promise((resolve) => setTimeout(resolve, 50));
  const config = readFileSync(join(node.rootDir, 'containerd/config.toml'), 'utf8');
  const socket = /address = "([^"]+)"/.exec(config)?.[1] ?? '';
  const snapshots = () =>
    execFileSync('ctr', ['-a', socket, '-n', 'k8s.io', 'snapshots', 'ls'], { encoding: 'utf8' });
  while (snapshots().includes(uid)) await new Promise((resolve) => setTimeout(resolve, 50));
});

run('an image that is not there is told of', async () => {
  const image = { reference: 'gantry.internal/test/none:1', pullPolicy: 'Never' };
  const own = { volumeMounts: [{ name: 'i', mountPath: '/i' }] };
  await create('no-image', 'true', { volumes: [{ name: 'i', image }] }, own);
  for (;;) {
    const { body } = await server.call('GET', `${NAMESPACE}/events`);
    const { items } = body as unknown as { items: { message: string }[] };
    if (items.some(({ message }) => /volume "i" : ErrImageNeverPull/.test(message))) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await server.call('DELETE', `${NAMESPACE}/pods/no-image`);
});
