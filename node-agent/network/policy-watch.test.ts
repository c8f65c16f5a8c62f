import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createInformers } from '#client/informer-factory.ts';
import { namespaces, networkPolicies, pods } from '#client/resources.ts';
import { simulateApi } from '#client/simulated-api.ts';
import { watchPolicies } from './policy-watch.ts';

/** Resolves at the next call of `notify`. */
function bell(): { notify: () => void; next: () => Promise<void> } {
  let current = Promise.withResolvers<void>();
  return {
    notify: () => {
      current.resolve();
      current = Promise.withResolvers();
    },
    next: () => current.promise,
  };
}

test('all pods are watched only while there is a policy', async () => {
  const stop = new AbortController();
  const api = simulateApi();
  await api.create(namespaces, { metadata: { name: 'shop' } });
  const pod = await api.create(pods, {
    metadata: { name: 'web', namespace: 'shop' },
    spec: { nodeName: 'far', containers: [] },
    status: { podIP: '10.244.1.2' },
  });
  const informers = createInformers(api, { signal: stop.signal });
  const { notify, next } = bell();
  const watch = watchPolicies(informers, notify);
  await watch.synced();
  assert.deepEqual(watch.objects(), { policies: [], pods: [], namespaces: [] });
  assert.equal(informers.existing(pods), undefined);

  const policy = await api.create(networkPolicies, {
    metadata: { name: 'p', namespace: 'shop' },
    spec: { podSelector: {} },
  });
  while (watch.objects().policies.length === 0) await next();
  assert.deepEqual(
    watch.objects().pods.map(({ metadata }) => metadata.name),
    ['web'],
  );
  const labelled = next();
  await api.update(pods, { ...pod, metadata: { ...pod.metadata, labels: { a: 'b' } } });
  await labelled;
  assert.deepEqual(watch.objects().pods[0]?.metadata.labels, { a: 'b' });

  const gone = next();
  await api.delete(networkPolicies, { namespace: 'shop', name: policy.metadata.name ?? '' });
  await gone;
  assert.deepEqual(watch.objects().policies, []);
  assert.equal(informers.existing(pods), undefined);
  stop.abort();
});

test('an agent that starts with policies waits for the pods they speak of', async () => {
  const stop = new AbortController();
  const api = simulateApi();
  await api.create(namespaces, { metadata: { name: 'shop' } });
  await api.create(networkPolicies, {
    metadata: { name: 'p', namespace: 'shop' },
    spec: { podSelector: {} },
  });
  await api.create(pods, {
    metadata: { name: 'web', namespace: 'shop' },
    spec: { containers: [] },
  });
  const watch = watchPolicies(createInformers(api, { signal: stop.signal }), () => {});
  await watch.synced();
  const { policies, pods: known, namespaces: spaces } = watch.objects();
  assert.deepEqual([policies.length, known.length, spaces.length], [1, 1, 1]);
  stop.abort();
});
