import type { Kind } from '#api/kind.ts';
import { conflictError, failure } from '#api/status.ts';
import type { KubeObject, Node, Pod } from '#api/types.ts';
import { preconditionError } from '#apiserver/resource/metadata.ts';
import type {
  HandlerContext,
  HandlerRequest,
  SubresourceHandler,
} from '#apiserver/subresources/handler.ts';

type Binding = KubeObject & { target?: { kind?: string; name?: string } };

const BINDING = { group: '', resource: 'pods/binding' } as const;
/** Copied from the node, so that a pod can ask for them by the downward API. */
const TOPOLOGY_LABELS = ['topology.kubernetes.io/zone', 'topology.kubernetes.io/region'] as const;

/**
 * `pods/NAME/binding`: the scheduler puts a pod on a node. Source: core/v1 Binding, KEP-4742.
 * StatusError 409 when the pod has a node already, is going away or may not be scheduled yet.
 */
export const podBinding: SubresourceHandler = {
  group: '',
  resource: 'pods',
  subresource: 'binding',
  async handle(context, request) {
    return bind(context, request, await request.body<Binding>(), request.info.name);
  },
};

/** The older form: a Binding is created in the namespace, its name is the pod's. */
export const bindings: SubresourceHandler = {
  group: '',
  resource: 'bindings',
  subresource: '',
  async handle(context, request) {
    const binding = await request.body<Binding>();
    return bind(context, request, binding, binding.metadata.name ?? '');
  },
};

async function bind(
  context: HandlerContext,
  request: HandlerRequest,
  binding: Binding,
  name: string,
) {
  const { namespace } = request.info;
  const node = checkTarget(binding);
  const pods = context.scheme.byResource('', 'v1', 'pods');
  if (!pods) throw new Error('the scheme has no pods');
  binding.metadata = { ...binding.metadata, name, namespace };
  const object = binding;
  const write = {
    operation: 'CREATE',
    kind: pods,
    subresource: 'binding',
    namespace,
    name,
  } as const;
  await context.admit({ ...write, object, as: request.as });
  const labels = context.reader.get<Node>('', 'nodes', { name: node })?.metadata.labels ?? {};
  const nowText = `${new Date(context.clock.now()).toISOString().slice(0, 19)}Z`;
  await context.resources.modify<Pod>(
    pods,
    { namespace, name },
    (pod) => {
      checkPod(pods, pod, binding);
      pod.spec.nodeName = node;
      if (binding.metadata.annotations) {
        pod.metadata.annotations = { ...pod.metadata.annotations, ...binding.metadata.annotations };
      }
      for (const label of TOPOLOGY_LABELS) {
        const value = labels[label];
        if (value !== undefined) pod.metadata.labels = { ...pod.metadata.labels, [label]: value };
      }
      markScheduled(pod, nowText);
    },
    { ...request.as, subresource: 'binding' },
  );
  return request.answer(SUCCESS, 201);
}

/** What subresources answer whose result is nothing but that it worked. */
export const SUCCESS = {
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Success',
  code: 201,
} as const;

function checkTarget({ target }: Binding): string {
  const kind = target?.kind ?? '';
  if (kind !== '' && kind !== 'Node') {
    const what = `Unsupported value: ${JSON.stringify(kind)}: supported values: "Node", "<empty>"`;
    throw failure(500, '', `target.kind: ${what}`);
  }
  if (!target?.name) throw failure(500, '', 'target.name: Required value');
  return target.name;
}

function checkPod(pods: Kind, pod: Pod, binding: Binding): void {
  const { name = '', uid, deletionTimestamp, resourceVersion } = pod.metadata;
  const wanted = binding.metadata;
  if (wanted.uid && wanted.uid !== uid) {
    const why = `UID in precondition: ${wanted.uid}, UID in object meta: ${uid}`;
    throw preconditionError(pods, pod, why);
  }
  if (wanted.resourceVersion && wanted.resourceVersion !== resourceVersion) {
    const why = `ResourceVersion in precondition: ${wanted.resourceVersion}, ResourceVersion in object meta: ${resourceVersion}`;
    throw preconditionError(pods, pod, why);
  }
  if (deletionTimestamp) {
    const why = `pod ${name} is being deleted, cannot be assigned to a host`;
    throw conflictError(BINDING, name, why);
  }
  if (pod.spec.nodeName) {
    const why = `pod ${name} is already assigned to node ${JSON.stringify(pod.spec.nodeName)}`;
    throw conflictError(BINDING, name, why);
  }
  if (pod.spec.schedulingGates?.length) {
    throw conflictError(BINDING, name, `pod ${name} has non-empty .spec.schedulingGates`);
  }
}

type Condition = NonNullable<NonNullable<Pod['status']>['conditions']>[number];

function markScheduled(pod: Pod, nowText: string): void {
  const conditions = pod.status?.conditions ?? [];
  const before = conditions.find((one) => one.type === 'PodScheduled');
  const since = before?.status === 'True' ? before.lastTransitionTime : nowText;
  setCondition(pod, {
    type: 'PodScheduled',
    status: 'True',
    lastProbeTime: null,
    lastTransitionTime: since ?? nowText,
  });
}

/** Replaces the condition of the same type or adds it. Probe time is null as it always was. */
export function setCondition(
  pod: Pod,
  condition: Omit<Condition, 'lastProbeTime'> & { lastProbeTime: null },
): void {
  const written = condition as unknown as Condition;
  const conditions = pod.status?.conditions ?? [];
  const found = conditions.some((one) => one.type === condition.type);
  pod.status = {
    ...pod.status,
    conditions: found
      ? conditions.map((one) => (one.type === condition.type ? written : one))
      : [...conditions, written],
  };
}
