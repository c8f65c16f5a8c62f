import { parseTime } from '#api/time.ts';
import type { Job } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { jobs } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { isFinished, jobCondition } from '#controllers/job-state.ts';

/** Deletes a finished job when its time is up. Pure. Source: "TTL-after-finished Controller". */
export function planTtl(job: Job, now: number): Plan {
  const { ttlSecondsAfterFinished: seconds } = job.spec ?? {};
  const { metadata } = job;
  if (seconds === undefined || metadata.deletionTimestamp || !isFinished(job)) {
    return { actions: [] };
  }
  const ending = jobCondition(job, 'Complete') ?? jobCondition(job, 'Failed');
  const leftMs = parseTime(ending?.lastTransitionTime ?? '') + seconds * 1000 - now;
  if (Number.isNaN(leftMs)) return { actions: [] };
  if (leftMs > 0) return { actions: [], requeueAfterMs: leftMs };
  const { namespace, name = '', uid = '', resourceVersion = '' } = metadata;
  return {
    actions: [
      {
        type: 'delete',
        resource: jobs,
        key: { namespace, name },
        uid,
        // A job whose time was changed since then is another case.
        resourceVersion,
        propagationPolicy: 'Foreground',
      },
    ],
  };
}

/** Deletes jobs some time after they have finished. */
export const ttlAfterFinishedController: ControllerDefinition = {
  name: 'ttl-after-finished-controller',
  async run(setup) {
    const cache = setup.informers.of(jobs);
    await runController<Job>(
      {
        name: 'ttl-after-finished-controller',
        caches: [cacheOf(jobs, cache)],
        triggers: (add) => onSelf(cache, add),
        observe: (key) => cache.get(key),
        plan: planTtl,
      },
      { ...setup, recorder: setup.recorderOf('ttl-after-finished-controller') },
    );
  },
};
