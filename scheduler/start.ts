import { type Clock, systemClock } from '#base/clock.ts';
import { type Log, silentLog } from '#base/log.ts';
import { type Random, systemRandom } from '#base/random.ts';
import { type Running, runTogether } from '#base/running.ts';
import type { Api } from '#client/api.ts';
import { createEventRecorder } from '#client/events.ts';
import { createInformers } from '#client/informer-factory.ts';
import { runAsLeader } from '#client/leader.ts';
import { pluginsFor } from '#scheduler/plugins.ts';
import type { FitStrategy } from '#scheduler/plugins/node-resources-fit.ts';
import { DEFAULT_SCHEDULER, runScheduler } from '#scheduler/scheduler.ts';

export type SchedulerConfig = {
  api: Api;
  /** `pack` fills nodes up, `spread` evens them out. */
  profile: FitStrategy;
  schedulerName?: string;
  /** Set when several schedulers may run: only the holder of the Lease works. */
  leaderElection?: { identity: string };
};

export type StartOptions = { signal: AbortSignal; clock?: Clock; random?: Random; log?: Log };

/** Starts the scheduler. */
export function start(config: SchedulerConfig, options: StartOptions): Running {
  const { clock = systemClock, random = systemRandom, log = silentLog } = options;
  const { api, profile, schedulerName = DEFAULT_SCHEDULER, leaderElection } = config;

  const schedule = async (signal: AbortSignal): Promise<void> => {
    const informers = createInformers(api, { signal, log, clock, random });
    const recorder = createEventRecorder(api, { component: schedulerName, clock, log });
    const plugins = pluginsFor(profile);
    await runScheduler({
      api,
      informers,
      recorder,
      plugins,
      schedulerName,
      signal,
      log,
      clock,
      random,
    });
    await recorder.flush();
    await informers.done();
  };

  return runTogether(options.signal, [
    leaderElection
      ? (signal) =>
          runAsLeader(
            api,
            {
              name: 'kube-scheduler',
              namespace: 'kube-system',
              identity: leaderElection.identity,
              signal,
              log,
              clock,
              random,
            },
            schedule,
          )
      : schedule,
  ]);
}
