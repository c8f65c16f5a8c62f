import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cadvisorMetrics } from '#node-agent/server/cadvisor-metrics.ts';
import { detailStats, parseNetDev } from '#node-agent/pods/pod-details.ts';

const NET_DEV = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1234567    1000    1    2    0     0          0         0   765432     900    3    4    0     0       0          0
`;

const eth0 = {
  name: 'eth0',
  rxBytes: 1_234_567,
  rxPackets: 1000,
  rxErrors: 1,
  rxDropped: 2,
  txBytes: 765_432,
  txPackets: 900,
  txErrors: 3,
  txDropped: 4,
};

test('interfaces are read from the kernel, loopback left out', () => {
  assert.deepEqual(parseNetDev(NET_DEV), [eth0]);
  assert.deepEqual(parseNetDev(''), []);
});

test('the summary tells network, volumes and storage as far as they are known', () => {
  const usage = {
    memoryBytes: 0,
    diskBytes: 30,
    inodes: 4,
    pids: 5,
    containers: new Map(),
    emptyDirBytes: new Map([['tmp', 20]]),
  };
  assert.deepEqual(detailStats('now', [eth0], usage, { capacityBytes: 99 }), {
    network: {
      time: 'now',
      name: 'eth0',
      rxBytes: 1_234_567,
      rxErrors: 1,
      txBytes: 765_432,
      txErrors: 3,
      interfaces: [
        { name: 'eth0', rxBytes: 1_234_567, rxErrors: 1, txBytes: 765_432, txErrors: 3 },
      ],
    },
    volume: [{ capacityBytes: 99, time: 'now', name: 'tmp', usedBytes: 20 }],
    'ephemeral-storage': { capacityBytes: 99, time: 'now', usedBytes: 30, inodesUsed: 4 },
    process_stats: { process_count: 5 },
  });
  assert.deepEqual(detailStats('now', undefined, undefined, {}), {});
});

test('series carry the labels and units that dashboards ask for', () => {
  const memory = {
    time: '',
    usageBytes: 2000,
    workingSetBytes: 1000,
    rssBytes: 500,
    pageFaults: 7,
    majorPageFaults: 0,
  };
  const container = (name: string) => ({
    name,
    cpu: { time: '', usageCoreNanoSeconds: 1.5e9 },
    memory,
    rootfsBytes: 4096,
    rootfsInodes: 1,
  });
  const text = cadvisorMetrics({ cores: 2, memoryBytes: 1024 }, [
    {
      usage: {
        podRef: { name: 'p', namespace: 'ns', uid: 'u' },
        containers: [container('a'), container('gone')],
      },
      cgroup: '/kubepods/podu',
      container: (name) =>
        name === 'a'
          ? {
              id: 'id1',
              imageRef: 'img"1',
              startedAtMs: 5000,
              limits: { cpuShares: 102, cpuQuota: 20_000, memoryLimitInBytes: -1 },
            }
          : undefined,
      network: [eth0],
    },
  ]);
  const lines = text.split('\n');
  const labels =
    'container="a",id="/kubepods/podu/id1",image="img\\"1",name="id1",namespace="ns",pod="p"';
  for (const line of [
    'machine_cpu_cores 2',
    'machine_memory_bytes 1024',
    '# TYPE container_cpu_usage_seconds_total counter',
    `container_cpu_usage_seconds_total{${labels},cpu="total"} 1.5`,
    `container_memory_working_set_bytes{${labels}} 1000`,
    `container_memory_failures_total{${labels},failure_type="pgfault",scope="container"} 7`,
    `container_start_time_seconds{${labels}} 5`,
    `container_spec_cpu_quota{${labels}} 20000`,
    `container_spec_cpu_period{${labels}} 100000`,
    `container_spec_memory_limit_bytes{${labels}} 0`,
    'container_network_receive_bytes_total{interface="eth0",namespace="ns",pod="p",id="/kubepods/podu"} 1234567',
    'container_network_transmit_packets_dropped_total{interface="eth0",namespace="ns",pod="p",id="/kubepods/podu"} 4',
  ])
    assert.ok(lines.includes(line), line);
  assert.equal(text.includes('gone'), false);
});
