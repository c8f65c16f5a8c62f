import assert from 'node:assert/strict';
import { test } from 'node:test';
import { persistentVolumeClaims, storageClasses } from '#client/resources.ts';
import {
  defaultStorageClassController,
  planClass,
} from '#controllers/default-storage-class-controller.ts';
import { simulate } from '#controllers/simulation.ts';

const claim = (storageClassName?: string) => ({
  metadata: { namespace: 'd', name: storageClassName === undefined ? 'none' : 'asked' },
  spec: {
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '1Gi' } },
    ...(storageClassName === undefined ? {} : { storageClassName }),
  },
});
const isDefault = (name: string, creationTimestamp: string) => ({
  metadata: {
    name,
    creationTimestamp,
    annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' },
  },
  provisioner: 'p',
});

test('a cluster gets class local, and claims that came before it get that class', async () => {
  const sim = simulate({ seed: 1, controllers: [defaultStorageClassController], runPods: false });
  await sim.api.create(persistentVolumeClaims, claim());
  await sim.api.create(persistentVolumeClaims, claim(''));
  const classOf = (name: string) =>
    sim.api.all(persistentVolumeClaims).find((one) => one.metadata.name === name)?.spec
      ?.storageClassName;
  await sim.until(() => classOf('none') === 'local', 'the default class');
  assert.equal(classOf('asked'), '', 'asked for none');
  await sim.api.delete(storageClasses, { name: 'local' });
  await sim.advance(60_000);
  assert.equal(sim.api.all(storageClasses).length, 0, 'its deletion stands');
  await sim.stop();
});

test('of several default classes the newest counts', () => {
  const classes = [
    isDefault('old', '2026-01-01T00:00:00Z'),
    isDefault('new', '2026-02-01T00:00:00Z'),
  ];
  const { actions } = planClass({ claim: claim(), classes });
  const [action] = actions;
  assert.ok(action?.type === 'update');
  assert.deepEqual(action.object['spec'], { ...claim().spec, storageClassName: 'new' });
  assert.deepEqual(planClass({ claim: claim('x'), classes }).actions, []);
  assert.deepEqual(planClass({ claim: claim(), classes: [] }).actions, []);
});
