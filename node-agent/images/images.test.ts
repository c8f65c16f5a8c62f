import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import type { Pod, Secret } from '#api/types.ts';
import { listRecorder } from '#client/events.ts';
import { imagesToRemove, noteImages, type ImageAges } from '#node-agent/images/image-gc.ts';
import { createImages, pullPolicy } from '#node-agent/images/images.ts';
import { registryAuths, registryOf } from '#node-agent/images/registry-auth.ts';
import {
  type AuthConfig,
  type Image,
  type ImageService,
  RuntimeError,
} from '#node-agent/runtime/service.ts';

const pod: Pod = { metadata: { name: 'p', uid: 'u' }, spec: { containers: [] } };
const signal = new AbortController().signal;
const image = (id: string, size = 10): Image => ({
  id,
  repoTags: [id],
  repoDigests: [],
  size,
  uid: null,
  username: '',
  pinned: false,
});

function registry(answers: { there?: boolean; fail?: string; password?: string }) {
  const pulls: (AuthConfig | undefined)[] = [];
  let there = answers.there ?? false;
  const service: ImageService = {
    listImages: async () => [],
    imageStatus: async (name) => (there ? image(name) : null),
    pullImage: async (name, auth) => {
      pulls.push(auth);
      if (answers.fail) throw new RuntimeError('Unknown', answers.fail);
      if (answers.password && auth?.password !== answers.password)
        throw new RuntimeError('Unknown', '401 Unauthorized');
      there = true;
      return name;
    },
    removeImage: async () => undefined,
    imageFsInfo: async () => [],
  };
  return { service, pulls };
}

function images(answers: Parameters<typeof registry>[0], secrets: Secret[] = []) {
  const clock = manualClock(0);
  const events = listRecorder();
  const { service, pulls } = registry(answers);
  return {
    ...createImages({ serviceOf: () => service, clock, events, pullSecrets: async () => secrets }),
    clock,
    said: events.said,
    pulls,
  };
}

const c = (name: string, imagePullPolicy?: string) => ({
  name: 'c',
  image: name,
  ...(imagePullPolicy ? { imagePullPolicy } : {}),
});

test('the default policy depends on the tag', () => {
  const policies = ['a', 'a:latest', 'a:1', 'h:5000/a', 'h:5000/a:1', 'a@sha256:0'].map((name) =>
    pullPolicy(c(name)),
  );
  const wanted = ['Always', 'Always', 'IfNotPresent', 'Always', 'IfNotPresent', 'IfNotPresent'];
  assert.deepEqual(policies, wanted);
});

test('what is there is used; Never does not pull; Always does', async () => {
  const there = images({ there: true });
  assert.equal((await there.present(pod, c('a:1')))?.id, 'a:1');
  assert.equal(await there.present(pod, c('a:1', 'Always')), undefined);
  assert.equal((await there.ensure(pod, c('a:1', 'Always'), signal)).state, 'ready');
  assert.equal(there.pulls.length, 1);
  const missing = images({});
  const never = await missing.ensure(pod, c('a:1', 'Never'), signal);
  assert.ok(never.state === 'failed' && never.reason === 'ErrImageNeverPull');
  assert.equal(missing.pulls.length, 0);
});

test('each step is told in the words of the kubelet', async () => {
  const name = 'reg.test/a:1';
  const there = images({ there: true });
  await there.ensure(pod, c(name), signal);
  assert.deepEqual(there.said, [
    `Normal Pulled Container image "${name}" already present on machine and can be accessed by the pod`,
  ]);
  const pulled = images({});
  await pulled.ensure(pod, c(name), signal);
  assert.deepEqual(pulled.said, [
    `Normal Pulling Pulling image "${name}"`,
    `Normal Pulled Successfully pulled image "${name}" in 0ms (0ms including waiting). Image size: 10 bytes.`,
  ]);
  const never = images({});
  await never.ensure(pod, c(name, 'Never'), signal);
  assert.deepEqual(never.said, [
    `Warning ErrImageNeverPull Container image "${name}" is not present with pull policy of Never`,
    'Warning Failed Error: ErrImageNeverPull',
  ]);
  const misnamed = images({});
  const result = await misnamed.ensure(pod, c('reg.test/Upper:1'), signal);
  const why =
    'Failed to apply default image tag "reg.test/Upper:1": couldn\'t parse image name ' +
    '"reg.test/Upper:1": invalid reference format: repository name must be lowercase';
  assert.ok(result.state === 'failed' && result.reason === 'InvalidImageName');
  assert.equal(result.message, why);
  assert.deepEqual(misnamed.said, [
    `Warning InspectFailed ${why}`,
    'Warning Failed Error: InvalidImageName',
  ]);
  assert.equal(misnamed.pulls.length, 0);
});

test('a runtime that does not say what it has: no failure of the pull', async () => {
  const events = listRecorder();
  const late = new RuntimeError('DeadlineExceeded', 'ImageStatus: Deadline exceeded after 10s');
  const service: ImageService = {
    ...registry({}).service,
    imageStatus: () => Promise.reject(late),
  };
  const clock = manualClock(0);
  const options = { serviceOf: () => service, clock, events, pullSecrets: async () => [] };
  const result = await createImages(options).ensure(pod, c('a:1'), signal);
  const why = 'Failed to inspect image "a:1": ImageStatus: Deadline exceeded after 10s';
  assert.deepEqual(result, {
    state: 'failed',
    reason: 'ImageInspectError',
    message: why,
    retryAtMs: 10_000,
  });
  assert.deepEqual(events.said, [
    `Warning InspectFailed ${why}`,
    'Warning Failed Error: ImageInspectError',
  ]);
});

test('at most so many pulls run at a time; a long one says that it goes on', async () => {
  const clock = manualClock(0);
  const events = listRecorder();
  const { service } = registry({});
  let running = 0;
  let most = 0;
  const slow: ImageService = {
    ...service,
    async pullImage(name, auth) {
      most = Math.max(most, ++running);
      await clock.sleep(70_000);
      running--;
      return service.pullImage(name, auth);
    },
  };
  const some = createImages({
    serviceOf: () => slow,
    clock,
    events,
    pullSecrets: async () => [],
    parallelPulls: 2,
  });
  const pulls = ['a:1', 'b:1', 'c:1'].map((name) => some.ensure(pod, c(name), signal));
  await clock.advance(0); // until they wait
  await clock.advance(150_000);
  assert.ok((await Promise.all(pulls)).every(({ state }) => state === 'ready'));
  assert.equal(most, 2);
  const of = (name: string) => events.said.filter((line) => line.includes(`"${name}"`)).slice(1);
  assert.deepEqual(of('a:1').slice(0, 1), [
    'Normal Pulling Still pulling image "a:1" after 30.000s; at most 2 images are pulled at a time',
  ]);
  const last = of('c:1').at(-1) ?? '';
  assert.match(last, /in 70.000s \(140.000s including waiting\)/);
});

test('failures back off from 10 s to 5 min', async () => {
  const bad = images({ fail: 'not found' });
  const waits: number[] = [];
  for (let i = 0; i < 7; i++) {
    const result = await bad.ensure(pod, c('a:1'), signal);
    assert.ok(result.state === 'failed' && result.reason === 'ErrImagePull');
    waits.push((result.retryAtMs - bad.clock.now()) / 1000);
  }
  assert.deepEqual(waits, [10, 20, 40, 80, 160, 300, 300]);
  assert.ok(bad.said.includes('Warning Failed Failed to pull image "a:1": not found'));
  assert.ok(bad.said.includes('Warning Failed Error: ErrImagePull'));
});

test('pods that want the same image share one pull', async () => {
  const one = images({});
  const results = await Promise.all([1, 2, 3].map(() => one.ensure(pod, c('a:1'), signal)));
  assert.ok(results.every((r) => r.state === 'ready'));
  assert.equal(one.pulls.length, 1);
});

const pullSecret = (auths: object): Secret => ({
  metadata: {},
  data: { '.dockerconfigjson': Buffer.from(JSON.stringify({ auths })).toString('base64') },
});

test('credentials are chosen by registry, the closest first, and tried in turn', async () => {
  const auth = (text: string) => ({ auth: Buffer.from(text).toString('base64') });
  const secret = pullSecret({
    'https://index.docker.io/v1/': auth('hub:h'),
    'reg.test:5000': auth('all:a'),
    'reg.test:5000/team': auth('team:t:x'),
    '*.wild.test': auth('wild:w'),
  });
  const users = (name: string) =>
    registryAuths(name, [secret]).map((a) => `${a.username}:${a.password}`);
  assert.deepEqual(users('busybox'), ['hub:h']);
  assert.deepEqual(users('reg.test:5000/team/app:1'), ['team:t:x', 'all:a']);
  assert.deepEqual(users('eu.wild.test/x'), ['wild:w']);
  assert.deepEqual(users('other.test/x'), []);
  assert.equal(registryOf('localhost/x'), 'localhost');
  const guarded = images({ password: 'a' }, [secret]);
  assert.equal((await guarded.ensure(pod, c('reg.test:5000/team/app:1'), signal)).state, 'ready');
  assert.equal(guarded.pulls.length, 2);
});

test('image garbage: unused for longest first, only while the disk is too full', () => {
  const ages: ImageAges = new Map();
  const list = [
    image('used', 5),
    image('old', 5),
    image('newer', 5),
    { ...image('pin', 5), pinned: true },
  ];
  noteImages(ages, list, new Set(['newer']), 0);
  noteImages(ages, list, new Set(['used']), 1_000);
  const chosen = (availableBytes: number, now: number) =>
    imagesToRemove({
      images: list,
      inUse: new Set(['used']),
      ages,
      disk: { totalBytes: 100, availableBytes },
      now,
    }).map((i) => i.id);
  assert.deepEqual(chosen(50, 10 ** 9), []);
  assert.deepEqual(chosen(15, 10 ** 9), ['old']);
  assert.deepEqual(chosen(11, 10 ** 9), ['old', 'newer']);
  assert.deepEqual(chosen(1, 60_000), [], 'nothing that was just pulled');
});
