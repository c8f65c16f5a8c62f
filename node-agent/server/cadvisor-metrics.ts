import { Exposition, type Family, type Labels } from '#node-agent/server/exposition.ts';
import type { ContainerRecord } from '#node-agent/pods/pod-observation.ts';
import type { NetworkInterface } from '#node-agent/pods/pod-details.ts';
import type { ContainerUsage, PodUsage } from '#node-agent/node/usage.ts';

const MICRO = 1e6;

/** A pod's figures and what is known of its containers and network. */
export type MeasuredPod = {
  usage: PodUsage;
  /** Path of the pod's control group. */
  cgroup: string;
  container: (
    name: string,
  ) => Pick<ContainerRecord, 'id' | 'imageRef' | 'startedAtMs' | 'limits'> | undefined;
  network: readonly NetworkInterface[] | undefined;
};

export type Machine = { cores: number; memoryBytes: number };

/**
 * The kubelet's /metrics/cadvisor: the series that dashboards and alerts of Kubernetes commonly use,
 * in Prometheus' text format. Source: cAdvisor documentation, "Monitoring with Prometheus".
 */
export function cadvisorMetrics(machine: Machine, pods: readonly MeasuredPod[]): string {
  const text = new Exposition();
  text.family({ name: 'machine_cpu_cores', type: 'gauge', help: 'Cores of the machine' }, [
    [{}, machine.cores],
  ]);
  text.family({ name: 'machine_memory_bytes', type: 'gauge', help: 'Memory of the machine' }, [
    [{}, machine.memoryBytes],
  ]);
  for (const { value, labels = {}, ...family } of CONTAINER_SERIES) {
    text.family(
      family,
      pods.flatMap((pod) =>
        pod.usage.containers.flatMap((usage): [Labels, number][] => {
          const record = pod.container(usage.name);
          const number = record && value(usage, record);
          return number === undefined
            ? []
            : [[{ ...containerLabels(pod, usage, record), ...labels }, number]];
        }),
      ),
    );
  }
  for (const { field, name, help } of NETWORK_SERIES) {
    text.family(
      { name, type: 'counter', help },
      pods.flatMap((pod) =>
        (pod.network ?? []).map((one): [Labels, number] => [
          { interface: one.name, ...podLabels(pod), id: pod.cgroup },
          one[field],
        ]),
      ),
    );
  }
  return text.toString();
}

const podLabels = ({ usage: { podRef } }: MeasuredPod): Labels => ({
  namespace: podRef.namespace,
  pod: podRef.name,
});

const containerLabels = (
  pod: MeasuredPod,
  { name }: ContainerUsage,
  record: { id: string; imageRef: string } | undefined,
): Labels => ({
  container: name,
  id: `${pod.cgroup}/${record?.id ?? ''}`,
  image: record?.imageRef ?? '',
  name: record?.id ?? '',
  ...podLabels(pod),
});

type ContainerSeries = Family & {
  labels?: Labels;
  /** Undefined when there is nothing to say. */
  value: (
    usage: ContainerUsage,
    record: Pick<ContainerRecord, 'startedAtMs' | 'limits'>,
  ) => number | undefined;
};

const positive = (value: number | undefined): number | undefined =>
  value !== undefined && value > 0 ? value : undefined;

const CONTAINER_SERIES: readonly ContainerSeries[] = [
  {
    name: 'container_cpu_usage_seconds_total',
    type: 'counter',
    help: 'CPU time used',
    labels: { cpu: 'total' },
    value: ({ cpu }) => cpu.usageCoreNanoSeconds / 1e9,
  },
  {
    name: 'container_memory_usage_bytes',
    type: 'gauge',
    help: 'Memory used, with all caches',
    value: ({ memory }) => memory.usageBytes,
  },
  {
    name: 'container_memory_working_set_bytes',
    type: 'gauge',
    help: 'Memory that cannot be given back at once',
    value: ({ memory }) => memory.workingSetBytes,
  },
  {
    name: 'container_memory_rss',
    type: 'gauge',
    help: 'Anonymous memory',
    value: ({ memory }) => memory.rssBytes,
  },
  {
    name: 'container_memory_failures_total',
    type: 'counter',
    help: 'Page faults',
    labels: { failure_type: 'pgfault', scope: 'container' },
    value: ({ memory }) => memory.pageFaults,
  },
  {
    name: 'container_fs_usage_bytes',
    type: 'gauge',
    help: 'Bytes of the writable layer',
    value: ({ rootfsBytes }) => rootfsBytes,
  },
  {
    name: 'container_start_time_seconds',
    type: 'gauge',
    help: 'Start since the epoch',
    value: (_, { startedAtMs }) => startedAtMs / 1000,
  },
  {
    name: 'container_spec_cpu_period',
    type: 'gauge',
    help: 'Period of the CPU quota, microseconds',
    value: (_, { limits }) => (positive(limits?.cpuQuota) ? MICRO / 10 : undefined),
  },
  {
    name: 'container_spec_cpu_quota',
    type: 'gauge',
    help: 'CPU time per period, microseconds',
    value: (_, { limits }) => positive(limits?.cpuQuota),
  },
  {
    name: 'container_spec_cpu_shares',
    type: 'gauge',
    help: 'CPU weight',
    value: (_, { limits }) => limits?.cpuShares,
  },
  {
    name: 'container_spec_memory_limit_bytes',
    type: 'gauge',
    help: 'Memory limit; 0 is none',
    value: (_, { limits }) => limits && Math.max(0, limits.memoryLimitInBytes),
  },
];

const network = (
  direction: 'receive' | 'transmit',
  what: string,
  field: Exclude<keyof NetworkInterface, 'name'>,
) => ({
  name: `container_network_${direction}_${what}_total`,
  help: `Network ${direction}: ${what}`,
  field,
});

const NETWORK_SERIES = [
  network('receive', 'bytes', 'rxBytes'),
  network('receive', 'packets', 'rxPackets'),
  network('receive', 'errors', 'rxErrors'),
  network('receive', 'packets_dropped', 'rxDropped'),
  network('transmit', 'bytes', 'txBytes'),
  network('transmit', 'packets', 'txPackets'),
  network('transmit', 'errors', 'txErrors'),
  network('transmit', 'packets_dropped', 'txDropped'),
];
