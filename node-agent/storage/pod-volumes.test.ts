import assert from 'node:assert/strict';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { ConfigMap, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { CsiVolumes } from '#node-agent/csi/csi-volumes.ts';
import type { DownwardSource } from '#node-agent/containers/downward-api.ts';
import { ImageVolumes } from '#node-agent/storage/image-volumes.ts';
import { LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import { isMountPoint, unmountAll } from '#node-agent/storage/mounts.ts';
import { type PodPaths, podPaths } from '#node-agent/pods/pod-files.ts';
import {
  containerMounts,
  prepareVolumes,
  releaseVolumes,
  type VolumeServices,
} from '#node-agent/storage/pod-volumes.ts';
import { featuresOf } from '#node-agent/runtime/containerd.ts';

const root = mkdtempSync('/tmp/G-volumes-');
after(() => rmSync(root, { recursive: true, force: true }));
const isRoot = process.getuid?.() === 0;

const maps = new Map<string, ConfigMap>([
  ['cm', { metadata: {}, data: { 'a.txt': 'one', b: 'two' }, binaryData: { bin: '/wA=' } }],
]);
const claims = new Map<string, PersistentVolumeClaim>();
const persistent = new Map<string, PersistentVolume>();
const services: VolumeServices = {
  paths: podPaths(root),
  memoryDir: undefined,
  objects: {
    configMap: async (_, name) => maps.get(name),
    secret: async (_, name) =>
      name === 's'
        ? { metadata: {}, data: { key: Buffer.from('pw').toString('base64') } }
        : undefined,
    claim: async (_, name) => claims.get(name),
    persistentVolume: async (name) => persistent.get(name),
  },
  tokens: { token: async (_, audience) => `token-for-${audience ?? 'api'}` },
  csi: noDrivers(podPaths(root)),
  images: noImages(podPaths(root)),
  local: new LocalVolumes(join(root, 'local')),
  trust: async ({ name }) => `trust in ${name}`,
};

function noImages(paths: PodPaths): ImageVolumes {
  const none = () => Promise.reject(new Error('no images here'));
  const { signal } = new AbortController();
  const images = { present: none, ensure: none, removed: none };
  return new ImageVolumes({ snapshots: undefined, images, paths, clock: systemClock, signal });
}

function noDrivers(paths: PodPaths): CsiVolumes {
  return new CsiVolumes({
    nodeName: 'n',
    rootDir: root,
    paths,
    clock: systemClock,
    log: silentLog,
    objects: () => services.objects,
    tokens: { token: () => Promise.reject(new Error('no tokens here')) },
    driver: () => undefined,
    driverObject: () => undefined,
    api: createApi(
      { request: () => Promise.reject(new Error('no API here')), close: () => Promise.resolve() },
      { userAgent: 'test' },
    ),
  });
}

let serial = 0;
function podWith(volumes: Pod['spec']['volumes'], context?: Pod['spec']['securityContext']): Pod {
  return {
    metadata: { name: 'p', namespace: 'ns', uid: `u${serial++}`, labels: { a: '1' } },
    spec: {
      containers: [{ name: 'c' }],
      volumes: volumes ?? [],
      ...(context ? { securityContext: context } : {}),
    },
  };
}

const downward = (pod: Pod): DownwardSource => ({
  pod,
  podIps: [],
  hostIps: [],
  nodeName: 'n',
  allocatable: new Map(),
});

async function prepare(pod: Pod): Promise<string> {
  const ready = await prepareVolumes(pod, services, downward(pod));
  return ready.get('v')?.path ?? '';
}

const files = (dir: string): string[] =>
  readdirSync(dir)
    .filter((n) => !n.startsWith('..'))
    .sort();

test('a configMap volume follows the object by one rename', async () => {
  const pod = podWith([{ name: 'v', configMap: { name: 'cm' } }]);
  const dir = await prepare(pod);
  assert.deepEqual(files(dir), ['a.txt', 'b', 'bin']);
  assert.deepEqual([...readFileSync(join(dir, 'bin'))], [0xff, 0x00]);
  assert.equal(statSync(join(dir, 'b')).mode & 0o777, 0o644);
  const before = realpathSync(join(dir, '..data'));
  await prepare(pod);
  assert.equal(realpathSync(join(dir, '..data')), before, 'unchanged content is left alone');
  maps.set('cm', { metadata: {}, data: { b: 'new', c: 'three' } });
  await prepare(pod);
  assert.deepEqual(files(dir), ['b', 'c']);
  assert.equal(readFileSync(join(dir, 'b'), 'utf8'), 'new');
  assert.deepEqual(readdirSync(dir).filter((n) => n.startsWith('..')).length, 2);
});

test('items choose paths and modes; missing ones are named unless optional', async () => {
  const items = [{ key: 'key', path: 'deep/er/name', mode: 0o400 }];
  const dir = await prepare(podWith([{ name: 'v', secret: { secretName: 's', items } }]));
  assert.equal(readFileSync(join(dir, 'deep/er/name'), 'utf8'), 'pw');
  assert.equal(statSync(join(dir, 'deep/er/name')).mode & 0o777, 0o400);
  const none = [{ key: 'zz', path: 'x' }];
  await assert.rejects(
    prepare(podWith([{ name: 'v', secret: { secretName: 's', items: none } }])),
    /MountVolume.SetUp failed for volume "v" : secret "s" references non-existent key: zz/,
  );
  const optional = await prepare(
    podWith([{ name: 'v', configMap: { name: 'no', optional: true } }]),
  );
  assert.deepEqual(files(optional), []);
  const escape = [{ key: 'key', path: '../x' }];
  await assert.rejects(
    prepare(podWith([{ name: 'v', secret: { secretName: 's', items: escape } }])),
    /must be relative/,
  );
});

test('a projected volume joins its sources and keeps tokens private', async () => {
  const sources = [
    { serviceAccountToken: { path: 'token', audience: 'vault' } },
    { configMap: { name: 'cm', items: [{ key: 'c', path: 'ca.crt' }] } },
    { clusterTrustBundle: { name: 'roots', path: 'roots.pem' } },
    { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
  ];
  const dir = await prepare(podWith([{ name: 'v', projected: { sources } }], { fsGroup: 2000 }));
  assert.deepEqual(files(dir), ['ca.crt', 'labels', 'roots.pem', 'token']);
  assert.equal(readFileSync(join(dir, 'token'), 'utf8'), 'token-for-vault');
  assert.equal(readFileSync(join(dir, 'labels'), 'utf8'), 'a="1"');
  if (!isRoot) return;
  const token = statSync(join(dir, 'token'));
  assert.equal(token.mode & 0o777, 0o640);
  assert.equal(token.gid, 2000);
});

test('emptyDir is for everyone, a tmpfs when asked, and gone when released', {
  skip: !isRoot && 'needs root',
}, async () => {
  const plain = podWith([{ name: 'v', emptyDir: {} }], { fsGroup: 3000 });
  const dir = await prepare(plain);
  assert.equal(statSync(dir).mode & 0o7777, 0o2777);
  assert.equal(statSync(dir).gid, 3000);
  const memory = podWith([{ name: 'v', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }]);
  const tmpfs = await prepare(memory);
  await prepare(memory);
  assert.ok(isMountPoint(tmpfs));
  assert.equal(statSync(tmpfs).mode & 0o7777, 0o777);
  assert.throws(() => writeFileSync(join(tmpfs, 'big'), Buffer.alloc(2 ** 21)), /ENOSPC/);
  const bounded = podWith([{ name: 'v', emptyDir: { medium: 'Memory' } }]);
  bounded.spec.containers = [{ name: 'c', resources: { limits: { memory: '3Mi' } } }];
  const { blocks, bsize } = statfsSync(await prepare(bounded));
  assert.equal(blocks * bsize, 3 * 2 ** 20, 'no larger than the memory of the pod');
  await releaseVolumes(bounded.metadata.uid ?? '', services);
  await releaseVolumes(memory.metadata.uid ?? '', services);
  await releaseVolumes(memory.metadata.uid ?? '', services);
  assert.equal(isMountPoint(tmpfs), false);
  assert.throws(() => statSync(tmpfs), /ENOENT/);
});

test('hostPath types are checked', async () => {
  const at = (path: string, type: string) =>
    prepare(podWith([{ name: 'v', hostPath: { path, type } }]));
  assert.equal(await at('/etc', 'Directory'), '/etc');
  await assert.rejects(at('/etc', 'File'), /hostPath type check failed: \/etc is not a file/);
  // Where nobody can make a directory it fails, and does not go on for ever.
  await assert.rejects(at('/proc/none/at/all', 'DirectoryOrCreate'), /ENOENT/);
  const made = join(root, 'made/here');
  await at(made, 'DirectoryOrCreate');
  assert.ok(statSync(made).isDirectory());
  await at(join(root, 'made/file'), 'FileOrCreate');
  assert.ok(statSync(join(root, 'made/file')).isFile());
});

test('an unknown volume type is refused by name', async () => {
  const pod = podWith([{ name: 'v', iscsi: { targetPortal: 'x', iqn: 'q', lun: 0 } }]);
  await assert.rejects(prepare(pod), /type iscsi is not supported/);
});

test('an image is refused where the runtime does not show it', async () => {
  const pod = podWith([{ name: 'v', image: { reference: 'x' } }]);
  await assert.rejects(prepare(pod), /image volumes are not supported with this container runtime/);
});

test('subPath stays inside its volume', async () => {
  const dir = mkdtempSync(join(root, 'sub-'));
  symlinkSync('/etc', join(dir, 'out'));
  chmodSync(dir, 0o2775); // as fsGroup leaves it
  const volumes = new Map([['v', { path: dir, readOnly: false }]]);
  const features = featuresOf('containerd', '1.6.20');
  const mount = (of: object) =>
    containerMounts(
      { name: 'c', volumeMounts: [{ name: 'v', mountPath: '/m', ...of }] },
      volumes,
      new Map([['NAME', 'x']]),
      features,
    );
  const [made] = await mount({ subPathExpr: 'logs/$(NAME)' });
  assert.equal(made?.hostPath, join(dir, 'logs/x'));
  assert.equal(statSync(join(dir, 'logs/x')).mode, statSync(dir).mode);
  await assert.rejects(mount({ subPath: '../x' }), ConfigError);
  await assert.rejects(mount({ subPath: 'out' }), /leads out of the volume/);
  await assert.rejects(mount({ subPath: 'out/gantry-none' }), /leads out of the volume/);
  if (isRoot) {
    const bound = mkdtempSync(join(root, 'bound-'));
    after(() => unmountAll(bound));
    const spec = { name: 'c', volumeMounts: [{ name: 'v', mountPath: '/m', subPath: 'logs/x' }] };
    const [first] = await containerMounts(spec, volumes, new Map(), features, bound);
    assert.equal(first?.hostPath, join(bound, 'v/c/0'));
    writeFileSync(join(dir, 'logs/x/file'), 'seen');
    assert.equal(readFileSync(join(bound, 'v/c/0/file'), 'utf8'), 'seen');
    // Whoever can write to the volume exchanges the directory afterwards: the mount stays.
    renameSync(join(dir, 'logs/x'), join(dir, 'logs/y'));
    symlinkSync('/etc', join(dir, 'logs/x'));
    assert.deepEqual(files(join(bound, 'v/c/0')), ['file']);
    await assert.rejects(
      containerMounts(spec, volumes, new Map(), features, bound),
      /leads out of the volume/,
    );
  }
  await assert.rejects(mount({ subPathExpr: '$(NO)' }), /failed to expand subPathExpr/);
  await assert.rejects(mount({ recursiveReadOnly: 'Enabled', readOnly: true }), /not supported/);
});

test('claims: bound to a directory of the node, or why not', async () => {
  const data = mkdtempSync('/tmp/G-claims-');
  after(() => rmSync(data, { recursive: true, force: true }));
  const claim = (name: string, volumeName: string, of: object = {}): void =>
    void claims.set(name, {
      metadata: { name, uid: `uid-${name}` },
      spec: { volumeName },
      status: { phase: 'Bound' },
      ...of,
    } as PersistentVolumeClaim);
  const volume = (name: string, forClaim: string, spec: object): void =>
    void persistent.set(name, {
      metadata: { name },
      spec: { claimRef: { uid: `uid-${forClaim}` }, ...spec },
    } as PersistentVolume);
  claim('good', 'pv-local');
  volume('pv-local', 'good', { local: { path: data } });
  claim('host', 'pv-host');
  volume('pv-host', 'host', { hostPath: { path: join(data, 'made'), type: 'DirectoryOrCreate' } });
  claim('pending', '', { status: { phase: 'Pending' } });
  claim('stolen', 'pv-local');
  claim('block', 'pv-block');
  volume('pv-block', 'block', { volumeMode: 'Block', local: { path: data } });
  claim('away', 'pv-away');
  volume('pv-away', 'away', { iscsi: { targetPortal: 's', iqn: 'q', lun: 0 } });
  claim('lost', 'pv-none');
  claim('nowhere', 'pv-nowhere');
  volume('pv-nowhere', 'nowhere', { local: { path: join(data, 'missing') } });
  const prepare = async (claimName: string, readOnly = false) => {
    const pod = podWith([{ name: 'v', persistentVolumeClaim: { claimName, readOnly } }]);
    return (await prepareVolumes(pod, services, downward(pod))).get('v');
  };
  assert.deepEqual(await prepare('good'), { path: data, readOnly: false });
  assert.deepEqual(await prepare('good', true), { path: data, readOnly: true });
  assert.deepEqual(await prepare('host'), { path: join(data, 'made'), readOnly: false });
  const wrong: [string, RegExp][] = [
    ['none', /persistentvolumeclaim "none" not found/],
    ['pending', /persistentvolumeclaim "pending" is not bound/],
    ['stolen', /"pv-local" is bound to another claim than "stolen"/],
    ['block', /is no block device of this node/],
    ['away', /volumes of type iscsi are not supported by this node/],
    ['lost', /persistentvolume "pv-none" not found/],
    ['nowhere', /missing" is no directory or block device of this node/],
  ];
  for (const [name, message] of wrong) await assert.rejects(prepare(name), message);

  const pod = podWith([{ name: 'v', ephemeral: {} }]);
  claim('p-v', 'pv-ephemeral', { metadata: { name: 'p-v', uid: 'uid-p-v' } });
  volume('pv-ephemeral', 'p-v', { local: { path: data } });
  await assert.rejects(prepareVolumes(pod, services, downward(pod)), /pod is not owner/);
  const owner = { controller: true, uid: pod.metadata.uid };
  claim('p-v', 'pv-ephemeral', { metadata: { uid: 'uid-p-v', ownerReferences: [owner] } });
  assert.equal((await prepareVolumes(pod, services, downward(pod))).get('v')?.path, data);
  await releaseVolumes(pod.metadata.uid ?? '', services);
  assert.ok(statSync(join(data, 'made')).isDirectory(), 'what claims hold outlives the pod');
});
