import type { Column } from '#api/kind.ts';
import { AGE, NONE, text, wide } from '#api/meta/columns.ts';
import { humanAge } from '#api/meta/duration.ts';
import type { ContainerStatus, Pod } from '#api/types.ts';

/** What the table says about a pod's containers together. Source: `kubectl get pods`. */
type Summary = { ready: number; total: number; reason: string; restarts: string };

const isSidecar = (pod: Pod, name: string): boolean =>
  pod.spec.initContainers?.find((c) => c.name === name)?.restartPolicy === 'Always';

const conditionTrue = (pod: Pod, type: string): boolean =>
  pod.status?.conditions?.some((c) => c.type === type && c.status === 'True') ?? false;

/** Restarts of several containers, and when the last of them was. */
class Restarts {
  count = 0;
  last = '';

  add(status: ContainerStatus): void {
    this.count += status.restartCount ?? 0;
    const finished = status.lastState?.terminated?.finishedAt ?? '';
    if (finished > this.last) this.last = finished;
  }

  text(now: number): string {
    if (this.count === 0 || !this.last) return String(this.count);
    return `${this.count} (${humanAge(this.last, now)} ago)`;
  }
}

const exitReason = (ended: { reason?: string; signal?: number; exitCode: number }): string => {
  if (ended.reason) return ended.reason;
  return ended.signal ? `Signal:${ended.signal}` : `ExitCode:${ended.exitCode}`;
};

type Initialization = { running: boolean; reason: string; ready: number; sidecars: Restarts };

/** Goes through init containers until the first that is not done. */
function initialization(pod: Pod, reason: string, all: Restarts): Initialization {
  const result: Initialization = { running: false, reason, ready: 0, sidecars: new Restarts() };
  for (const [index, status] of (pod.status?.initContainerStatuses ?? []).entries()) {
    all.add(status);
    const sidecar = isSidecar(pod, status.name);
    if (sidecar) result.sidecars.add(status);
    const { terminated, waiting } = status.state ?? {};
    if (terminated?.exitCode === 0) continue;
    if (sidecar && status.started) {
      if (status.ready) result.ready++;
      continue;
    }
    result.running = true;
    if (terminated) result.reason = `Init:${exitReason(terminated)}`;
    else if (waiting?.reason && waiting.reason !== 'PodInitializing') {
      result.reason = `Init:${waiting.reason}`;
    } else result.reason = `Init:${index}/${pod.spec.initContainers?.length ?? 0}`;
    break;
  }
  return result;
}

function containersReason(pod: Pod, reason: string, restarts: Restarts) {
  let ready = 0;
  let hasRunning = false;
  let result = reason;
  for (const status of [...(pod.status?.containerStatuses ?? [])].reverse()) {
    restarts.add(status);
    const { terminated, waiting, running } = status.state ?? {};
    if (waiting?.reason) result = waiting.reason;
    else if (terminated) result = exitReason(terminated);
    else if (status.ready && running) {
      hasRunning = true;
      ready++;
    }
  }
  if (result === 'Completed' && hasRunning) {
    result = conditionTrue(pod, 'Ready') ? 'Running' : 'NotReady';
  }
  return { reason: result, ready };
}

export function summarizePod(pod: Pod, now: number): Summary {
  const { status } = pod;
  let reason = status?.reason || status?.phase || '';
  const gated = status?.conditions?.some(
    (c) => c.type === 'PodScheduled' && c.reason === 'SchedulingGated',
  );
  if (gated) reason = 'SchedulingGated';
  let restarts = new Restarts();
  const init = initialization(pod, reason, restarts);
  let ready = init.ready;
  reason = init.reason;
  if (!init.running || conditionTrue(pod, 'Initialized')) {
    restarts = init.sidecars;
    const main = containersReason(pod, reason, restarts);
    reason = main.reason;
    ready += main.ready;
  }
  if (pod.metadata.deletionTimestamp) {
    const ended = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    if (status?.reason === 'NodeLost') reason = 'Unknown';
    else if (!ended) reason = 'Terminating';
  }
  const sidecars = pod.spec.initContainers?.filter((c) => c.restartPolicy === 'Always').length ?? 0;
  const total = (pod.spec.containers?.length ?? 0) + sidecars;
  return { ready, total, reason, restarts: restarts.text(now) };
}

function readinessGates(pod: Pod): string {
  const gates = pod.spec.readinessGates ?? [];
  if (gates.length === 0) return NONE;
  const passed = gates.filter((gate) => conditionTrue(pod, gate.conditionType)).length;
  return `${passed}/${gates.length}`;
}

export const podColumns: readonly Column<Pod>[] = [
  text(
    'Ready',
    (pod, now) => {
      const { ready, total } = summarizePod(pod, now);
      return `${ready}/${total}`;
    },
    'The aggregate readiness state of this pod for accepting traffic.',
  ),
  text(
    'Status',
    (pod, now) => summarizePod(pod, now).reason,
    'The aggregate status of the containers in this pod.',
  ),
  text(
    'Restarts',
    (pod, now) => summarizePod(pod, now).restarts,
    'The number of times the containers in this pod have been restarted and ' +
      'when the last container in this pod has restarted.',
  ),
  AGE as Column<Pod>,
  wide(text('IP', (pod) => pod.status?.podIPs?.[0]?.ip || NONE, 'V1PodStatus.podIP')),
  wide(text('Node', (pod) => pod.spec.nodeName || NONE, 'V1PodSpec.nodeName')),
  wide(
    text(
      'Nominated Node',
      (pod) => pod.status?.nominatedNodeName || NONE,
      'V1PodStatus.nominatedNodeName',
    ),
  ),
  wide(text('Readiness Gates', readinessGates, 'V1PodSpec.readinessGates')),
];
