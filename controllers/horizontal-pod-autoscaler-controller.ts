import { errorText } from '#base/log.ts';
import { parseLabelSelector } from '#api/labels.ts';
import type { HorizontalPodAutoscaler, Pod, Scale } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { cacheOf, keyText, runController } from '#client/controller.ts';
import { discover } from '#client/discovery.ts';
import type { Informer } from '#client/informer.ts';
import { deployments, horizontalPodAutoscalers, pods, replicaSets } from '#client/resources.ts';
import { readMetrics } from '#controllers/autoscaler-custom-metrics.ts';
import { emptyHistory, type ScaleHistory } from '#controllers/autoscaler-limits.ts';
import {
  type AutoscalerPlan,
  type AutoscalerWorld,
  planAutoscaler,
  statusAction,
} from '#controllers/autoscaler-plan.ts';
import { isOfResources, readUses } from '#controllers/autoscaler-resource-metrics.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

/** Scales workloads by what their pods use. */
export const horizontalPodAutoscalerController: ControllerDefinition = {
  name: 'horizontal-pod-autoscaler-controller',
  async run(setup) {
    const { api, informers, config, signal } = setup;
    const cache = informers.of(horizontalPodAutoscalers);
    const podCache = informers.of(pods);
    const histories = new Map<string, ScaleHistory>();
    const plans = new WeakMap<AutoscalerWorld, AutoscalerPlan>();
    const targets = new Targets(api, signal);

    await runController<AutoscalerWorld>(
      {
        name: 'horizontal-pod-autoscaler-controller',
        workers: 5,
        caches: [cacheOf(horizontalPodAutoscalers, cache), cacheOf(pods, podCache)],
        triggers(add) {
          // Its own status writes must not make it look again before the period is over.
          cache.onChange((change) => {
            const { object } = change;
            const isOurs = change.type === 'updated' && sameSpec(change.old, object);
            if (!isOurs) add(keyText(object));
          });
        },
        async observe(key) {
          const autoscaler = cache.get(key);
          const text = `${key.namespace}/${key.name}`;
          if (!autoscaler) {
            histories.delete(text);
            return undefined;
          }
          const history = histories.get(text) ?? emptyHistory;
          return observe(autoscaler, { api, podCache, targets, history, signal });
        },
        plan(world, now) {
          const plan = planAutoscaler(world, now);
          plans.set(world, plan);
          histories.set(keyText(world.autoscaler), plan.history);
          return {
            actions: plan.actions,
            requeueAfterMs: config.horizontalPodAutoscalerSyncPeriodMs,
          };
        },
        report(world, outcome, now) {
          const plan = plans.get(world);
          if (!plan) return [];
          const [first] = outcome.failures;
          const failure = first && errorText(first.error);
          return statusAction(world.autoscaler, plan.draft, { failure, now });
        },
      },
      { ...setup, recorder: setup.recorderOf('horizontal-pod-autoscaler') },
    );
  },
};

function sameSpec(a: HorizontalPodAutoscaler, b: HorizontalPodAutoscaler): boolean {
  return JSON.stringify(a.spec) === JSON.stringify(b.spec);
}

type ObserveOptions = {
  api: Api;
  podCache: Informer<Pod>;
  targets: Targets;
  history: ScaleHistory;
  signal: AbortSignal;
};

async function observe(
  autoscaler: HorizontalPodAutoscaler,
  { api, podCache, targets, history, signal }: ObserveOptions,
): Promise<AutoscalerWorld> {
  const none: Omit<AutoscalerWorld, 'target'> = {
    autoscaler,
    pods: [],
    readings: [],
    usesOf: () => ({ error: 'the target is not known' }),
    history,
  };
  const namespace = autoscaler.metadata.namespace ?? '';
  try {
    const target = await targets.read(autoscaler, namespace);
    const selector = target.scale.status?.selector ?? '';
    if (selector === '') return { ...none, target };
    const matcher = parseLabelSelector(selector);
    const selected = podCache
      .list(namespace)
      .filter((pod) => matcher.matches(pod.metadata.labels ?? {}));
    const scope = { namespace, selector, signal };
    const specs = autoscaler.spec?.metrics ?? [];
    // Metrics of pods are asked for once, also when several metrics need them, or none does.
    const usesOf = specs.some(isOfResources) ? await readUses(api, scope) : none.usesOf;
    const kindNamed = (group: string, kind: string) => targets.find(group, kind);
    const readings = await readMetrics(api, specs, { ...scope, kindNamed });
    return { ...none, target, pods: selected, usesOf, readings };
  } catch (error) {
    signal.throwIfAborted();
    return { ...none, target: { error: errorText(error) } };
  }
}

/** Finds and reads what autoscalers point at. */
class Targets {
  readonly #api: Api;
  readonly #signal: AbortSignal;
  readonly #known = new Map<string, Resource>([
    ['apps/Deployment', deployments as Resource],
    ['apps/ReplicaSet', replicaSets as Resource],
  ]);

  constructor(api: Api, signal: AbortSignal) {
    this.#api = api;
    this.#signal = signal;
  }

  async read(
    autoscaler: HorizontalPodAutoscaler,
    namespace: string,
  ): Promise<{ resource: Resource; scale: Scale }> {
    const reference = autoscaler.spec?.scaleTargetRef;
    if (!reference) throw new Error('spec.scaleTargetRef is not set');
    const { kind, name, apiVersion = '' } = reference;
    const group = apiVersion.includes('/') ? (apiVersion.split('/')[0] ?? '') : '';
    const resource = await this.find(group, kind);
    const options = { subresource: 'scale', signal: this.#signal };
    const scale = (await this.#api.get(resource, { namespace, name }, options)) as Scale;
    return { resource, scale };
  }

  async find(group: string, kind: string): Promise<Resource> {
    const name = `${group}/${kind}`;
    const known = this.#known.get(name);
    if (known) return known;
    const { resources } = await discover(this.#api, { signal: this.#signal });
    for (const one of resources) this.#known.set(`${one.group}/${one.kind}`, one);
    const found = this.#known.get(name);
    if (!found) throw new Error(`no matches for kind "${kind}" in group "${group}"`);
    return found;
  }
}
