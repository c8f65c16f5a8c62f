import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cronJob } from '#api/batch/cron-job.ts';
import { podWarnings } from '#api/core/pod-warnings.ts';
import { pod } from '#api/core/pod.ts';
import { asCreated } from '#api/kind-probe.ts';
import type { CronJob, Pod } from '#api/types.ts';

const podOf = (spec: object, metadata: object = {}): Pod =>
  asCreated<Pod>(pod, {
    metadata: { name: 'p', ...metadata },
    spec: { containers: [{ name: 'c', image: 'i' }], ...spec },
  });
const withContainer = (more: object): Pod =>
  podOf({ containers: [{ name: 'c', image: 'i', ...more }] });

test('what a pod is warned of', () => {
  const rows: [Pod, string[]][] = [
    [podOf({}), []],
    [
      podOf({ nodeSelector: { 'beta.kubernetes.io/os': 'linux' } }),
      [
        'spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead',
      ],
    ],
    [
      withContainer({ env: ['1', '2', '$(A)3'].map((value) => ({ name: 'A', value })) }),
      [
        'spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply',
      ],
    ],
    [
      withContainer({ resources: { requests: { memory: '100m', cpu: '100m' } } }),
      [
        'spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer',
      ],
    ],
    [withContainer({ ports: [{ containerPort: 80 }, { containerPort: 80, protocol: 'UDP' }] }), []],
    [podOf({ imagePullSecrets: [{}] }), ['spec.imagePullSecrets[0].name: invalid empty name ""']],
  ];
  for (const [object, expected] of rows) assert.deepEqual(podWarnings(object, undefined), expected);
});

test('an update that leaves the spec alone warns of nothing', () => {
  const old = podOf({ imagePullSecrets: [{}] });
  assert.deepEqual(podWarnings(structuredClone(old), old), []);
});

test('warnings of a template say where it is', () => {
  const template = { spec: { containers: [], volumes: [{ name: 'g', gitRepo: {} }] } };
  const object = { metadata: { name: 'a.b' }, spec: { jobTemplate: { spec: { template } } } };
  assert.deepEqual(cronJob.warnings?.(asCreated<CronJob>(cronJob, object), undefined), [
    'metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]',
    'spec.jobTemplate.spec.template.spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+',
  ]);
});
