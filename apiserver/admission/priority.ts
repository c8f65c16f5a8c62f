import { forbiddenError } from '#api/status.ts';
import type { Pod, PriorityClass } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isPod, PODS } from '#apiserver/admission-pods.ts';
import { SYSTEM_PRIORITY_CLASSES } from '#apiserver/bootstrap-objects.ts';

const GROUP = 'scheduling.k8s.io';
const CLASSES = { group: GROUP, resource: 'priorityclasses' } as const;

/**
 * Turns a pod's priority class into its priority and preemption policy; keeps one global default
 * and the system's classes. Source: Kubernetes "Pod Priority and Preemption".
 */
export const priority: AdmissionRule = {
  name: 'Priority',
  handles: (request) =>
    isPod(request)
      ? request.operation === 'CREATE' || request.operation === 'UPDATE'
      : request.kind.group === GROUP && request.kind.plural === 'priorityclasses',
  mutate(request, context) {
    if (!isPod(request)) return;
    if (request.operation === 'CREATE') setPriority(request, context);
    else keepPriority(request.object as Pod, request.oldObject as Pod | null);
  },
  validate(request, context) {
    if (!isPod(request)) checkClass(request, context);
  },
};

function setPriority(request: AdmissionRequest, { reader }: AdmissionContext): void {
  const { spec } = request.object as Pod;
  let found: PriorityClass | undefined;
  if (spec.priorityClassName) {
    found = reader.get<PriorityClass>(GROUP, 'priorityclasses', { name: spec.priorityClassName });
    if (!found) {
      const why = `no PriorityClass with name ${spec.priorityClassName} was found`;
      throw forbiddenError(PODS, request.name, why);
    }
  } else {
    found = globalDefault(reader.list<PriorityClass>(GROUP, 'priorityclasses'));
    if (found?.metadata.name) spec.priorityClassName = found.metadata.name;
  }
  const value = found?.value ?? 0;
  const policy = found?.preemptionPolicy ?? 'PreemptLowerPriority';
  const computed = 'must not be provided in pod spec; priority admission controller computed';
  const from = 'from the given PriorityClass name';
  if (spec.priority !== undefined && spec.priority !== value) {
    const why = `the integer value of priority (${spec.priority}) ${computed} ${value} ${from}`;
    throw forbiddenError(PODS, request.name, why);
  }
  if (spec.preemptionPolicy !== undefined && spec.preemptionPolicy !== policy) {
    const why = `the string value of PreemptionPolicy (${spec.preemptionPolicy}) ${computed} ${policy} ${from}`;
    throw forbiddenError(PODS, request.name, why);
  }
  spec.priority = value;
  spec.preemptionPolicy = policy;
}

/** Of several global defaults, which a race could leave behind, the lowest counts. */
function globalDefault(classes: readonly PriorityClass[]): PriorityClass | undefined {
  return classes
    .filter((one) => one.globalDefault === true)
    .reduce<PriorityClass | undefined>(
      (best, one) => (best === undefined || (one.value ?? 0) < (best.value ?? 0) ? one : best),
      undefined,
    );
}

/** A client that does not know the fields must not take them away. */
function keepPriority(pod: Pod, old: Pod | null): void {
  if (pod.spec.priority === undefined && old?.spec.priority !== undefined) {
    pod.spec.priority = old.spec.priority;
  }
  if (pod.spec.preemptionPolicy === undefined && old?.spec.preemptionPolicy !== undefined) {
    pod.spec.preemptionPolicy = old.spec.preemptionPolicy;
  }
}

function checkClass(request: AdmissionRequest, { reader }: AdmissionContext): void {
  const { operation, name } = request;
  if (operation === 'DELETE') {
    if ((SYSTEM_PRIORITY_CLASSES as readonly string[]).includes(name)) {
      const why = 'this is a system priority class and cannot be deleted';
      throw forbiddenError(CLASSES, name, why);
    }
    return;
  }
  if ((request.object as PriorityClass | null)?.globalDefault !== true) return;
  const other = globalDefault(reader.list<PriorityClass>(GROUP, 'priorityclasses'));
  if (!other || other.metadata.name === name) return;
  const why = `PriorityClass ${other.metadata.name} is already marked as default. Only one default can exist`;
  throw forbiddenError(CLASSES, name, why);
}
