import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { namesIn, writeAtomic } from '#base/files.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Pod } from '#api/types.ts';
import { graceOf, type StopOrder } from '#node-agent/pods/pod-observation.ts';
import { PREEMPTED_MESSAGE, PREEMPTING } from '#node-agent/pods/pod-preemption.ts';

/** Only the node knows that it ends a pod: the API shows it when that is done. */
export type NodeOrder = Extract<StopOrder, { cause: 'failed' }>;

/** Reason of the condition DisruptionTarget when the node itself ends a pod. Source: Kubernetes API. */
export const TERMINATION_BY_NODE = 'TerminationByKubelet';

/**
 * Evictions and preemptions that this node has begun, one small file each: an agent that is killed in
 * the middle goes on with them, whether the API server is there or not. Written before anything of the
 * pod is stopped. The disk may be full, which is often why a pod is evicted: then the pod's condition
 * has to do.
 */
export class StopOrders {
  readonly #dir: string;
  readonly #log: Log;

  /** `dir` need not exist. */
  constructor(dir: string, log: Log) {
    this.#dir = dir;
    this.#log = log;
  }

  /** What has been begun with a pod that has not ended yet. */
  of(pod: Pod): NodeOrder | undefined {
    const { phase, conditions } = pod.status ?? {};
    if (phase === 'Failed' || phase === 'Succeeded') return undefined;
    const noted = this.#read(pod.metadata.uid ?? '');
    if (noted) return noted;
    const target = conditions?.find(
      ({ type, status, reason }) =>
        type === 'DisruptionTarget' && status === 'True' && reason === TERMINATION_BY_NODE,
    );
    if (!target) return undefined;
    const isPreempted = target.message?.startsWith('Pod was preempted');
    return {
      cause: 'failed',
      sinceMs: Date.parse(target.lastTransitionTime ?? '') || 0,
      graceSeconds: graceOf(pod),
      reason: isPreempted ? PREEMPTING : 'Evicted',
      message: isPreempted ? PREEMPTED_MESSAGE : (target.message ?? ''),
    };
  }

  note(pod: Pod, order: NodeOrder): void {
    const { name, namespace, uid = '' } = pod.metadata;
    try {
      mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
      writeAtomic(this.#file(uid), JSON.stringify(order), { mode: 0o600 });
    } catch (error) {
      const text = errorText(error);
      this.#log.warn('cannot note that a pod ends', { pod: `${namespace}/${name}`, error: text });
    }
  }

  forget(uid: string): void {
    rmSync(this.#file(uid), { force: true });
  }

  /** Forgets pods that nobody knows any more. */
  prune(isKnown: (uid: string) => boolean): void {
    for (const name of namesIn(this.#dir)) {
      const [, uid = '', partial] = /^(.*)\.json(\..*)?$/.exec(name) ?? [];
      // What was cut off while it was written is nobody's.
      if (partial || !isKnown(uid)) rmSync(join(this.#dir, name), { force: true });
    }
  }

  #file(uid: string): string {
    return join(this.#dir, `${uid}.json`);
  }

  #read(uid: string): NodeOrder | undefined {
    try {
      const order = JSON.parse(readFileSync(this.#file(uid), 'utf8')) as NodeOrder;
      return order.cause === 'failed' ? order : undefined;
    } catch {
      return undefined; // there is none, or it was cut off while it was written
    }
  }
}
