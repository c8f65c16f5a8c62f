import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { attachmentName, uniqueVolumeName } from '#api/csi-names.ts';
import type { CSIDriver, Pod } from '#api/types.ts';
import { nodes, volumeAttachments } from '#client/resources.ts';
import { simulateApi } from '#client/simulated-api.ts';
import type { CsiDriver, NodeCapability } from '#node-agent/csi/csi-driver.ts';
import type { CsiRequest } from '#node-agent/csi/csi-request.ts';
import { CsiVolumes } from '#node-agent/csi/csi-volumes.ts';
import { podPaths } from '#node-agent/pods/pod-files.ts';
import { NotYetError } from '#node-agent/storage/volume-type.ts';

/** The order of a driver's calls, with a driver that only notes them: nothing is mounted. */
const NODE = 'n1';
const roots: string[] = [];
after(() => {
  for (const root of roots) rmSync(root, { recursive: true, force: true });
});

function world(spec: Partial<CSIDriver['spec']> = { attachRequired: false }) {
  const rootDir = mkdtempSync(join(tmpdir(), 'gantry-csi-'));
  roots.push(rootDir);
  const calls: string[] = [];
  const api = simulateApi();
  const capabilities = new Set<NodeCapability>(['STAGE_UNSTAGE_VOLUME', 'GET_VOLUME_STATS']);
  let isThere = true;
  let failure = '';
  const note = async (call: string, path: string): Promise<void> => {
    calls.push(call);
    if (failure === call) throw new Error('the driver refuses');
    if (call === 'publish') mkdirSync(path, { recursive: true });
  };
  const driver: CsiDriver = {
    name: 'd',
    nodeInfo: () => Promise.reject(new Error('not asked')),
    capabilities: async () => capabilities,
    stage: ({ stagingTargetPath }) => note('stage', stagingTargetPath),
    unstage: (_, path) => note('unstage', path),
    publish: ({ targetPath }) => note('publish', targetPath),
    unpublish: (_, path) => note('unpublish', path),
    expand: ({ volumePath }) => note('expand', volumePath),
    stats: async () => ({ usage: [], volumeCondition: null }),
    close: () => undefined,
  };
  const open = () =>
    new CsiVolumes({
      api,
      nodeName: NODE,
      rootDir,
      paths: podPaths(rootDir),
      clock: systemClock,
      log: silentLog,
      objects: () => {
        throw new Error('nothing is referred to');
      },
      tokens: { token: () => Promise.reject(new Error('no tokens')) },
      driverObject: (name) => ({ metadata: { name }, spec }),
      driver: () => (isThere ? driver : undefined),
    });
  return {
    api,
    calls,
    rootDir,
    open,
    leave: () => (isThere = false),
    come: () => (isThere = true),
    fail: (call: string) => (failure = call),
  };
}

const pod = (uid: string): Pod => ({
  metadata: { name: uid, namespace: 'ns', uid },
  spec: { containers: [] },
});

const request = (uid: string, of: Partial<CsiRequest> = {}): CsiRequest => ({
  pod: pod(uid),
  volume: 'v',
  claim: 'c',
  name: 'pv',
  driver: 'd',
  handle: 'h',
  lifecycle: 'Persistent',
  block: false,
  readOnly: false,
  fsType: '',
  mountOptions: [],
  accessModes: ['ReadWriteOnce'],
  attributes: {},
  secrets: {},
  ...of,
});
const FIRST = { refresh: false };

test('staged once, published for each pod, given back in the opposite order', async () => {
  const { open, calls } = world();
  const volumes = open();
  await volumes.mount(request('a'), FIRST);
  await volumes.mount(request('b'), FIRST);
  await volumes.mount(request('b'), { refresh: true });
  await volumes.releasePod('a');
  await volumes.releasePod('b');
  await volumes.releasePod('b');
  const wanted = ['stage', 'publish', 'publish', 'unpublish', 'unpublish', 'unstage'];
  assert.deepEqual(calls, wanted);
  await volumes.mount(request('b'), { refresh: true });
  assert.deepEqual(calls, wanted, 'a refresh that comes late does nothing');
});

test('what was cut off anywhere is undone by the next agent, once the driver is there', async () => {
  for (const cut of ['stage', 'publish']) {
    const { open, calls, fail, leave, come, rootDir } = world();
    fail(cut);
    await assert.rejects(open().mount(request('a'), FIRST), /the driver refuses/);
    fail('');
    const next = open();
    assert.ok(next.hasPersistent('a'));
    leave();
    await assert.rejects(next.releasePod('a'), /not found in the list of registered CSI drivers/);
    come();
    await next.releasePod('a');
    assert.deepEqual(calls.slice(-2), ['unpublish', 'unstage'], cut);
    assert.equal(existsSync(join(rootDir, 'pods/a/volumes/kubernetes.io~csi/pv')), false);
  }
});

test('a driver that wants it is asked to publish again and again', async () => {
  const { open, calls } = world({ attachRequired: false, requiresRepublish: true });
  const volumes = open();
  assert.ok(volumes.republishes('d'));
  await volumes.mount(request('a'), FIRST);
  await volumes.mount(request('a'), { refresh: true });
  assert.deepEqual(calls, ['stage', 'publish', 'publish']);
});

test('an inline volume is not staged, and only drivers that say so have them', async () => {
  const inline: Partial<CsiRequest> = { lifecycle: 'Ephemeral', claim: '', name: 'v' };
  const persistentOnly = world().open();
  await assert.rejects(
    persistentOnly.mount(request('a', inline), FIRST),
    /volume mode "Ephemeral" not supported by driver d/,
  );
  const { open, calls } = world({ volumeLifecycleModes: ['Ephemeral'] });
  const volumes = open();
  await volumes.mount(request('a', inline), FIRST);
  await volumes.releasePod('a');
  assert.deepEqual(calls, ['publish', 'unpublish']);
  assert.deepEqual(volumes.volumesInUse(), []);
});

test('a volume for one pod alone is refused to the second', async () => {
  const volumes = world().open();
  const alone = { accessModes: ['ReadWriteOncePod'] };
  await volumes.mount(request('a', alone), FIRST);
  await volumes.mount(request('a', alone), FIRST);
  await assert.rejects(volumes.mount(request('b', alone), FIRST), /in use by another pod/);
});

test('a volume is mounted when it is reported in use, attached, and on the list of the node', async () => {
  const { open, calls, api } = world({});
  const volumes = open();
  const unique = uniqueVolumeName('d', 'h');
  volumes.onInUse = () => volumes.reported(volumes.volumesInUse());
  await api.create(nodes, { metadata: { name: NODE } });
  const notYet = (error: unknown): boolean => error instanceof NotYetError;
  await assert.rejects(volumes.mount(request('a'), FIRST), notYet);
  assert.deepEqual(volumes.volumesInUse(), [unique]);
  const name = attachmentName('h', 'd', NODE);
  const attachment = await api.create(volumeAttachments, {
    metadata: { name },
    spec: { attacher: 'd', nodeName: NODE, source: { persistentVolumeName: 'pv' } },
  });
  await api.update(volumeAttachments, { ...attachment, status: { attached: true } });
  await assert.rejects(volumes.mount(request('a'), FIRST), notYet, 'not on the list yet');
  const volumesAttached = [{ name: unique, devicePath: '' }];
  const body = { status: { volumesAttached } };
  await api.patch(nodes, { name: NODE }, { type: 'merge', body });
  await volumes.mount(request('a'), FIRST);
  assert.deepEqual(calls, ['stage', 'publish']);
  assert.deepEqual(open().volumesInUse(), [unique], 'the next agent knows it too');
  await volumes.releasePod('a');
  assert.deepEqual(volumes.volumesInUse(), []);
});
