import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import type { Pod, Secret } from '#api/types.ts';
import { listRecorder } from '#client/events.ts';
import { createImages } from '#node-agent/images/images.ts';
import {
  DEFAULT_VERIFICATION,
  isVerified,
  mergeCredentials,
  PullRecords,
  readVerification,
} from '#node-agent/images/pull-records.ts';
import { type Image, type ImageService, RuntimeError } from '#node-agent/runtime/service.ts';

const root = mkdtempSync(join(tmpdir(), 'gantry-pulls-'));
after(() => rmSync(root, { recursive: true, force: true }));
const signal = new AbortController().signal;
const NAME = 'reg.test/private/app:1';
const image: Image = {
  id: 'sha256:app',
  repoTags: [NAME],
  repoDigests: [],
  size: 1,
  uid: null,
  username: '',
  pinned: false,
};

/** A node whose registry wants the password `right`, and pods that bring theirs. */
function node(dir: string, { there = false } = {}) {
  let isThere = there;
  let pulls = 0;
  const service: ImageService = {
    listImages: async () => (isThere ? [image] : []),
    imageStatus: async () => (isThere ? image : null),
    pullImage: async (name, auth) => {
      pulls++;
      if (auth?.password !== 'right') throw new RuntimeError('Unknown', '401 Unauthorized');
      isThere = true;
      return name;
    },
    removeImage: async () => undefined,
    imageFsInfo: async () => [],
  };
  const open = () => {
    const clock = manualClock(0);
    const verification = DEFAULT_VERIFICATION;
    const records = new PullRecords({ dir: join(root, dir), verification, clock, log: silentLog });
    const images = createImages({
      serviceOf: () => service,
      clock,
      events: listRecorder(),
      records,
      pullSecrets: async ({ metadata }) => secretsOf(metadata.name ?? ''),
    });
    const use = async (who: string, imagePullPolicy = 'IfNotPresent') => {
      const pod: Pod = { metadata: { name: who, uid: who }, spec: { containers: [] } };
      const container = { name: 'c', image: NAME, imagePullPolicy };
      const result = await images.ensure(pod, container, signal);
      const present = await images.present(pod, container);
      assert.equal(present !== undefined, result.state === 'ready' && imagePullPolicy !== 'Always');
      return result.state === 'ready' ? 'ready' : result.reason;
    };
    return { records, images, use, list: () => service.listImages() };
  };
  return { open, pulls: () => pulls };
}

/** `secret.password` is a pod with that secret; `nobody` one without. */
function secretsOf(who: string): Secret[] {
  const [name, password] = who.split('.');
  if (!password) return [];
  const auths = { 'reg.test': { username: 'u', password } };
  const text = Buffer.from(JSON.stringify({ auths })).toString('base64');
  return [
    {
      metadata: { namespace: 'ns', name: name ?? '', uid: `uid-${name}` },
      data: { '.dockerconfigjson': text },
    },
  ];
}

test('an image that was pulled with a secret is for those who have it', async () => {
  const { open, pulls } = node('secret');
  const first = open();
  assert.equal(await first.use('a.right'), 'ready');
  assert.equal(pulls(), 1);
  assert.equal(await first.use('nobody'), 'ErrImagePull', 'the registry is asked, and refuses');
  assert.equal(await first.use('nobody', 'Never'), 'ErrImageNeverPull');
  assert.equal(await first.use('b.wrong'), 'ErrImagePull');
  const before = pulls();
  assert.equal(await first.use('c.right'), 'ready', 'another secret with the same content');
  const next = open();
  assert.equal(await next.use('c.rotated'), 'ready', 'a secret known by now, whatever it says');
  assert.equal(await next.use('a.right'), 'ready', 'the next agent knows it too');
  assert.equal(pulls(), before);
  assert.equal(await next.use('nobody'), 'ErrImagePull');
  const [file = ''] = readdirSync(join(root, 'secret/pulled'));
  const text = readFileSync(join(root, 'secret/pulled', file), 'utf8');
  assert.equal(JSON.parse(text).kind, 'ImagePulledRecord');
  assert.ok(!text.includes('right'), 'no password on the disk');
  assert.deepEqual(readdirSync(join(root, 'secret/pulling')), []);
  await next.images.removed(image.id);
  assert.deepEqual(readdirSync(join(root, 'secret/pulled')), []);
});

test('an image that was there before is for everybody; one whose pull was cut off is not', async () => {
  const preloaded = node('preloaded', { there: true });
  assert.equal(await preloaded.open().use('nobody'), 'ready');
  assert.equal(preloaded.pulls(), 0);
  const cut = node('cut', { there: true });
  await cut.open().records.begin(NAME);
  const next = cut.open();
  await next.records.recover(await next.list());
  assert.equal(await next.use('nobody'), 'ErrImagePull');
  assert.deepEqual(readdirSync(join(root, 'cut/pulling')), []);
  assert.equal(await cut.open().use('nobody'), 'ErrImagePull', 'still after it is known');
  assert.equal(await cut.open().use('a.right'), 'ready');
});

test('policies', () => {
  const list = ['reg.test/app', 'free.test/*'];
  const cases: [string, string, boolean, boolean][] = [
    ['NeverVerify', NAME, true, false],
    ['AlwaysVerify', NAME, false, true],
    ['NeverVerifyPreloadedImages', NAME, false, false],
    ['NeverVerifyPreloadedImages', NAME, true, true],
    ['NeverVerifyAllowlistedImages', 'reg.test/app:2', true, false],
    ['NeverVerifyAllowlistedImages', 'reg.test/app@sha256:0', true, false],
    ['NeverVerifyAllowlistedImages', 'reg.test/apple:2', false, true],
    ['NeverVerifyAllowlistedImages', 'free.test/a/b', true, false],
  ];
  for (const [policy, name, pulledByUs, wanted] of cases) {
    const names = policy === 'NeverVerifyAllowlistedImages' ? list.join() : undefined;
    const verification = readVerification(policy, names);
    assert.ok(verification);
    assert.equal(isVerified(verification, name, pulledByUs), wanted, `${policy} ${name}`);
  }
  assert.throws(() => readVerification('Sometimes', undefined), /is one of NeverVerify,/);
  assert.throws(() => readVerification('AlwaysVerify', 'a'), /needs the policy/);
  assert.throws(() => readVerification('NeverVerifyAllowlistedImages', 'a*b'), /last part/);
});

test('access for all swallows the rest; a secret that says something new replaces itself', () => {
  const secret = (credentialHash: string) => ({
    kubernetesSecrets: [{ uid: 'u', namespace: 'n', name: 's', credentialHash }],
  });
  assert.deepEqual(mergeCredentials(secret('1'), secret('2')), secret('2'));
  const all = { nodePodsAccessible: true };
  assert.deepEqual(mergeCredentials(secret('1'), all), all);
  assert.deepEqual(mergeCredentials(all, secret('1')), all);
});
