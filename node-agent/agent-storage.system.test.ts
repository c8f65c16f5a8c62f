import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openImageStore } from '#base/oci/image-store.ts';
import { inPhase, sh, testCluster } from '#node-agent/testing-cluster.ts';
import { TEST_IMAGE } from '#node-agent/testing.ts';

/** Storage that outlives pods, and mounts that spread between them and the host. */
const NAMESPACE = '/api/v1/namespaces/default';
const cluster = testCluster();
const { run, call, get, until, remove } = cluster;

const create = (name: string, script: string, spec: object, own: object = {}) =>
  cluster.create(name, {
    restartPolicy: 'Never',
    terminationGracePeriodSeconds: 0,
    containers: [sh(script, own)],
    ...spec,
  });

run('a claim keeps what one pod wrote for the next', async () => {
  const path = join(cluster.node.dir, 'disk');
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
  await until('writer', inPhase('Succeeded'));
  await remove('writer');
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
  await remove('mounter');
  while (mounted().includes(uid)) await new Promise((resolve) => setTimeout(resolve, 50));
});

run('an image is a volume to read, on any containerd', async () => {
  const store = openImageStore(join(cluster.node.dir, 'images'));
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
  await cluster.node.restart(); // the next agent finds the mount, and knows how to take it away
  await remove('image');
  while (mounts().includes(uid)) await new Promise((resolve) => setTimeout(resolve, 50));
  const config = readFileSync(join(cluster.node.rootDir, 'containerd/config.toml'), 'utf8');
  const socket = /address = "([^"]+)"/.exec(config)?.[1] ?? '';
  const snapshots = () =>
    execFileSync('ctr', ['-a', socket, '-n', 'k8s.io', 'snapshots', 'ls'], { encoding: 'utf8' });
  while (snapshots().includes(uid)) await new Promise((resolve) => setTimeout(resolve, 50));
});

run('an image that is not there is told of', async () => {
  const image = { reference: 'gantry.internal/test/none:1', pullPolicy: 'Never' };
  const own = { volumeMounts: [{ name: 'i', mountPath: '/i' }] };
  await create('no-image', 'true', { volumes: [{ name: 'i', image }] }, own);
  await get<{ items: { message: string }[] }>(`${NAMESPACE}/events`, ({ items }) =>
    items.some(({ message }) => /volume "i" : ErrImageNeverPull/.test(message)),
  );
  await remove('no-image');
});
