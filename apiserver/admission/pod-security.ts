import { equalJson } from '#api/json.ts';
import { forbiddenError, invalidError } from '#api/status.ts';
import type { KubeObject, Namespace, Pod } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { PODS } from '#apiserver/admission-pods.ts';
import { violationsOf, violationText } from '#apiserver/pod-security/checks.ts';
import {
  isStricter,
  type LevelVersion,
  levelText,
  policyOf,
  validatePolicyLabels,
} from '#apiserver/pod-security/policy.ts';
import type { Subject } from '#apiserver/pod-security/subjects.ts';

/** Pods looked at when a namespace becomes stricter; the warning is a sample, not a census. */
const MAX_PODS_CHECKED = 3000;

/** Where workloads keep their pods' template. */
const TEMPLATE_PATHS: Readonly<Record<string, readonly string[]>> = {
  podtemplates: ['template'],
  replicationcontrollers: ['spec', 'template'],
  'replicasets.apps': ['spec', 'template'],
  'deployments.apps': ['spec', 'template'],
  'statefulsets.apps': ['spec', 'template'],
  'daemonsets.apps': ['spec', 'template'],
  'jobs.batch': ['spec', 'template'],
  'cronjobs.batch': ['spec', 'jobTemplate', 'spec', 'template'],
};

/**
 * Holds pods to the level that their namespace's labels ask for, and warns about workloads whose
 * pods would be refused. Source: Kubernetes "Pod Security Admission".
 */
export const podSecurity: AdmissionRule = {
  name: 'PodSecurity',
  handles: (request) => {
    if (request.operation !== 'CREATE' && request.operation !== 'UPDATE') return false;
    const name = resourceText(request);
    if (name === 'pods') return ['', 'ephemeralcontainers'].includes(request.subresource);
    return request.subresource === '' && (name === 'namespaces' || name in TEMPLATE_PATHS);
  },
  validate(request, context) {
    const name = resourceText(request);
    if (name === 'namespaces') checkNamespace(request, context);
    else if (name === 'pods') checkPod(request, context);
    else checkTemplate(request, context, TEMPLATE_PATHS[name] ?? []);
  },
};

const resourceText = ({ kind }: AdmissionRequest): string =>
  kind.group ? `${kind.plural}.${kind.group}` : kind.plural;

const labelsOf = (request: AdmissionRequest, { reader }: AdmissionContext) =>
  reader.get<Namespace>('', 'namespaces', { name: request.namespace })?.metadata.labels;

function checkPod(request: AdmissionRequest, context: AdmissionContext): void {
  const pod = request.object as Pod;
  const old = request.oldObject as Pod | null;
  if (old && !mattersForSecurity(pod, old)) return;
  const { enforce, audit, warn } = policyOf(labelsOf(request, context));
  request.annotate?.('pod-security.kubernetes.io/enforce-policy', levelText(enforce));
  noteViolations(request, pod, audit);
  const violations = violationsOf(pod, enforce);
  if (violations.length > 0) {
    const level = levelText(enforce);
    const why = `violates PodSecurity ${JSON.stringify(level)}: ${violationText(violations)}`;
    throw forbiddenError(PODS, request.name, why);
  }
  addWarning(request, pod, warn);
}

/** An update that keeps what the levels look at passes, whatever the namespace has become. */
function mattersForSecurity(pod: Pod, old: Pod): boolean {
  const fields = [
    'containers',
    'initContainers',
    'ephemeralContainers',
    'securityContext',
  ] as const;
  if (fields.some((field) => !equalJson(pod.spec[field], old.spec[field]))) return true;
  return !equalJson(appArmorOf(pod), appArmorOf(old));
}

const appArmorOf = ({ metadata }: Pod): [string, string][] =>
  Object.entries(metadata.annotations ?? {}).filter(([key]) => key.includes('apparmor'));

function checkTemplate(
  request: AdmissionRequest,
  context: AdmissionContext,
  path: readonly string[],
): void {
  let template: unknown = request.object;
  for (const field of path) template = (template as Record<string, unknown> | undefined)?.[field];
  const subject = template as Subject | undefined;
  if (!subject?.spec?.containers) return;
  const { audit, warn } = policyOf(labelsOf(request, context));
  noteViolations(request, subject, audit);
  addWarning(request, subject, warn);
}

/** What a level would have against a pod; '' for nothing. */
function objectionOf(subject: Subject, level: LevelVersion): string {
  const violations = violationsOf(subject, level);
  if (violations.length === 0) return '';
  const text = `would violate PodSecurity ${JSON.stringify(levelText(level))}`;
  return `${text}: ${violationText(violations)}`;
}

function addWarning(request: AdmissionRequest, subject: Subject, level: LevelVersion): void {
  const objection = objectionOf(subject, level);
  if (objection) request.warnings.push(objection);
}

function noteViolations(request: AdmissionRequest, subject: Subject, level: LevelVersion): void {
  const objection = request.annotate ? objectionOf(subject, level) : '';
  if (objection) request.annotate?.('pod-security.kubernetes.io/audit-violations', objection);
}

function checkNamespace(request: AdmissionRequest, context: AdmissionContext): void {
  const { name, object, oldObject } = request;
  const labels = object?.metadata.labels;
  const errors = validatePolicyLabels(labels);
  const before = new Set(validatePolicyLabels(oldObject?.metadata.labels).map(({ path }) => path));
  if (errors.some(({ path }) => !before.has(path))) {
    throw invalidError({ group: '', kind: 'Namespace' }, name, errors);
  }
  if (!oldObject) return;
  const { enforce } = policyOf(labels);
  const old = policyOf(oldObject.metadata.labels).enforce;
  const same = enforce.level === old.level && enforce.minor === old.minor;
  if (same || isStricter(old, enforce) || enforce.level === 'privileged') return;
  warnOfPods(request, context.reader.list<Pod>('', 'pods', name), enforce);
}

/** Pods that are there already stay; the user learns which would not be let in again. */
function warnOfPods(
  request: AdmissionRequest,
  pods: readonly (Pod & KubeObject)[],
  enforce: LevelVersion,
): void {
  const byReasons = new Map<string, string[]>();
  for (const pod of pods.slice(0, MAX_PODS_CHECKED)) {
    const reasons = violationsOf(pod, enforce)
      .map(({ reason }) => reason)
      .join(', ');
    if (!reasons) continue;
    const names = byReasons.get(reasons) ?? [];
    byReasons.set(reasons, [...names, pod.metadata.name ?? '']);
  }
  if (byReasons.size === 0) return;
  const level = JSON.stringify(levelText(enforce));
  const where = `existing pods in namespace ${JSON.stringify(request.name)}`;
  request.warnings.push(`${where} violate the new PodSecurity enforce level ${level}`);
  const lines = [...byReasons].map(([reasons, names]) => {
    const [first = '', ...others] = names.sort();
    const more =
      others.length === 0 ? '' : ` (and ${others.length} other pod${others.length > 1 ? 's' : ''})`;
    return `${first}${more}: ${reasons}`;
  });
  request.warnings.push(...lines.sort());
}
