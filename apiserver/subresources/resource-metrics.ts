import { parseLabelSelector } from '#api/labels.ts';
import type { NodeMetrics, PodMetrics, Usage } from '#api/metrics/resource-usage.ts';
import { notFoundError } from '#api/status.ts';
import type { KubeObject, Node, Pod } from '#api/types.ts';
import type { HandlerContext, HandlerRequest, SubresourceHandler } from './handler.ts';
import { NodeSummaries, type NodeSummary, type Sample } from './node-summary.ts';

const GROUP = 'metrics.k8s.io';
const API_VERSION = 'metrics.k8s.io/v1beta1';
/** containerd samples cpu over its collection period. */
const WINDOW = '10s';

const summariesOf = new WeakMap<HandlerContext, NodeSummaries>();

function summaries(context: HandlerContext): NodeSummaries {
  let known = summariesOf.get(context);
  if (!known) {
    known = new NodeSummaries(context.clock, context.nodeClient);
    summariesOf.set(context, known);
  }
  return known;
}

/** `kubectl top nodes`: what each node says of itself. */
export const nodeMetricsHandler: SubresourceHandler = {
  group: GROUP,
  resource: 'nodes',
  subresource: '',
  async handle(context, request) {
    const selected = context.reader
      .list<Node>('', 'nodes')
      .filter((node) => isAskedFor(node, request));
    const measured = await Promise.all(
      selected.map(async (node) => nodeMetricsOf(node, await summaries(context).of(node))),
    );
    return answer(request, 'NodeMetrics', measured);
  },
};

/** `kubectl top pods`, and what the HorizontalPodAutoscaler reads. */
export const podMetricsHandler: SubresourceHandler = {
  group: GROUP,
  resource: 'pods',
  subresource: '',
  async handle(context, request) {
    const { namespace } = request.info;
    const selected = context.reader
      .list<Pod>('', 'pods', namespace || undefined)
      .filter((pod) => pod.spec.nodeName && isAskedFor(pod, request));
    const names = new Set(selected.map((pod) => pod.spec.nodeName ?? ''));
    const byUid = new Map<string, NodeSummary['pods'][number]>();
    await Promise.all(
      [...names].map(async (name) => {
        const node = context.reader.get<Node>('', 'nodes', { name });
        const summary = node ? await summaries(context).of(node) : null;
        for (const pod of summary?.pods ?? []) byUid.set(pod.podRef.uid, pod);
      }),
    );
    const measured = selected.map((pod) =>
      podMetricsOf(pod, byUid.get(pod.metadata.uid ?? '')?.containers ?? []),
    );
    return answer(request, 'PodMetrics', measured);
  },
};

function isAskedFor(object: KubeObject, { info }: HandlerRequest): boolean {
  if (info.name) return object.metadata.name === info.name;
  const selector = info.query.get('labelSelector');
  return !selector || parseLabelSelector(selector).matches(object.metadata.labels ?? {});
}

function nodeMetricsOf(node: Node, summary: NodeSummary | null): NodeMetrics | null {
  const usage = summary && usageOf(summary.node);
  if (!usage) return null;
  return {
    ...head('NodeMetrics', node),
    timestamp: usage.time,
    window: WINDOW,
    usage: usage.usage,
  };
}

/** Null until every container has been measured: half a pod would mislead an autoscaler. */
function podMetricsOf(
  pod: Pod,
  measured: readonly (Sample & { name: string })[],
): PodMetrics | null {
  const containers: PodMetrics['containers'] = [];
  let time = '';
  for (const sample of measured) {
    const usage = usageOf(sample);
    if (!usage) return null;
    containers.push({ name: sample.name, usage: usage.usage });
    time = usage.time;
  }
  if (containers.length === 0) return null;
  return { ...head('PodMetrics', pod), timestamp: time, window: WINDOW, containers };
}

function usageOf({ cpu, memory }: Sample): { time: string; usage: Usage } | null {
  if (cpu?.usageNanoCores === undefined || memory?.workingSetBytes === undefined) return null;
  return {
    time: cpu.time.replace(/\.\d+Z$/, 'Z'),
    usage: {
      cpu: `${Math.round(cpu.usageNanoCores)}n`,
      memory: `${Math.ceil(memory.workingSetBytes / 1024)}Ki`,
    },
  };
}

const head = (kind: string, { metadata }: KubeObject): KubeObject => ({
  apiVersion: API_VERSION,
  kind,
  metadata: {
    ...(metadata.name === undefined ? {} : { name: metadata.name }),
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
    ...(metadata.labels === undefined ? {} : { labels: metadata.labels }),
    ...(metadata.creationTimestamp === undefined
      ? {}
      : { creationTimestamp: metadata.creationTimestamp }),
  },
});

function answer(request: HandlerRequest, kind: string, measured: readonly (KubeObject | null)[]) {
  const known = measured.filter((object) => object !== null);
  const { name, namespace, resource } = request.info;
  if (!name) {
    return request.answer({
      kind: `${kind}List`,
      apiVersion: API_VERSION,
      metadata: {},
      items: known,
    });
  }
  const [only] = known;
  if (!only) {
    throw notFoundError({ group: GROUP, resource }, namespace ? `${namespace}/${name}` : name);
  }
  return request.answer(only);
}
