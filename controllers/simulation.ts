import { type ManualClock, manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { type Random, randomInt, seededRandom } from '#base/random.ts';
import { formatTime } from '#api/time.ts';
import type { ObjectKey, Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { type EventRecorder, listRecorder } from '#client/events.ts';
import { createInformers, type Informers } from '#client/informer-factory.ts';
import { pods } from '#client/resources.ts';
import { type SimulatedApi, simulateApi } from '#client/simulated-api.ts';
import { targetNode } from '#controllers/daemonset-pods.ts';
import {
  type ControllerDefinition,
  type ControllersConfig,
  defaultControllersConfig,
} from '#controllers/definition.ts';

/** A seeded world for tests: an API in memory, controllers, and nodes that run pods. */
export type Simulation = {
  api: SimulatedApi;
  clock: ManualClock;
  random: Random;
  informers: Informers;
  said: string[];
  /** Advances in small steps until `test` holds; throws after `limitMs` of simulated time. */
  until(test: () => boolean, what: string, limitMs?: number): Promise<void>;
  advance(ms: number): Promise<void>;
  stop(): Promise<void>;
};

export type SimulationOptions = {
  seed: number;
  controllers: readonly ControllerDefinition[];
  config?: Partial<ControllersConfig>;
  /** Whether a pod ever becomes ready. Default: all do. */
  becomesReady?: (pod: Pod) => boolean;
  /** False leaves pods alone. */
  runPods?: boolean;
  /** What controllers see instead of the API itself. */
  wrap?: (api: SimulatedApi) => Api;
};

const STEP_MS = 50;
/** A pod takes up to so long to become ready, and to go. */
const MAX_START_MS = 3000;

export function simulate(options: SimulationOptions): Simulation {
  const { seed, controllers, becomesReady = () => true, runPods = true } = options;
  const random = seededRandom(seed);
  const clock = manualClock(Date.UTC(2026, 0, 1));
  const api = simulateApi({ clock, random });
  const stopping = new AbortController();
  const { signal } = stopping;
  const seen = options.wrap?.(api) ?? api;
  const informers = createInformers(seen, { signal, clock, random, freeze: true });
  const recorder = listRecorder();
  if (runPods) runPodsOn({ api, clock, random, signal, becomesReady });
  const runs = controllers.map((definition) =>
    definition.run({
      api: seen,
      informers,
      recorderOf: (): EventRecorder => recorder,
      config: { ...defaultControllersConfig, ...options.config },
      log: silentLog,
      signal,
      clock,
      random,
    }),
  );
  const advance = async (ms: number): Promise<void> => {
    for (let passed = 0; passed < ms; passed += STEP_MS) await clock.advance(STEP_MS);
  };
  return {
    api,
    clock,
    random,
    informers,
    said: recorder.said,
    advance,
    async until(test, what, limitMs = 120_000) {
      for (let passed = 0; passed < limitMs; passed += STEP_MS) {
        if (test()) return;
        await clock.advance(STEP_MS);
      }
      throw new Error(`not within ${limitMs} ms (seed ${seed}): ${what}`);
    },
    async stop() {
      stopping.abort(new Error('the simulation is over'));
      await Promise.allSettled(runs);
      await informers.done();
    },
  };
}

type Agent = {
  api: SimulatedApi;
  clock: ManualClock;
  random: Random;
  signal: AbortSignal;
  becomesReady: (pod: Pod) => boolean;
};

/** Binds each pod, makes it ready after a while, and removes it a while after its deletion. */
function runPodsOn(agent: Agent): void {
  const { api, random, becomesReady } = agent;
  api.onCommit(({ type, resource, object }) => {
    if (resource.resource !== 'pods' || type === 'DELETED') return;
    const pod = object as Pod;
    const key = { namespace: pod.metadata.namespace, name: pod.metadata.name ?? '' };
    if (pod.metadata.deletionTimestamp) {
      after(agent, () => api.delete(pods, key, { gracePeriodSeconds: 0 }));
    } else if (!pod.spec.nodeName) {
      const nodeName = targetNode(pod) || `node-${randomInt(random, 3)}`;
      after(agent, () => api.patch(pods, key, { type: 'merge', body: { spec: { nodeName } } }), 1);
    } else if (!pod.status?.phase && becomesReady(pod)) {
      after(agent, () => becomeReady(agent, key));
    }
  });
}

function becomeReady({ api, clock }: Agent, key: ObjectKey): Promise<unknown> {
  const time = formatTime(clock.now());
  const condition = { type: 'Ready', status: 'True', lastTransitionTime: time };
  const status = { phase: 'Running', startTime: time, conditions: [condition] };
  const patch = { type: 'merge', body: { status } } as const;
  return api.patch(pods, key, patch, { subresource: 'status' });
}

/** The pod may have gone in the meantime, which is its right. */
function after(agent: Agent, act: () => Promise<unknown>, maxMs = MAX_START_MS): void {
  const { clock, random, signal } = agent;
  clock.sleep(randomInt(random, maxMs), { signal }).then(
    () => act().catch(() => {}),
    () => {},
  );
}
