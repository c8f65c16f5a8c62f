import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pod } from '#api/core/pod.ts';
import { asCreated, createErrors, updateErrors } from '#api/kind-probe.ts';
import type { Pod } from '#api/types.ts';

const container = (more: object = {}) => ({ name: 'c', image: 'i', ...more });
const podOf = (spec: object = {}) => ({
  metadata: { name: 'p' },
  spec: { containers: [container()], ...spec },
});
const withContainer = (more: object) => podOf({ containers: [container(more)] });

/** Each error in full, or its start. */
const REFUSED: [pod: object, errors: string[]][] = [
  [
    podOf({
      hostUsers: false,
      hostPID: true,
      volumes: [{ name: 'd', persistentVolumeClaim: { claimName: 'd' } }],
      containers: [container({ volumeDevices: [{ name: 'd', devicePath: '/dev/d' }] })],
    }),
    [
      'spec.HostPID: Forbidden: when `hostUsers` is false',
      'spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false',
    ],
  ],
  [podOf(), []],
  [podOf({ containers: [] }), ['spec.containers: Required value']],
  [withContainer({ name: '' }), ['spec.containers[0].name: Required value']],
  [
    podOf({ containers: [container(), container()] }),
    ['spec.containers[1].name: Duplicate value: "c"'],
  ],
  [withContainer({ image: '' }), ['spec.containers[0].image: Required value']],
  [
    withContainer({ imagePullPolicy: 'Maybe' }),
    [
      'spec.containers[0].imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"',
    ],
  ],
  [
    withContainer({ ports: [{ containerPort: 0 }] }),
    ['spec.containers[0].ports[0].containerPort: Required value'],
  ],
  [
    withContainer({ ports: [{ containerPort: 70_000, protocol: 'ICMP' }] }),
    [
      'spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive',
      'spec.containers[0].ports[0].protocol: Unsupported value: "ICMP"',
    ],
  ],
  [
    withContainer({ volumeMounts: [{ name: 'v', mountPath: '/v' }] }),
    ['spec.containers[0].volumeMounts[0].name: Not found: "v"'],
  ],
  [
    withContainer({ resources: { requests: { cpu: '2' }, limits: { cpu: '1' } } }),
    [
      'spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
    ],
  ],
  [
    withContainer({
      env: [{ name: 'A', value: 'x', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }],
    }),
    ['spec.containers[0].env[0].valueFrom'],
  ],
  [
    withContainer({ livenessProbe: { exec: { command: ['a'] }, successThreshold: 2 } }),
    ['spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1'],
  ],
  [
    podOf({ restartPolicy: 'Often' }),
    [
      'spec.restartPolicy: Unsupported value: "Often": supported values: "Always", "OnFailure", "Never"',
    ],
  ],
  [
    podOf({ volumes: [{ name: 'v', emptyDir: {}, hostPath: { path: '/x' } }] }),
    ['spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type'],
  ],
  [
    podOf({ volumes: [{ name: 'v', hostPath: { path: '/a/../b' } }] }),
    ['spec.volumes[0].hostPath'],
  ],
  [podOf({ nodeSelector: { 'a b': 'c' } }), ['spec.nodeSelector: Invalid value: "a b"']],
  [
    podOf({ tolerations: [{ operator: 'Exists', key: 'k', value: 'v' }] }),
    ['spec.tolerations[0].operator: Invalid value'],
  ],
];

test('what a pod is refused for, in order', () => {
  for (const [object, expected] of REFUSED) {
    const errors = createErrors(pod, object);
    assert.equal(errors.length, expected.length, errors.join('\n'));
    for (const [i, start] of expected.entries()) {
      assert.ok(errors[i]?.startsWith(start), `${errors[i]}\n  should start ${start}`);
    }
  }
});

test('what a pod gets that it did not ask for', () => {
  const made = asCreated<Pod>(pod, withContainer({ resources: { limits: { cpu: '1' } } }));
  const [first] = made.spec.containers;
  assert.deepEqual(first?.resources, { limits: { cpu: '1' }, requests: { cpu: '1' } });
  assert.equal(first?.imagePullPolicy, 'Always');
  assert.equal(first?.terminationMessagePath, '/dev/termination-log');
  assert.equal(made.spec.restartPolicy, 'Always');
  assert.equal(made.spec.terminationGracePeriodSeconds, 30);
  assert.deepEqual(made.status, { phase: 'Pending', qosClass: 'Burstable' });
});

test('the tag decides how often an image is pulled', () => {
  for (const [image, policy] of [
    ['a', 'Always'],
    ['a:latest', 'Always'],
    ['a:1', 'IfNotPresent'],
    ['host:5000/a', 'Always'],
    ['host:5000/a:1', 'IfNotPresent'],
    [`a@sha256:${'0'.repeat(64)}`, 'IfNotPresent'],
  ] as const) {
    const made = asCreated<Pod>(pod, withContainer({ image }));
    assert.equal(made.spec.containers[0]?.imagePullPolicy, policy, image);
  }
});

test('of a pod, its images may change and little else', () => {
  assert.deepEqual(updateErrors(pod, podOf(), withContainer({ image: 'j' })), []);
  assert.deepEqual(updateErrors(pod, podOf(), podOf({ activeDeadlineSeconds: 5 })), []);
  const [error, ...others] = updateErrors(pod, podOf(), withContainer({ command: ['x'] }));
  assert.match(error ?? '', /^spec: Forbidden: pod updates may not change fields other than/);
  assert.deepEqual(others, []);
});
