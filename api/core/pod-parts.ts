import { qosClassOf } from '#api/core/pod-qos.ts';
import { validatePod } from '#api/core/pod-validate.ts';
import { forbidden, invalid } from '#api/field-error.ts';
import type { Subresource } from '#api/kind.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { Container, KubeObject, Pod, PodSpec } from '#api/types.ts';
import { type Errors, sameMeaning } from '#api/validate.ts';

/**
 * The parts of a running pod that change through subresources of their own only.
 * Source: KEP-277 (ephemeral containers), KEP-1287 (in-place resize).
 */
const VERBS = ['get', 'patch', 'update'] as const;

/** Debug containers are added, never changed or taken away. */
export const EPHEMERAL_CONTAINERS: Subresource = {
  type: 'handler',
  verbs: VERBS,
  prepareForUpdate(object, stored) {
    const [pod, old] = [object as Pod, stored as Pod];
    const wanted = pod.spec.ephemeralContainers;
    const { ephemeralContainers: _, ...spec } = old.spec;
    finish(pod, old, wanted?.length ? { ...spec, ephemeralContainers: wanted } : spec);
  },
  validateUpdate: (object, stored) => [
    ...validatePod(object as Pod),
    ...checkEphemeralUpdate(object as Pod, stored as Pod),
  ],
};

function checkEphemeralUpdate(pod: Pod, old: Pod): Errors {
  const now = new Map((pod.spec.ephemeralContainers ?? []).map((one) => [one.name, one]));
  return (old.spec.ephemeralContainers ?? []).flatMap((before) => {
    const after = now.get(before.name);
    if (after && sameMeaning(after, before)) return [];
    const what = after ? 'changed' : 'removed';
    const rule = `existing ephemeral containers ${JSON.stringify(before.name)} may not be ${what}\n`;
    return [forbidden('spec.ephemeralContainers', rule)];
  });
}

/** CPU and memory of containers, within the pod's quality-of-service class. */
export const RESIZE: Subresource = {
  type: 'handler',
  verbs: VERBS,
  prepareForUpdate(object, stored) {
    const [pod, old] = [object as Pod, stored as Pod];
    // What comes, goes or moves is refused, not dropped.
    if (KINDS_OF_LIST.some((list) => lengthOf(pod, list) !== lengthOf(old, list))) return;
    const { resources } = pod.spec;
    const { resources: _, ...spec } = old.spec;
    finish(pod, old, {
      ...spec,
      containers: resized(pod.spec.containers, old.spec.containers),
      ...(old.spec.initContainers
        ? { initContainers: resized(pod.spec.initContainers ?? [], old.spec.initContainers) }
        : {}),
      ...(resources ? { resources } : {}),
    });
  },
  validateUpdate: (object, stored) => [
    ...validatePod(object as Pod),
    ...checkResize(object as Pod, stored as Pod),
  ],
};

const KINDS_OF_LIST = ['containers', 'initContainers'] as const;

const lengthOf = ({ spec }: Pod, list: (typeof KINDS_OF_LIST)[number]): number =>
  spec[list]?.length ?? 0;

/**
 * The stored containers with the wanted resources and resize policies; nothing else counts. Those
 * with other names are left for validation to refuse.
 */
function resized(wanted: readonly Container[], stored: readonly Container[]): Container[] {
  if (wanted.some(({ name }, i) => name !== stored[i]?.name)) return [...wanted];
  return stored.map((old, i) => {
    const now = wanted[i];
    const { resources: _, resizePolicy: __, ...others } = old;
    return {
      ...others,
      ...(now?.resources ? { resources: now.resources } : {}),
      ...(now?.resizePolicy ? { resizePolicy: now.resizePolicy } : {}),
    };
  });
}

/** No container may come, go, move or take another name by a resize. */
function checkOrder(pod: Pod, old: Pod): Errors {
  return KINDS_OF_LIST.flatMap((list) => {
    if (lengthOf(pod, list) !== lengthOf(old, list)) {
      return [forbidden(`spec.${list}`, `${list} may not be added or removed on resize`)];
    }
    const rule = `${list} may not be renamed or reordered on resize`;
    return (old.spec[list] ?? []).flatMap(({ name }, i) =>
      pod.spec[list]?.[i]?.name === name ? [] : [forbidden(`spec.${list}[${i}].name`, rule)],
    );
  });
}

function checkResize(pod: Pod, old: Pod): Errors {
  const errors: Errors = [];
  if (old.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) {
    return [forbidden('', 'static pods cannot be resized')];
  }
  if (qosClassOf(pod.spec) !== qosClassOf(old.spec)) {
    const rule = 'Pod QOS Class may not change as a result of resizing';
    errors.push(invalid('spec', old.status?.qosClass ?? qosClassOf(old.spec), rule));
  }
  const moved = checkOrder(pod, old);
  if (moved.length > 0) return [...errors, ...moved];
  for (const list of KINDS_OF_LIST) {
    const before = new Map((old.spec[list] ?? []).map((one) => [one.name, one]));
    for (const [i, container] of (pod.spec[list] ?? []).entries()) {
      const stored = before.get(container.name);
      if (stored) checkRemoved(errors, `spec.${list}[${i}].resources`, container, stored);
    }
  }
  if (!sameMeaning(withoutResizable(pod.spec), withoutResizable(old.spec))) {
    errors.push(forbidden('spec', 'only cpu and memory resources are mutable'));
  }
  return errors;
}

const RESIZABLE = ['cpu', 'memory'] as const;
const LISTS = ['requests', 'limits'] as const;

/** What a running container was promised or bound to can change, not disappear. */
function checkRemoved(errors: Errors, path: string, now: Container, before: Container): void {
  for (const list of LISTS) {
    for (const resource of RESIZABLE) {
      if (before.resources?.[list]?.[resource] === undefined) continue;
      if (now.resources?.[list]?.[resource] !== undefined) continue;
      errors.push(forbidden(`${path}.${list}`, `resource ${list} cannot be removed`));
      break;
    }
  }
}

/** The spec but for what a resize may change. */
function withoutResizable(spec: PodSpec): PodSpec {
  const strip = (container: Container): Container => {
    const { resources = {}, resizePolicy: _, ...others } = container;
    const left = { ...resources };
    for (const list of LISTS) {
      const { cpu: __, memory: ___, ...amounts } = resources[list] ?? {};
      if (Object.keys(amounts).length > 0) left[list] = amounts;
      else delete left[list];
    }
    return { ...others, resources: left };
  };
  const { resources: _, initContainers, ...others } = spec;
  return {
    ...others,
    containers: spec.containers.map(strip),
    ...(initContainers ? { initContainers: initContainers.map(strip) } : {}),
  };
}

/** Puts the allowed spec in place; a change of it is a new generation. */
function finish(pod: Pod, old: Pod, spec: PodSpec): void {
  const changed = !sameMeaning(spec, old.spec);
  pod.spec = spec;
  keepStatus(pod as KubeObject, old as KubeObject);
  if (changed) pod.metadata.generation = (old.metadata.generation ?? 0) + 1;
}
