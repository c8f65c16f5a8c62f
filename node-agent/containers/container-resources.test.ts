import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#api/types.ts';
import { hostLimits, podLimits, podResources } from '#node-agent/containers/container-resources.ts';

const MIB = 1024 * 1024;

const pod: Pod = {
  metadata: { name: 'p' },
  spec: {
    runtimeClassName: 'vm',
    overhead: { cpu: '50m', memory: '100Mi' },
    containers: [
      {
        name: 'c',
        resources: {
          requests: { cpu: '500m', memory: '64Mi' },
          limits: { cpu: '1', memory: '128Mi' },
        },
      },
    ],
  },
};

test('a VM is sized by what its containers may use, without the overhead of the class', () => {
  assert.equal(podLimits(pod, undefined).memoryBytes, 228 * MIB);
  const { memoryLimitInBytes, cpuQuota, cpuPeriod, unified } = podResources(pod, 100);
  assert.deepEqual(
    [memoryLimitInBytes, (cpuQuota ?? 0) / (cpuPeriod ?? 1), unified],
    [128 * MIB, 1, { 'memory.min': String(64 * MIB), 'pids.max': '100' }],
  );
});

test('the host bounds the memory and processes of containers, not those of a VM', () => {
  const on = (handler: string) =>
    hostLimits(pod, {
      podPidsLimit: 100,
      runtimeHandler: () => handler,
      resourceFacts: { hugepageSizes: [] },
    });
  assert.equal(on('runc').memoryBytes, 228 * MIB);
  assert.equal(on('runc').pids, 100);
  assert.equal(on('microvm').memoryBytes, undefined);
  assert.equal(on('microvm').pids, undefined);
});
