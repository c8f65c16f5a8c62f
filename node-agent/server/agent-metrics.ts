import { Exposition, type Labels } from '#node-agent/server/exposition.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { podContainers } from '#node-agent/pods/pod-observation.ts';
import type { ProbeCount } from '#node-agent/containers/probes.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';

/** The kubelet's /metrics: what the agent itself does and costs. Source: Kubernetes metrics reference. */
export function agentMetrics({
  services,
  workers,
}: {
  services: Pick<NodeServices, 'nodeName' | 'runtimes'>;
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
