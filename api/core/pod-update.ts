import { checkImageSpaces } from '#api/core/pod-validate-containers.ts';
import { forbidden, invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { Container, Pod, PodSpec, Toleration } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { inRange, MAX_INT32, sameMeaning } from '#api/validate.ts';

const UPDATABLE = [
  '`spec.containers[*].image`',
  '`spec.initContainers[*].image`',
  '`spec.activeDeadlineSeconds`',
  '`spec.tolerations` (only additions to existing tolerations)',
  '`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)',
].join(',');

const APP_ARMOR = 'container.apparmor.security.beta.kubernetes.io/';
const MIRROR = 'kubernetes.io/config.mirror';

/** What may change about a pod after its creation. Source: "Pod update" in the documentation. */
export function validatePodUpdate(pod: Pod, old: Pod): Errors {
  const errors: Errors = [];
  checkAnnotationUpdate(errors, pod, old);
  for (const list of ['containers', 'initContainers'] as const) {
    if (!checkContainerUpdate(errors, `spec.${list}`, pod.spec[list] ?? [], old.spec[list] ?? [])) {
      return errors;
    }
  }
  if (!checkDeadline(errors, pod.spec, old.spec)) return errors;
  checkTolerationUpdate(errors, pod.spec.tolerations ?? [], old.spec.tolerations ?? []);
  checkGateUpdate(errors, pod.spec, old.spec);
  if (sameMeaning(pod.spec, old.spec)) return errors;
  const allowed = withAllowedChanges(errors, pod.spec, old.spec);
  const different = differingFields(allowed, old.spec);
  if (different.length > 0) {
    errors.push(
      forbidden(
        'spec',
        `pod updates may not change fields other than ${UPDATABLE}\n${different.join('\n')}`,
      ),
    );
  }
  return errors;
}

/** Annotations that the agent has acted on stay as they are. */
export function checkAnnotationUpdate(errors: Errors, pod: Pod, old: Pod): void {
  const now = pod.metadata.annotations ?? {};
  const before = old.metadata.annotations ?? {};
  for (const key of Object.keys(before)) {
    if (now[key] === before[key]) continue;
    const path = `metadata.annotations[${key}]`;
    if (key.startsWith(APP_ARMOR)) {
      errors.push(forbidden(path, 'may not remove or update AppArmor annotations'));
    }
    if (key === MIRROR) {
      errors.push(forbidden(path, 'may not remove or update mirror pod annotation'));
    }
  }
  for (const key of Object.keys(now)) {
    if (before[key] !== undefined) continue;
    const path = `metadata.annotations[${key}]`;
    if (key.startsWith(APP_ARMOR)) errors.push(forbidden(path, 'may not add AppArmor annotations'));
    if (key === MIRROR) errors.push(forbidden(path, 'may not add mirror pod annotation'));
  }
}

/** False when nothing further can be said. */
function checkContainerUpdate(
  errors: Errors,
  path: string,
  now: readonly Container[],
  before: readonly Container[],
): boolean {
  if (now.length !== before.length) {
    errors.push(forbidden(path, 'pod updates may not add or remove containers'));
    return false;
  }
  for (const [i, container] of now.entries()) {
    if (!container.image) errors.push(required(`${path}[${i}].image`));
    checkImageSpaces(errors, `${path}[${i}]`, container);
  }
  return true;
}

/** A deadline may appear or come nearer. */
function checkDeadline(errors: Errors, now: PodSpec, before: PodSpec): boolean {
  const path = 'spec.activeDeadlineSeconds';
  const { activeDeadlineSeconds: wanted } = now;
  const { activeDeadlineSeconds: stored } = before;
  if (wanted === undefined) {
    if (stored !== undefined) {
      const rule = 'must not update from a positive integer to nil value';
      errors.push(invalid(path, null, rule));
    }
    return true;
  }
  if (wanted < 0 || wanted > MAX_INT32) {
    errors.push(invalid(path, wanted, inRange(0, MAX_INT32)));
    return false;
  }
  if (stored !== undefined && stored < wanted) {
    errors.push(invalid(path, wanted, 'must be less than or equal to previous value'));
    return false;
  }
  return true;
}

function checkTolerationUpdate(
  errors: Errors,
  now: readonly Toleration[],
  before: readonly Toleration[],
): void {
  const bare = (toleration: Toleration) => ({ ...toleration, tolerationSeconds: undefined });
  const kept = before.every((old) => now.some((one) => sameMeaning(bare(one), bare(old))));
  if (!kept) {
    const rule = 'existing toleration can not be modified except its tolerationSeconds';
    errors.push(forbidden('spec.tolerations', rule));
  }
}

function checkGateUpdate(errors: Errors, now: PodSpec, before: PodSpec): void {
  const known = new Set((before.schedulingGates ?? []).map(({ name }) => name));
  for (const [i, { name }] of (now.schedulingGates ?? []).entries()) {
    if (known.has(name)) continue;
    errors.push(
      forbidden(
        `spec.schedulingGates[${i}].name`,
        `only deletion is allowed, but found new scheduling gate '${name}'`,
      ),
    );
  }
}

/** The wanted spec with everything that may change put back, to be compared with the stored. */
function withAllowedChanges(errors: Errors, now: PodSpec, before: PodSpec): PodSpec {
  const result: PodSpec = { ...now };
  const images = (list: readonly Container[] = [], stored: readonly Container[] = []) =>
    list.map((container, i) => withImage(container, stored[i]?.image));
  result.containers = images(now.containers, before.containers);
  if (now.initContainers) {
    result.initContainers = images(now.initContainers, before.initContainers);
  }
  copy(result, before, 'activeDeadlineSeconds');
  copy(result, before, 'schedulingGates');
  copy(result, before, 'tolerations');
  if ((before.terminationGracePeriodSeconds ?? 0) < 0 && now.terminationGracePeriodSeconds === 1) {
    copy(result, before, 'terminationGracePeriodSeconds');
  }
  if (before.schedulingGates?.length) putBackPlacement(errors, result, before);
  return result;
}

function withImage(container: Container, image: string | undefined): Container {
  const { image: _, ...others } = container;
  return image === undefined ? others : { ...others, image };
}

function copy<Field extends keyof PodSpec>(to: PodSpec, from: PodSpec, field: Field): void {
  if (from[field] === undefined) delete to[field];
  else to[field] = from[field];
}

/** While gated, where a pod may go can be narrowed further. Source: KEP-3838. */
function putBackPlacement(errors: Errors, result: PodSpec, before: PodSpec): void {
  const path = 'spec';
  if (!sameMeaning(result.nodeSelector, before.nodeSelector)) {
    for (const [key, value] of Object.entries(before.nodeSelector ?? {})) {
      if (result.nodeSelector?.[key] !== value) {
        const rule = 'only additions to spec.nodeSelector are allowed (no mutations or deletions)';
        errors.push(invalid(`${path}.nodeSelector`, result.nodeSelector ?? null, rule));
        break;
      }
    }
    copy(result, before, 'nodeSelector');
  }
  const wanted = result.affinity?.nodeAffinity;
  const stored = before.affinity?.nodeAffinity;
  if (sameMeaning(wanted, stored)) return;
  checkNodeAffinityUpdate(errors, `${path}.affinity.nodeAffinity`, wanted, stored);
  const { nodeAffinity: _, ...others } = result.affinity ?? {};
  if (stored) result.affinity = { ...others, nodeAffinity: stored };
  else if (before.affinity || Object.keys(others).length > 0) result.affinity = others;
  else delete result.affinity;
}

type NodeAffinity = NonNullable<NonNullable<PodSpec['affinity']>['nodeAffinity']>;
const REQUIRED = 'requiredDuringSchedulingIgnoredDuringExecution';

/** Terms are alternatives, so none may come; requirements of a term may. */
function checkNodeAffinityUpdate(
  errors: Errors,
  path: string,
  now: NodeAffinity | undefined,
  before: NodeAffinity | undefined,
): void {
  const stored = before?.[REQUIRED];
  if (!stored) return;
  const at = `${path}.${REQUIRED}`;
  const wanted = now?.[REQUIRED];
  const terms = wanted?.nodeSelectorTerms ?? [];
  if (!wanted || terms.length !== stored.nodeSelectorTerms.length) {
    const rule = 'no additions/deletions to non-empty NodeSelectorTerms list are allowed';
    errors.push(invalid(`${at}.nodeSelectorTerms`, internalForm('NodeSelectorTerm', terms), rule));
    return;
  }
  for (const [i, old] of stored.nodeSelectorTerms.entries()) {
    const term = terms[i] ?? {};
    const isEmpty = !old.matchExpressions?.length && !old.matchFields?.length;
    const grown = (['matchExpressions', 'matchFields'] as const).every((field) =>
      (old[field] ?? []).every((requirement, j) => sameMeaning(term[field]?.[j], requirement)),
    );
    if ((isEmpty && !sameMeaning(term, old)) || !grown) {
      const rule = 'only additions are allowed (no mutations or deletions)';
      errors.push(
        invalid(`${at}.nodeSelectorTerms[${i}]`, internalForm('NodeSelectorTerm', term), rule),
      );
    }
  }
}

/** The fields that differ, one per line, with both values. */
function differingFields(now: PodSpec, before: PodSpec): string[] {
  const left = now as Record<string, unknown>;
  const right = before as Record<string, unknown>;
  const fields = [...new Set([...Object.keys(left), ...Object.keys(right)])].sort();
  return fields
    .filter((field) => !sameMeaning(left[field], right[field]))
    .map(
      (field) =>
        `spec.${field}: ${JSON.stringify(right[field] ?? null)} -> ${JSON.stringify(left[field] ?? null)}`,
    );
}
