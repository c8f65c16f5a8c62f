import { forbiddenError } from '#api/status.ts';
import type { Namespace, Pod, RuntimeClass } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';
import { isMirrorPod, isPod, PODS } from '#apiserver/admission-pods.ts';

const LABEL = 'gantry.dev/isolation';
/** The class that such pods get, and the handler that makes any class one of microVMs. */
const MICROVM = 'microvm';

/**
 * In a namespace labelled `gantry.dev/isolation: microvm` every pod is a microVM: it gets the class
 * where it names none, and is refused with a class that runs containers.
 */
export const microvmIsolation: AdmissionRule = {
  name: 'MicroVMIsolation',
  // Mirror pods only show what a node runs by itself.
  handles: (request) =>
    request.operation === 'CREATE' && isPod(request) && !isMirrorPod(request.object as Pod),
  mutate(request, { reader }) {
    const { namespace: name } = request;
    const namespace = reader.get<Namespace>('', 'namespaces', { name });
    const level = namespace?.metadata.labels?.[LABEL];
    if (level === undefined) return;
    const refuse = (why: string) =>
      forbiddenError(PODS, request.name, `namespace ${name} is labelled ${LABEL}=${level}: ${why}`);
    if (level !== MICROVM) throw refuse(`the only isolation that can be required is ${MICROVM}`);
    const { spec } = request.object as Pod;
    const chosen = spec.runtimeClassName;
    if (!chosen) {
      spec.runtimeClassName = MICROVM;
      return;
    }
    const found = reader.get<RuntimeClass>('node.k8s.io', 'runtimeclasses', { name: chosen });
    // One that does not exist is refused by the rule of runtime classes.
    if (found && found.handler !== MICROVM)
      throw refuse(
        `spec.runtimeClassName "${chosen}" runs containers; leave it out or use "${MICROVM}"`,
      );
  },
};
