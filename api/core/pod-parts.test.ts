import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EPHEMERAL_CONTAINERS, RESIZE } from '#api/core/pod-parts.ts';
import { pod as podKind } from '#api/core/pod.ts';
import type { Subresource } from '#api/kind.ts';
import type { Pod, PodSpec } from '#api/types.ts';

type Resources = Record<'requests' | 'limits', Record<string, string>>;

const resources: Resources = {
  requests: { cpu: '100m', memory: '64Mi' },
  limits: { cpu: '200m', memory: '128Mi' },
};

function podWith(more: Partial<PodSpec> = {}, own: object = resources): Pod {
  const containers = [{ name: 'c', image: 'i', resources: own }];
  const pod = { metadata: { name: 'p', generation: 1 }, spec: { containers, ...more } } as Pod;
  podKind.defaults?.(pod);
  pod.status = { phase: 'Running', qosClass: 'Burstable' };
  return pod;
}

/** Errors of a write through a part, and the pod as it would be stored. */
function write(part: Subresource, wanted: Pod, old: Pod): { pod: Pod; errors: string[] } {
  assert.equal(part.type, 'handler');
  if (part.type !== 'handler') throw new Error('not reached');
  const pod = structuredClone(wanted);
  part.prepareForUpdate?.(pod, old);
  const found = part.validateUpdate?.(pod, old) ?? [];
  return { pod, errors: found.map(({ path, message }) => `${path}: ${message}`) };
}

const debug = (name: string, image = 'busybox') =>
  podWith({ ephemeralContainers: [{ name, image }] as PodSpec['ephemeralContainers'] as never });

test('debug containers come, and neither change nor go', () => {
  const added = write(EPHEMERAL_CONTAINERS, debug('dbg'), podWith());
  assert.deepEqual(added.errors, []);
  assert.equal(added.pod.spec.ephemeralContainers?.[0]?.name, 'dbg');
  assert.equal(added.pod.metadata.generation, 2);
  const rule =
    'spec.ephemeralContainers: Forbidden: existing ephemeral containers "dbg" may not be';
  assert.deepEqual(write(EPHEMERAL_CONTAINERS, debug('dbg', 'other'), debug('dbg')).errors, [
    `${rule} changed\n`,
  ]);
  assert.deepEqual(write(EPHEMERAL_CONTAINERS, podWith(), debug('dbg')).errors, [
    `${rule} removed\n`,
  ]);
});

test('what else such a write says is not heard', () => {
  const wanted = podWith({ nodeName: 'elsewhere' }, {});
  wanted.status = { phase: 'Failed' };
  const { pod, errors } = write(EPHEMERAL_CONTAINERS, wanted, podWith());
  assert.deepEqual(errors, []);
  assert.deepEqual([pod.spec, pod.status], [podWith().spec, podWith().status]);
  assert.equal(pod.metadata.generation, 1);
});

test('containers neither come, go, move nor change their names by a resize', () => {
  const named = (...names: string[]): Pod =>
    podWith({ containers: names.map((name) => ({ name, image: 'i', resources })) as never });
  const move = (...names: string[]) => write(RESIZE, named(...names), named('a', 'b')).errors;
  const renamed = 'Forbidden: containers may not be renamed or reordered on resize';
  assert.deepEqual(move('b', 'a'), [
    `spec.containers[0].name: ${renamed}`,
    `spec.containers[1].name: ${renamed}`,
  ]);
  assert.deepEqual(move('a', 'c'), [`spec.containers[1].name: ${renamed}`]);
  const count = 'spec.containers: Forbidden: containers may not be added or removed on resize';
  assert.deepEqual(move('a'), [count]);
  assert.deepEqual(move('a', 'b', 'c'), [count]);
  assert.deepEqual(move('a', 'b'), []);
});

test('a resize changes cpu and memory within the class', () => {
  const resize = (own: object) => write(RESIZE, podWith({}, own), podWith());
  const more = { requests: { cpu: '150m', memory: '64Mi' }, limits: { cpu: '1', memory: '1Gi' } };
  const done = resize(more);
  assert.deepEqual(done.errors, []);
  assert.deepEqual(done.pod.spec.containers[0]?.resources, more);
  assert.equal(done.pod.metadata.generation, 2);

  const { limits, requests } = resources;
  const cases: [object, string][] = [
    [
      { requests: limits, limits },
      'spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing',
    ],
    [
      { requests: { ...requests, 'a.b/gpu': '1' }, limits: { ...limits, 'a.b/gpu': '1' } },
      'spec: Forbidden: only cpu and memory resources are mutable',
    ],
    [
      { requests, limits: { cpu: '200m' } },
      'spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed',
    ],
  ];
  for (const [own, error] of cases) assert.deepEqual(resize(own).errors, [error]);
});
