import { type Amounts, podAmounts } from '#api/pod-resources.ts';
import type { Pod } from '#api/types.ts';
import { isCritical } from '#node-agent/node/eviction.ts';
import type { Refusal } from '#node-agent/pods/pod-admission.ts';
import { type QosClass, qosClass } from '#node-agent/containers/qos.ts';

/** Reason of the event and of the status of a pod that makes room for a critical one. */
export const PREEMPTING = 'Preempting';
export const PREEMPTED_MESSAGE = 'Preempted in order to admit critical pod';

/** From the last that may go to the first. */
const DEAREST_FIRST: readonly QosClass[] = ['Guaranteed', 'Burstable', 'BestEffort'];

/**
 * The pods that make room for a critical one: of each class no more than what all the cheaper ones
 * could not give, and as few as that takes. `short` says what is missing. Pure.
 * Source: Kubernetes documentation, "Guaranteed Scheduling For Critical Add-On Pods".
 */
export function choosePreempted(pod: Pod, others: readonly Pod[], short: Amounts): Pod[] | Refusal {
  const classes = new Map(DEAREST_FIRST.map((name): [QosClass, Pod[]] => [name, []]));
  for (const other of others) if (mayPreempt(pod, other)) classes.get(qosClass(other))?.push(other);
  const missing = without(short, [...classes.values()].flat());
  if (missing.size > 0) return noRoom(missing);
  for (const name of DEAREST_FIRST) {
    const rest = [...classes].flatMap(([other, pods]) => (other === name ? [] : pods));
    classes.set(name, fewest(classes.get(name) ?? [], without(short, rest)));
  }
  return [...classes.values()].reverse().flat();
}

function mayPreempt(pod: Pod, other: Pod): boolean {
  if (isCritical(pod) && !isCritical(other)) return true;
  const [own, its] = [pod.spec.priority, other.spec.priority];
  return own !== undefined && its !== undefined && own > its;
}

/** The pods whose end gives `wanted`, which all together can: the best match first. */
function fewest(pods: readonly Pod[], wanted: Amounts): Pod[] {
  const chosen: Pod[] = [];
  const left = [...pods];
  for (let open = wanted; open.size > 0 && left.length > 0; ) {
    left.sort((a, b) => distance(a, open) - distance(b, open) || bySize(a, b));
    const [best] = left.splice(0, 1);
    if (!best) break;
    chosen.push(best);
    open = without(open, [best]);
  }
  return chosen;
}

/** How far a pod's end would leave us from what is wanted: 0 gives all of it. */
function distance(pod: Pod, wanted: Amounts): number {
  let sum = 0;
  for (const [name, amount] of wanted) {
    const rest = amount - held(pod, name);
    if (rest > 0) sum += (rest / amount) ** 2;
  }
  return sum;
}

function bySize(a: Pod, b: Pod): number {
  return held(a, 'memory') - held(b, 'memory') || held(a, 'cpu') - held(b, 'cpu');
}

const held = ({ spec }: Pod, name: string): number =>
  name === 'pods' ? 1 : (podAmounts(spec, 'requests').get(name) ?? 0);

/** What of `wanted` is still missing when these pods are gone. */
function without(wanted: Amounts, pods: readonly Pod[]): Amounts {
  const left: Amounts = new Map();
  for (const [name, amount] of wanted) {
    const rest = pods.reduce((sum, pod) => sum - held(pod, name), amount);
    if (rest > 0) left.set(name, rest);
  }
  return left;
}

function noRoom(missing: Amounts): Refusal {
  const list = [...missing].map(([name, amount]) => `(res: ${name}, q: ${amount}), `).join('');
  return {
    reason: 'UnexpectedAdmissionError',
    message:
      'Unexpected error while attempting to recover from admission failure: preemption: error ' +
      'finding a set of pods to preempt: no set of running pods found to reclaim resources: ' +
      `[${list}]`,
  };
}
