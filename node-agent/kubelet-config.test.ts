import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readKubeletConfig } from '#node-agent/kubelet-config.ts';
import { shutdownPeriods } from '#node-agent/node/shutdown-plan.ts';
import { readThresholds } from '#node-agent/node/eviction-thresholds.ts';

const HEAD = 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n';

test('a kubelet’s configuration as flags', () => {
  const { flags, ignored } = readKubeletConfig(
    `${HEAD}
cgroupDriver: systemd
clusterDNS: [10.96.0.10, 10.96.0.11]
systemReserved: { cpu: 100m, memory: 200Mi }
evictionHard: { memory.available: 100Mi, nodefs.available: 10% }
shutdownGracePeriodByPodPriority:
- { priority: 1000, shutdownGracePeriodSeconds: 5 }
- { priority: 0, shutdownGracePeriodSeconds: 20 }
serverTLSBootstrap: true
allowedUnsafeSysctls: [net.core.*, kernel.msg*]
podPidsLimit: 200
syncFrequency: 1m
staticPodPath: null
`,
    'f',
  );
  assert.deepEqual(flags, {
    cgroupDriver: 'systemd',
    clusterDns: '10.96.0.10',
    systemReserved: 'cpu=100m,memory=200Mi',
    evictionHard: 'memory.available<100Mi,nodefs.available<10%',
    shutdownGracePeriodByPodPriority: '1000=5,0=20',
    rotateServerCertificates: true,
    allowedUnsafeSysctls: 'net.core.*,kernel.msg*',
    podMaxPids: '200',
  });
  assert.deepEqual(ignored, ['syncFrequency']);
  const periods = shutdownPeriods({
    gracePeriodByPodPriority: String(flags['shutdownGracePeriodByPodPriority']),
  });
  assert.equal(periods[1]?.priority, 1000, 'what comes out is what the flags take');
  assert.equal(readThresholds({ evictionHard: String(flags['evictionHard']) }).length, 2);
});

test('what is no such configuration is refused by name', () => {
  const table = [
    ['kind: Pod\napiVersion: v1', /f: expected kind KubeletConfiguration.*not Pod of v1/],
    ['- 1', /f is no object/],
    ['a: [', /--config f: /],
    [`${HEAD}clusterDNS: null\nallowedUnsafeSysctls: 5`, /allowedUnsafeSysctls has a wrong shape/],
  ] as const;
  for (const [text, message] of table)
    assert.throws(() => readKubeletConfig(text, 'f'), message, text);
});
