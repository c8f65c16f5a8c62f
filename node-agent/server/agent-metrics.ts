import { Exposition, type Labels } from '#node-agent/server/exposition.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { podContainers } from '#node-agent/pods/pod-observation.ts';
import type { ProbeCount } from '#node-agent/containers/probes.ts';
import type { VolumeFigures } from '#node-agent/storage/volume-usage.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';

/** What is told of every volume behind a claim. Source: the kubelet's volume_stats collector. */
const VOLUME_STATS: readonly (readonly [
  string,
  string,
  (figures: VolumeFigures) => number | undefined,
])[] = [
  ['capacity_bytes', 'Capacity in bytes of the volume', (one) => one.capacityBytes],
  ['available_bytes', 'Number of available bytes in the volume', (one) => one.availableBytes],
  ['used_bytes', 'Number of used bytes in the volume', (one) => one.usedBytes],
  ['inodes', 'Maximum number of inodes in the volume', (one) => one.inodes],
  ['inodes_free', 'Number of free inodes in the volume', (one) => one.inodesFree],
  ['inodes_used', 'Number of used inodes in the volume', (one) => one.inodesUsed],
  [
    'health_status_abnormal',
    'Abnormal volume health status: 1 or 0. 1 says that the volume is unhealthy',
    ({ volumeHealthStats: health }) => health && Number(health.abnormal),
  ],
];

/** The kubelet's /metrics: what the agent itself does and costs. Source: Kubernetes metrics reference. */
export function agentMetrics({
  services,
  workers,
}: {
  services: Pick<NodeServices, 'nodeName' | 'runtimes'> & {
    volumes: { usage: { all(): readonly VolumeFigures[] } };
  };
  workers: Pick<PodWorkers, 'all'>;
}): string {
  const text = new Exposition();
  const gauge = (name: string, help: string, samples: [Labels, number][]): void =>
    text.family({ name, type: 'gauge', help }, samples);
  const states = new Map<string, number>();
  let runningPods = 0;
  for (const { state } of services.runtimes.pods()) {
    if (state.sandboxes.some(({ ready }) => ready)) runningPods++;
    for (const record of state.containers)
      states.set(record.state, (states.get(record.state) ?? 0) + 1);
  }
  const wanted = workers.all().filter((worker) => !worker.terminal);
  const containers = wanted.flatMap(({ pod }) => podContainers(pod));
  gauge('kubelet_node_name', "The node's name", [[{ node: services.nodeName }, 1]]);
  gauge('kubelet_running_pods', 'Pods with a running sandbox', [[{}, runningPods]]);
  gauge(
    'kubelet_running_containers',
    'Containers by state',
    [...states].map(([container_state, count]) => [{ container_state }, count]),
  );
  gauge('kubelet_desired_pods', 'Pods that shall run here', [[{ static: '' }, wanted.length]]);
  gauge('kubelet_managed_ephemeral_containers', 'Ephemeral containers', [
    [{}, containers.filter(({ kind }) => kind === 'ephemeral').length],
  ]);
  for (const [name, help, value] of VOLUME_STATS) {
    const samples = services.volumes.usage.all().flatMap((figures): [Labels, number][] => {
      const { namespace, name: persistentvolumeclaim } = figures.pvcRef;
      const number = value(figures);
      return number === undefined ? [] : [[{ namespace, persistentvolumeclaim }, number]];
    });
    // Several pods may have the volume of one claim.
    const once = new Map(samples.map((sample) => [JSON.stringify(sample[0]), sample]));
    gauge(`kubelet_volume_stats_${name}`, help, [...once.values()]);
  }
  const { rss } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  gauge('process_resident_memory_bytes', 'Resident memory', [[{}, rss]]);
  gauge('process_start_time_seconds', 'Start of the process', [
    [{}, Math.floor(Date.now() / 1000 - process.uptime())],
  ]);
  text.family({ name: 'process_cpu_seconds_total', type: 'counter', help: 'CPU time' }, [
    [{}, (user + system) / 1e6],
  ]);
  return text.toString();
}

/** The kubelet's /metrics/probes: outcomes of the probes of containers that run. */
export function probeMetrics(counts: readonly ProbeCount[]): string {
  const text = new Exposition();
  text.family(
    { name: 'prober_probe_total', type: 'counter', help: 'Outcomes of probes' },
    counts.flatMap(({ pod, container, kind, outcomes }) =>
      Object.entries(outcomes).map(([result, count]): [Labels, number] => [
        {
          probe_type: `${kind[0]?.toUpperCase()}${kind.slice(1)}`,
          result,
          container,
          pod: pod.metadata.name ?? '',
          namespace: pod.metadata.namespace ?? '',
          pod_uid: pod.metadata.uid ?? '',
        },
        count,
      ]),
    ),
  );
  return text.toString();
}
