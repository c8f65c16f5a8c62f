import { errorText } from '#base/log.ts';
import { parseLabelSelector } from '#api/labels.ts';
import { parseQuantity, quantityMilli } from '#api/quantity.ts';
import { parseTime } from '#api/time.ts';
import type { HorizontalPodAutoscaler, KubeObject, Pod, Scale } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { cacheOf, keyText, runController } from '#client/controller.ts';
import { discover } from '#client/discovery.ts';
import type { Informer } from '#client/informer.ts';
import { deployments, horizontalPodAutoscalers, pods, replicaSets } from '#client/resources.ts';
import { emptyHistory, type ScaleHistory } from '#controllers/autoscaler-limits.ts';
import {
  type AutoscalerPlan,
  type AutoscalerWorld,
  planAutoscaler,
  statusAction,
} from '#controllers/autoscaler-plan.ts';
import type { PodUse, Uses } from '#controllers/autoscaler-replicas.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

type PodMetrics = KubeObject & {
  timestamp?: string;
  window?: string;
  containers?: { name: string; usage?: Record<string, string> }[];
};

const podMetrics: Resource<PodMetrics> = {
  group: 'metrics.k8s.io',
  version: 'v1beta1',
  resource: 'pods',
  kind: 'PodMetrics',
  namespaced: true,
};

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
  const none: Pick<AutoscalerWorld, 'autoscaler' | 'pods' | 'usesOf' | 'history'> = {
    autoscaler,
    pods: [],
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
    const usesOf = await readUses(api, { namespace, selector, signal });
    return { ...none, target, pods: selected, usesOf };
  } catch (error) {
    signal.throwIfAborted();
    return { ...none, target: { error: errorText(error) } };
  }
}

/** Reads the metrics once; the answer serves every metric of the autoscaler. */
async function readUses(
  api: Api,
  at: { namespace: string; selector: string; signal: AbortSignal },
): Promise<AutoscalerWorld['usesOf']> {
  const { namespace, selector: labelSelector, signal } = at;
  const prefix = (resource: string): string => `unable to get metrics for resource ${resource}: `;
  try {
    const { items } = await api.list(podMetrics, { namespace, labelSelector, signal });
    if (items.length > 0) return (resource, container) => usesIn(items, resource, container);
    return (resource) => ({
      error: `${prefix(resource)}no metrics returned from resource metrics API`,
    });
  } catch (error) {
    signal.throwIfAborted();
    const why = `unable to fetch metrics from resource metrics API: ${errorText(error)}`;
    return (resource) => ({ error: `${prefix(resource)}${why}` });
  }
}

/** A pod of which one container is not measured is not measured. */
function usesIn(items: readonly PodMetrics[], resource: string, container?: string): Uses {
  const uses = new Map<string, PodUse>();
  for (const { metadata, containers = [], timestamp = '', window = '' } of items) {
    const counted = container ? containers.filter((c) => c.name === container) : containers;
    const amounts = counted.map((c) => c.usage?.[resource]);
    const known = amounts.filter((amount) => amount !== undefined);
    if (known.length === 0 || known.length < amounts.length) continue;
    const milli = known.reduce((sum, text) => sum + quantityMilli(parseQuantity(text)), 0);
    const timestampMs = parseTime(timestamp) || 0;
    uses.set(metadata.name ?? '', { milli, timestampMs, windowMs: durationMs(window) });
  }
  return uses;
}

/** Go's duration text: `15s`, `1m30s`, `30.2s`. */
function durationMs(text: string): number {
  const unit = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 } as const;
  let sum = 0;
  for (const [, number, name] of text.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g)) {
    sum += Number(number) * unit[name as keyof typeof unit];
  }
  return sum;
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
    const resource = await this.#find(group, kind);
    const options = { subresource: 'scale', signal: this.#signal };
    const scale = (await this.#api.get(resource, { namespace, name }, options)) as Scale;
    return { resource, scale };
  }

  async #find(group: string, kind: string): Promise<Resource> {
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
