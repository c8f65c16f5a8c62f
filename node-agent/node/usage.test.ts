import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { type ContainerStats, LABEL, type RuntimeService } from '#node-agent/runtime/service.ts';
import { resourceMetrics, statsSummary, UsageMeter } from '#node-agent/node/usage.ts';

const value = (n: number) => ({ value: n });

function stats(name: string, atMs: number, coreNs: number): ContainerStats {
  return {
    attributes: {
      id: name,
      metadata: { name, attempt: 0 },
      labels: { [LABEL.podUid]: 'u', [LABEL.podName]: 'p', [LABEL.podNamespace]: 'ns' },
      annotations: {},
    },
    cpu: { timestamp: atMs * 1e6, usageCoreNanoSeconds: value(coreNs), usageNanoCores: null },
    memory: {
      timestamp: atMs * 1e6,
      workingSetBytes: value(1000),
      availableBytes: null,
      usageBytes: value(2000),
      rssBytes: value(500),
      pageFaults: value(1),
      majorPageFaults: value(0),
    },
    writableLayer: null,
  };
}

test('rates come from two readings far enough apart; the first from the start of the container', async () => {
  const clock = manualClock(100_000);
  let list: ContainerStats[] = [];
  const runtime = { listContainerStats: async () => list } as unknown as RuntimeService;
  const meter = new UsageMeter(runtime, clock, (id) => (id === 'known' ? 98_000 : undefined));
  const read = async (atMs: number, coreNs: number) => {
    list = [stats('known', atMs, coreNs), stats('new', atMs, coreNs)];
    const [pod] = await meter.pods();
    return pod?.containers.map((c) => c.cpu.usageNanoCores);
  };
  assert.deepEqual(await read(100_000, 1e9), [5e8, undefined], 'half a core since its start');
  assert.deepEqual(await read(100_200, 2e9), [5e8, undefined], 'too close: the last rate stays');
  assert.deepEqual(await read(102_000, 3e9), [1e9, 1e9]);
  assert.deepEqual(await read(104_000, 3e9), [0, 0]);
});

test('summary and metrics add a pod up', async () => {
  const clock = manualClock(100_000);
  const list = [stats('a', 100_000, 1e9), stats('b', 100_000, 2e9)];
  const runtime = { listContainerStats: async () => list } as unknown as RuntimeService;
  const meter = new UsageMeter(runtime, clock, () => 99_000);
  const pods = await meter.pods();
  const summary = statsSummary('n', '/', meter.node(), pods) as {
    pods: { cpu: { usageNanoCores: number }; memory: { workingSetBytes: number } }[];
  };
  assert.equal(summary.pods[0]?.cpu.usageNanoCores, 3e9);
  assert.equal(summary.pods[0]?.memory.workingSetBytes, 2000);
  const text = resourceMetrics(meter.node(), pods);
  assert.match(text, /^pod_cpu_usage_seconds_total\{namespace="ns",pod="p"\} 3$/m);
  assert.match(
    text,
    /^container_memory_working_set_bytes\{container="b",namespace="ns",pod="p"\} 1000$/m,
  );
});
