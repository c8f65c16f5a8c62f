import { type Clock, systemClock } from '#base/clock.ts';
import { createLog, type Log } from '#base/log.ts';
import { type Random, systemRandom } from '#base/random.ts';
import { type Running, runTogether } from '#base/running.ts';
import type { Api } from '#client/api.ts';
import { createEventRecorder } from '#client/events.ts';
import { createInformers } from '#client/informer-factory.ts';
import { runAsLeader } from '#client/leader.ts';
import { controllers } from '#controllers/controllers.ts';
import {
  type ControllerDefinition,
  type ControllersConfig,
  defaultControllersConfig,
} from '#controllers/definition.ts';

export type StartControllersConfig = Partial<ControllersConfig> & {
  api: Api;
  /** Names from the list; '*' is all, '-name' leaves one out. Default: ['*']. */
  controllers?: readonly string[];
  /** Work only while holding the Lease kube-system/kube-controller-manager. */
  leaderElection?: { identity: string };
};

export type StartOptions = { signal: AbortSignal; log?: Log; clock?: Clock; random?: Random };

/** Starts the chosen controllers over one set of informers. Throws for names that do not exist. */
export function start(config: StartControllersConfig, options: StartOptions): Running {
  const { api, controllers: names = ['*'], leaderElection, ...given } = config;
  const { clock = systemClock, random = systemRandom } = options;
  const log = options.log ?? createLog({ component: 'controllers' });
  const chosen = choose(names);
  const full = { ...defaultControllersConfig, ...given };
  const work = async (signal: AbortSignal): Promise<void> => {
    const informers = createInformers(api, { signal, log, clock, random });
    const recorderOf = (component: string) => createEventRecorder(api, { component, clock, log });
    const setup = { api, informers, recorderOf, config: full, log, signal, clock, random };
    const running = runTogether(
      signal,
      chosen.map((definition) => (own) => definition.run({ ...setup, signal: own })),
    );
    await running.done;
    await informers.done();
  };
  return runTogether(options.signal, [
    (signal) => {
      if (!leaderElection) return work(signal);
      const { identity } = leaderElection;
      const name = 'kube-controller-manager';
      const lease = { name, namespace: 'kube-system', identity, signal, log, clock, random };
      return runAsLeader(api, lease, work);
    },
  ]);
}

/** Source: kube-controller-manager's --controllers. */
function choose(names: readonly string[]): ControllerDefinition[] {
  const known = new Set(controllers.map((definition) => definition.name));
  const unknown = names.filter((name) => name !== '*' && !known.has(name.replace(/^-/, '')));
  if (unknown.length > 0) {
    throw new Error(`no controller "${unknown.join('", "')}"; there are ${[...known].join(', ')}`);
  }
  const all = names.includes('*');
  return controllers.filter(({ name }) =>
    names.includes(name) ? true : all && !names.includes(`-${name}`),
  );
}
