import { cacheOf, onController, onSelf, runController } from '#client/controller.ts';
import { cronJobs, jobs } from '#client/resources.ts';
import { type CronJobWorld, planCronJob, reportCronJob } from '#controllers/cronjob-plan.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { OWNER_INDEX, ownerIndex } from '#controllers/ownership.ts';

/** Starts the jobs of every CronJob when their time has come. */
export const cronJobController: ControllerDefinition = {
  name: 'cronjob-controller',
  async run(setup) {
    const cache = setup.informers.of(cronJobs);
    const jobCache = setup.informers.of(jobs, { indexes: { [OWNER_INDEX]: ownerIndex } });
    await runController<CronJobWorld>(
      {
        name: 'cronjob-controller',
        workers: 5,
        caches: [cacheOf(cronJobs, cache), cacheOf(jobs, jobCache)],
        triggers(add) {
          onSelf(cache, add);
          onController(jobCache, 'CronJob', add);
        },
        observe(key) {
          const cronJob = cache.get(key);
          if (!cronJob) return undefined;
          return { cronJob, owned: jobCache.byIndex(OWNER_INDEX, cronJob.metadata.uid ?? '') };
        },
        plan: planCronJob,
        report: reportCronJob,
      },
      { ...setup, recorder: setup.recorderOf('cronjob-controller') },
    );
  },
};
