import { matchesLabels } from '#api/labels.ts';
import type { Kind } from '#api/kind.ts';
import { badRequestError, failure, forbiddenError, type StatusError } from '#api/status.ts';
import type { KubeObject, LabelSelector, Pod } from '#api/types.ts';
import type {
  DeleteOptions,
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
} from '#apiserver/subresources/handler.ts';
import { setCondition, SUCCESS } from '#apiserver/subresources/pod-binding.ts';

type Eviction = KubeObject & { deleteOptions?: DeleteOptions };
type Budget = KubeObject & {
  spec?: { selector?: LabelSelector; unhealthyPodEvictionPolicy?: string };
  status?: {
    observedGeneration?: number;
    disruptionsAllowed?: number;
    currentHealthy?: number;
    desiredHealthy?: number;
    disruptedPods?: Record<string, string>;
  };
};

const GROUP = 'policy';
const BUDGETS = { group: GROUP, resource: 'poddisruptionbudgets' } as const;
const REFUSED = "Cannot evict pod as it would violate the pod's disruption budget.";
/** Evictions that the disruption controller has not seen yet; more mean that it does not run. */
const MAX_DISRUPTED_PODS = 2000;
/** The controller needs about this long to look at a changed budget. */
const RETRY_SECONDS = 10;

/**
 * `pods/NAME/eviction`: deletes a pod if its disruption budget allows, and counts it.
 * StatusError 429 when it does not. Source: policy/v1 Eviction, "API-initiated Eviction".
 */
export const podEviction: SubresourceHandler = {
  group: '',
  resource: 'pods',
  subresource: 'eviction',
  async handle(context, request) {
    const eviction = await request.body<Eviction>();
    const { name, namespace } = request.info;
    if (eviction.metadata.name !== name) {
      throw badRequestError('name in URL does not match name in Eviction object');
    }
    const deletion = eviction.deleteOptions ?? {};
    const dryRun = request.as.dryRun === true || (deletion.dryRun?.length ?? 0) > 0;
    const as = { ...request.as, dryRun };
    const evicted: HandlerRequest = { ...request, as };
    const pod = await context.resources.get<Pod>(request.kind, { namespace, name });
    const write = { operation: 'CREATE', kind: request.kind, subresource: 'eviction' } as const;
    await context.admit({ ...write, namespace, name, object: eviction, as });
    if (!goesAnyway(pod)) await takeFromBudget(context, evicted, pod);
    await markEvicted(context, evicted);
    const { uid } = pod.metadata;
    const preconditions = { ...(uid ? { uid } : {}), ...deletion.preconditions };
    await context.resources.delete(
      request.kind,
      { namespace, name },
      { ...deletion, preconditions },
      as,
    );
    return request.answer(SUCCESS, 201);
  },
};

/** Pods that do no work are no loss. */
function goesAnyway(pod: Pod): boolean {
  const phase = pod.status?.phase;
  return (
    phase === 'Succeeded' ||
    phase === 'Failed' ||
    phase === 'Pending' ||
    pod.metadata.deletionTimestamp !== undefined
  );
}

async function takeFromBudget(
  context: HandlerContext,
  request: HandlerRequest,
  pod: Pod,
): Promise<void> {
  const kind = context.scheme.byResource(GROUP, 'v1', 'poddisruptionbudgets');
  if (!kind) return;
  const { namespace = '', name = '', labels = {} } = pod.metadata;
  const budgets = context.reader
    .list<Budget>(GROUP, 'poddisruptionbudgets', namespace)
    .filter(({ spec }) => spec?.selector && matchesLabels(spec.selector, labels));
  const [budget, another] = budgets;
  if (another) {
    throw failure(
      500,
      '',
      'This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.',
    );
  }
  if (!budget || (!isReady(pod) && mayGoUnhealthy(budget))) return;
  await countDown(context, request, kind, { namespace, name: budget.metadata.name ?? '' }, name);
}

const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True') === true;

/** A pod that is not ready does not count as healthy, so it costs no budget. */
function mayGoUnhealthy({ spec, status }: Budget): boolean {
  if (spec?.unhealthyPodEvictionPolicy === 'AlwaysAllow') return true;
  const { currentHealthy = 0, desiredHealthy = 0 } = status ?? {};
  return desiredHealthy > 0 && currentHealthy >= desiredHealthy;
}

async function countDown(
  context: HandlerContext,
  request: HandlerRequest,
  kind: Kind,
  key: { namespace: string; name: string },
  pod: string,
): Promise<void> {
  const nowText = `${new Date(context.clock.now()).toISOString().slice(0, 19)}Z`;
  await context.resources.modify<Budget>(
    kind,
    key,
    (budget) => {
      checkBudget(budget);
      const status = (budget.status ??= {});
      status.disruptionsAllowed = (status.disruptionsAllowed ?? 0) - 1;
      status.disruptedPods = { ...status.disruptedPods, [pod]: nowText };
    },
    { ...request.as, subresource: 'status' },
  );
}

function checkBudget({ metadata, status = {} }: Budget): void {
  const name = metadata.name ?? '';
  if ((status.observedGeneration ?? 0) < (metadata.generation ?? 0)) {
    const why = `The disruption budget ${name} is still being processed by the server.`;
    throw refused(why, RETRY_SECONDS);
  }
  const allowed = status.disruptionsAllowed ?? 0;
  if (allowed < 0) throw forbiddenError(BUDGETS, name, 'pdb disruptions allowed is negative');
  if (Object.keys(status.disruptedPods ?? {}).length > MAX_DISRUPTED_PODS) {
    const why = 'DisruptedPods map too big - too many evictions not confirmed by PDB controller';
    throw forbiddenError(BUDGETS, name, why);
  }
  if (allowed > 0) return;
  const { desiredHealthy = 0, currentHealthy = 0 } = status;
  const why = `The disruption budget ${name} needs ${desiredHealthy} healthy pods and has ${currentHealthy} currently`;
  throw refused(why);
}

const refused = (message: string, retryAfterSeconds?: number): StatusError =>
  failure(429, 'TooManyRequests', REFUSED, {
    causes: [{ reason: 'DisruptionBudget', message }],
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });

/** So that a Job's failure policy, and a reader, can tell an eviction from a crash. */
async function markEvicted(context: HandlerContext, request: HandlerRequest): Promise<void> {
  const { namespace, name } = request.info;
  const nowText = `${new Date(context.clock.now()).toISOString().slice(0, 19)}Z`;
  await context.resources.modify<Pod>(
    request.kind,
    { namespace, name },
    (pod) =>
      setCondition(pod, {
        type: 'DisruptionTarget',
        status: 'True',
        reason: 'EvictionByEvictionAPI',
        message: 'Eviction API: evicting',
        lastProbeTime: null,
        lastTransitionTime: nowText,
      }),
    { ...request.as, subresource: 'status' },
  );
}
