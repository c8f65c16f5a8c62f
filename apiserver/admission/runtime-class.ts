import { compareQuantity, parseQuantity } from '#api/quantity.ts';
import { forbiddenError } from '#api/status.ts';
import type { Pod, RuntimeClass } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isPod, PODS } from '#apiserver/admission-pods.ts';

/**
 * Gives a pod the overhead, node selector and tolerations of its runtime class.
 * Source: Kubernetes "Runtime Class", KEP-585 and KEP-688.
 */
export const runtimeClass: AdmissionRule = {
  name: 'RuntimeClass',
  handles: (request) => request.operation === 'CREATE' && isPod(request),
  mutate(request, context) {
    const found = classOf(request, context);
    if (!found) return;
    setOverhead(request, found);
    setScheduling(request, found);
  },
  validate(request, context) {
    const { spec } = request.object as Pod;
    const podFixed = classOf(request, context)?.overhead?.podFixed;
    if (podFixed) {
      if (!sameAmounts(podFixed, spec.overhead)) throw otherOverhead(request);
    } else if (Object.keys(spec.overhead ?? {}).length > 0) {
      throw rejected(
        request,
        'pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead',
      );
    }
  },
};

function classOf(request: AdmissionRequest, context: AdmissionContext): RuntimeClass | undefined {
  const name = (request.object as Pod).spec.runtimeClassName;
  if (!name) return undefined;
  const found = context.reader.get<RuntimeClass>('node.k8s.io', 'runtimeclasses', { name });
  if (!found) throw rejected(request, `pod rejected: RuntimeClass "${name}" not found`);
  return found;
}

function setOverhead(request: AdmissionRequest, found: RuntimeClass): void {
  const podFixed = found.overhead?.podFixed;
  if (!podFixed) return;
  const { spec } = request.object as Pod;
  const given = Object.keys(spec.overhead ?? {}).length > 0;
  if (given && !sameAmounts(podFixed, spec.overhead)) throw otherOverhead(request);
  if (!given) spec.overhead = { ...podFixed };
}

function setScheduling(request: AdmissionRequest, found: RuntimeClass): void {
  const { spec } = request.object as Pod;
  const wanted = Object.entries(found.scheduling?.nodeSelector ?? {});
  for (const [key, value] of wanted.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const own = spec.nodeSelector?.[key];
    if (own !== undefined && own !== value) {
      const why = `conflict: runtimeClass.scheduling.nodeSelector[${key}] = ${value}; pod.spec.nodeSelector[${key}] = ${own}`;
      throw rejected(request, why);
    }
    spec.nodeSelector = { ...spec.nodeSelector, [key]: value };
  }
  const present = new Set((spec.tolerations ?? []).map((one) => JSON.stringify(sorted(one))));
  for (const toleration of found.scheduling?.tolerations ?? []) {
    const text = JSON.stringify(sorted(toleration));
    if (present.has(text)) continue;
    present.add(text);
    spec.tolerations = [...(spec.tolerations ?? []), { ...toleration }];
  }
}

const sorted = (value: object): [string, unknown][] =>
  Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));

type Amounts = Readonly<Record<string, string>>;

function sameAmounts(a: Amounts, b: Amounts | undefined): boolean {
  const names = Object.keys(a);
  if (names.length !== Object.keys(b ?? {}).length) return false;
  return names.every((name) => {
    const [left, right] = [a[name], b?.[name]];
    if (left === undefined || right === undefined) return false;
    return compareQuantity(parseQuantity(left), parseQuantity(right)) === 0;
  });
}

const otherOverhead = (request: AdmissionRequest) =>
  rejected(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");

const rejected = (request: AdmissionRequest, why: string) =>
  forbiddenError(PODS, request.name, why);
