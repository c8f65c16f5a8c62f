import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Random, randomInt, seededRandom } from '#base/random.ts';
import { failure, modifiedError } from '#api/status.ts';
import type { Deployment, Pod, ReplicaSet } from '#api/types.ts';
import { deployments, pods, replicaSets } from '#client/resources.ts';
import { deploymentController } from '#controllers/deployment-controller.ts';
import { isComplete } from '#controllers/deployment-plan.ts';
import { rollingBounds, sum, wantedReplicas } from '#controllers/deployment-sizes.ts';
import { isActive, isReady } from '#controllers/pods.ts';
import { replicaSetController } from '#controllers/replicaset-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';

const controllers = [deploymentController, replicaSetController];
const key = { namespace: 'd', name: 'web' };

function web(image: string, spec: Record<string, unknown>): Deployment {
  return {
    metadata: { ...key, annotations: { team: 'a' } },
    spec: {
      replicas: 3,
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'c', image }] },
      },
      progressDeadlineSeconds: 600,
      revisionHistoryLimit: 2,
      ...spec,
    },
  };
}

function bound(random: Random, max: number): number | string {
  return random() < 0.5 ? randomInt(random, max) : `${randomInt(random, 60)}%`;
}

const current = ({ api }: Simulation): Deployment => {
  const [deployment] = api.all(deployments);
  assert.ok(deployment);
  return deployment;
};
const images = ({ api }: Simulation): string[] =>
  api
    .all(pods)
    .filter(isActive)
    .map((pod) => pod.spec.containers[0]?.image ?? '');

async function setImage(sim: Simulation, image: string): Promise<void> {
  const { template } = current(sim).spec ?? { template: {} };
  const containers = [{ name: 'c', image }];
  const body = { spec: { template: { ...template, spec: { containers } } } };
  await sim.api.patch(deployments, key, { type: 'merge', body });
}

const isDone = (sim: Simulation) => (): boolean => {
  const deployment = current(sim);
  return isComplete(deployment) && images(sim).length === wantedReplicas(deployment);
};

/** Checks after each commit what a rolling update promises. */
function brokenPromises(sim: Simulation): string[] {
  const broken: string[] = [];
  sim.api.onCommit(({ resource }) => {
    const deployment = current(sim);
    const { surge, unavailable } = rollingBounds(deployment);
    const wanted = wantedReplicas(deployment);
    if (resource.resource === 'replicasets') {
      const total = sum(sim.api.all(replicaSets), wantedReplicas);
      if (total > wanted + surge) broken.push(`${total} replicas, allowed ${wanted}+${surge}`);
    }
    if (resource.resource === 'pods') {
      const ready = sim.api.all(pods).filter((pod) => isActive(pod) && isReady(pod)).length;
      const least = wanted - unavailable;
      if (ready < least) broken.push(`${ready} ready, least ${wanted}-${unavailable}`);
    }
  });
  return broken;
}

for (let seed = 1; seed <= 12; seed++) {
  test(`a rolling update converges within its bounds (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const sim = simulate({ seed, controllers });
    const rollingUpdate = { maxSurge: bound(random, 4), maxUnavailable: bound(random, 4) };
    const strategy = { type: 'RollingUpdate', rollingUpdate };
    const spec = { replicas: randomInt(random, 12), strategy };
    await sim.api.create(deployments, web('v1', spec));
    await sim.until(isDone(sim), 'first rollout');
    const broken = brokenPromises(sim);
    const rounds = 1 + randomInt(random, 3);
    for (let round = 0; round < rounds; round++) {
      await setImage(sim, `v${2 + round}`);
      await sim.advance(randomInt(random, 4000));
    }
    await sim.until(isDone(sim), 'last rollout', 300_000);
    await sim.advance(1000);
    assert.deepEqual(broken, []);
    const last = `v${1 + rounds}`;
    assert.deepEqual(new Set(images(sim)), spec.replicas ? new Set([last]) : new Set());
    const sets = sim.api.all(replicaSets);
    assert.ok(sets.length <= 3, `${sets.length} replica sets with a history limit of 2`);
    const revision = current(sim).metadata.annotations?.['deployment.kubernetes.io/revision'];
    assert.equal(revision, String(1 + rounds));
    await sim.stop();
  });
}

for (let seed = 21; seed <= 30; seed++) {
  test(`it converges though writes fail and pods vanish (seed ${seed})`, async () => {
    const random = seededRandom(seed);
    const sim = simulate({ seed, controllers });
    const trouble = { on: true };
    sim.api.onWrite((verb, resource) => {
      const isOurs = resource.resource === 'replicasets' || verb === 'create';
      if (!trouble.on || !isOurs || random() > 0.3) return;
      throw random() < 0.5
        ? modifiedError(resource, 'x')
        : failure(503, 'ServiceUnavailable', 'the server is overloaded');
    });
    const made = web('v1', { replicas: 1 + randomInt(random, 8) });
    while (sim.api.all(deployments).length === 0) {
      await sim.api.create(deployments, made).catch(() => {});
    }
    for (let round = 0; round < 8; round++) {
      await sim.advance(randomInt(random, 5000));
      const [victim] = sim.api.all(pods).filter(() => random() < 0.5);
      const name = victim?.metadata.name ?? '';
      if (name) await sim.api.delete(pods, { ...key, name }, { gracePeriodSeconds: 0 });
      if (random() < 0.5) await setImage(sim, `v${round + 2}`);
      const replicas = randomInt(random, 9);
      if (random() < 0.3) {
        await sim.api.patch(deployments, key, { type: 'merge', body: { spec: { replicas } } });
      }
    }
    trouble.on = false;
    await sim.until(isDone(sim), 'converged', 400_000);
    const image = current(sim).spec?.template.spec?.containers[0]?.image ?? '';
    assert.ok(images(sim).every((one) => one === image));
    const busy = sim.api.all(replicaSets).filter((set) => wantedReplicas(set) > 0);
    assert.ok(busy.length <= 1, 'one replica set holds all pods');
    await sim.stop();
  });
}

test('scaling in mid-rollout shares proportionally and converges', async () => {
  const sim = simulate({ seed: 7, controllers, becomesReady: (pod) => !isImage(pod, 'bad') });
  const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } };
  await sim.api.create(deployments, web('v1', { replicas: 10, strategy }));
  await sim.until(isDone(sim), 'first rollout');
  await setImage(sim, 'bad');
  await sim.until(() => sizes(sim).join() === '5,8', 'stuck halfway');
  const body = { spec: { replicas: 15 } };
  await sim.api.patch(deployments, key, { type: 'merge', body });
  // The documented example: 10 to 15 with 8 old and 5 new becomes 11 and 7.
  await sim.until(() => sizes(sim).join() === '7,11', 'proportional');
  await setImage(sim, 'v1');
  await sim.until(isDone(sim), 'back to v1');
  assert.equal(current(sim).metadata.annotations?.['deployment.kubernetes.io/revision'], '3');
  const [old] = sim.api.all(replicaSets).filter((set) => set.spec?.replicas);
  assert.equal(old?.metadata.annotations?.['deployment.kubernetes.io/revision-history'], '1');
  await sim.stop();
});

const isImage = (pod: Pod, image: string): boolean => pod.spec.containers[0]?.image === image;
const sizes = ({ api }: Simulation): number[] =>
  api
    .all(replicaSets)
    .map((set: ReplicaSet) => set.spec?.replicas ?? 0)
    .sort((a, b) => a - b);

test('Recreate never runs old and new at once', async () => {
  const sim = simulate({ seed: 3, controllers });
  await sim.api.create(deployments, web('v1', { strategy: { type: 'Recreate' } }));
  await sim.until(isDone(sim), 'first rollout');
  let mixed = false;
  sim.api.onCommit(() => {
    const kinds = new Set(sim.api.all(pods).map((pod) => pod.spec.containers[0]?.image));
    mixed ||= kinds.size > 1;
  });
  await setImage(sim, 'v2');
  await sim.until(() => isDone(sim)() && images(sim).every((i) => i === 'v2'), 'recreated');
  assert.equal(mixed, false);
  await sim.stop();
});

test('a paused deployment scales but does not roll; resuming rolls', async () => {
  const sim = simulate({ seed: 4, controllers });
  await sim.api.create(deployments, web('v1', {}));
  await sim.until(isDone(sim), 'first rollout');
  const patch = (spec: object) =>
    sim.api.patch(deployments, key, { type: 'merge', body: { spec } });
  await patch({ paused: true, replicas: 5 });
  await setImage(sim, 'v2');
  await sim.until(() => images(sim).length === 5, 'scaled');
  await sim.advance(2000);
  assert.deepEqual(new Set(images(sim)), new Set(['v1']));
  const progressing = () =>
    current(sim).status?.conditions?.find((c) => c.type === 'Progressing')?.reason;
  assert.equal(progressing(), 'DeploymentPaused');
  await patch({ paused: false });
  await sim.until(() => isDone(sim)() && images(sim).every((i) => i === 'v2'), 'rolled');
  assert.equal(progressing(), 'NewReplicaSetAvailable');
  await sim.stop();
});

test('a rollout that does not move exceeds its deadline, and recovers', async () => {
  const sim = simulate({ seed: 5, controllers, becomesReady: (pod) => !isImage(pod, 'bad') });
  await sim.api.create(deployments, web('v1', { progressDeadlineSeconds: 10 }));
  await sim.until(isDone(sim), 'first rollout');
  await setImage(sim, 'bad');
  const progressing = () => current(sim).status?.conditions?.find((c) => c.type === 'Progressing');
  await sim.until(() => progressing()?.status === 'False', 'deadline', 30_000);
  assert.equal(progressing()?.reason, 'ProgressDeadlineExceeded');
  const set = sim.api
    .all(replicaSets)
    .find((one) => one.spec?.template?.spec?.containers[0]?.image === 'bad');
  assert.equal(
    progressing()?.message,
    `ReplicaSet "${set?.metadata.name}" has timed out progressing.`,
  );
  await setImage(sim, 'v3');
  await sim.until(isDone(sim), 'recovered');
  await sim.until(() => progressing()?.reason === 'NewReplicaSetAvailable', 'progressed');
  await sim.stop();
});

test('minReadySeconds delays availability', async () => {
  const sim = simulate({ seed: 6, controllers });
  await sim.api.create(deployments, web('v1', { minReadySeconds: 20, replicas: 2 }));
  await sim.until(() => current(sim).status?.readyReplicas === 2, 'ready');
  assert.equal(current(sim).status?.availableReplicas ?? 0, 0);
  await sim.until(() => current(sim).status?.availableReplicas === 2, 'available', 30_000);
  await sim.stop();
});
