import { BASELINE_CHECKS } from '#apiserver/pod-security/baseline.ts';
import type { LevelVersion } from '#apiserver/pod-security/policy.ts';
import { RESTRICTED_CHECKS } from '#apiserver/pod-security/restricted.ts';
import type { Subject } from '#apiserver/pod-security/subjects.ts';

/** What a pod does that a level forbids: `privileged (container "c" must not …)`. */
export type Violation = { reason: string; detail: string };

/** One rule of a level. Source: Kubernetes "Pod Security Standards", one heading each. */
export type Check = {
  id: string;
  /** First minor version that has it. */
  since: number;
  /** Baseline checks that this one takes the place of. */
  replaces?: string;
  find(subject: Subject, minor: number): Violation | undefined;
};

/** Everything that a level forbids and the pod does, in the order in which it is told. */
export function violationsOf(subject: Subject, { level, minor }: LevelVersion): Violation[] {
  if (level === 'privileged') return [];
  const inForce = ({ since }: Check): boolean => since <= minor;
  const restricted = level === 'restricted' ? RESTRICTED_CHECKS.filter(inForce) : [];
  const replaced = new Set(restricted.map(({ replaces }) => replaces));
  const baseline = BASELINE_CHECKS.filter((check) => inForce(check) && !replaced.has(check.id));
  return [...baseline, ...restricted].flatMap((check) => check.find(subject, minor) ?? []);
}

/** `privileged (…), hostPort (…)`. */
export const violationText = (violations: readonly Violation[]): string =>
  violations.map(({ reason, detail }) => (detail ? `${reason} (${detail})` : reason)).join(', ');
