import type { Job, Pod } from '#api/types.ts';
import { cacheOf, keyText, onController, onSelf, runController } from '#client/controller.ts';
import type { Informer } from '#client/informer.ts';
import { jobs, pods } from '#client/resources.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';
import { planJob, reportJob } from '#controllers/job-plan.ts';
import { hasFinalizer, isFinished, type JobWorld, TRACKING } from '#controllers/job-state.ts';
import {
  candidatesOf,
  controllerOf,
  OWNER_INDEX,
  onOrphan,
  ownerIndex,
  removeFinalizer,
} from '#controllers/ownership.ts';

const NAME = 'job-controller';
/** In spec.managedBy: that is us. */
const OURSELVES = 'kubernetes.io/job-controller';

/** Runs the pods of every Job to completion, and frees those that no job counts any more. */
export const jobController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const indexes = { [OWNER_INDEX]: ownerIndex };
    const cache = setup.informers.of(jobs);
    const podCache = setup.informers.of(pods, { indexes });
    const caches = { jobs: cache, pods: podCache };
    await Promise.all([runJobs(setup, caches), freeOrphans(setup, caches)]);
  },
};

type Caches = { jobs: Informer<Job>; pods: Informer<Pod> };

const isOurs = (job: Job): boolean =>
  job.spec?.managedBy === undefined || job.spec.managedBy === OURSELVES;

async function runJobs(setup: ControllerSetup, caches: Caches): Promise<void> {
  await runController<JobWorld>(
    {
      name: NAME,
      workers: 5,
      caches: [cacheOf(jobs, caches.jobs), cacheOf(pods, caches.pods)],
      triggers(add) {
        onSelf(caches.jobs, add);
        onController(caches.pods, 'Job', add);
        onOrphan(caches.pods, caches.jobs, { selectorOf: (job) => job.spec?.selector, add });
      },
      observe(key) {
        const job = caches.jobs.get(key);
        if (!job || !isOurs(job)) return undefined;
        return { job, pods: candidatesOf(caches.pods, job) };
      },
      plan: planJob,
      report: reportJob,
    },
    { ...setup, recorder: setup.recorderOf(NAME) },
  );
}

/** A pod whose job is gone, or has ended, must not wait to be counted. */
async function freeOrphans(setup: ControllerSetup, caches: Caches): Promise<void> {
  await runController<Pod>(
    {
      name: `${NAME}-orphans`,
      workers: 1,
      caches: [cacheOf(jobs, caches.jobs), cacheOf(pods, caches.pods)],
      triggers(add) {
        caches.pods.onChange(({ type, object }) => {
          if (type !== 'deleted' && hasFinalizer(object)) add(keyText(object));
        });
        caches.jobs.onChange(({ type, object }) => {
          if (type !== 'deleted') return;
          const left = caches.pods.byIndex(OWNER_INDEX, object.metadata.uid ?? '');
          for (const pod of left) if (hasFinalizer(pod)) add(keyText(pod));
        });
      },
      observe(key) {
        const pod = caches.pods.get(key);
        if (!pod || !hasFinalizer(pod)) return undefined;
        const owner = controllerOf(pod);
        const job =
          owner?.kind === 'Job'
            ? caches.jobs.get({ namespace: key.namespace, name: owner.name })
            : undefined;
        const isCounted = job && job.metadata.uid === owner?.uid && !isFinished(job);
        return isCounted || (job && !isOurs(job)) ? undefined : pod;
      },
      plan: (pod) => ({ actions: [removeFinalizer(pod, pods, TRACKING)] }),
    },
    { ...setup, recorder: setup.recorderOf(NAME) },
  );
}
