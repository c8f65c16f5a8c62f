import { checkAnnotationUpdate } from '#api/core/pod-update.ts';
import { duplicate, forbidden, invalid } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { ContainerStatus, KubeObject, Pod } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkImmutable, checkQualifiedName } from '#api/validate.ts';
import { nameIsDnsSubdomain } from '#api/validate-names.ts';
import { checkIp, ipFamily, isDualStack } from '#api/validate-network.ts';

const SYSTEM_CONDITIONS = ['PodScheduled', 'Ready', 'Initialized'];

/** A status write leaves the spec, the owners and the quality of service alone. */
export function preparePodStatus(object: KubeObject, stored: KubeObject): void {
  const pod = object as unknown as Pod;
  const old = stored as unknown as Pod;
  pod.spec = old.spec;
  if (old.metadata.ownerReferences) pod.metadata.ownerReferences = old.metadata.ownerReferences;
  else delete pod.metadata.ownerReferences;
  pod.status ??= {};
  if (!pod.status.qosClass && old.status?.qosClass) pod.status.qosClass = old.status.qosClass;
  // The single address and the list say the same thing.
  if (pod.status.podIP && !pod.status.podIPs?.length)
    pod.status.podIPs = [{ ip: pod.status.podIP }];
  if (pod.status.podIPs?.[0] && !pod.status.podIP) pod.status.podIP = pod.status.podIPs[0].ip;
}

/** Source: core/v1 PodStatus. */
export function validatePodStatusUpdate(object: KubeObject, stored: KubeObject): Errors {
  const pod = object as unknown as Pod;
  const old = stored as unknown as Pod;
  const errors: Errors = [];
  const status = pod.status ?? {};
  checkAnnotationUpdate(errors, pod, old);
  for (const [i, { type }] of (status.conditions ?? []).entries()) {
    if (SYSTEM_CONDITIONS.includes(type)) continue;
    checkQualifiedName(errors, `metadata.conditions[${i}].Type`, type ?? '');
  }
  const nominated = status.nominatedNodeName;
  if (nominated && nominated !== old.status?.nominatedNodeName) {
    const problems = nameIsDnsSubdomain(nominated, false);
    addInvalid(errors, 'status.nominatedNodeName', nominated, problems);
  }
  checkImmutable(errors, 'status.qosClass', status.qosClass, old.status?.qosClass);
  checkStates(errors, pod, old);
  checkAddresses(errors, 'status.podIPs', status.podIPs);
  if (status.hostIPs?.length) {
    if (status.hostIP !== status.hostIPs[0]?.ip) {
      const path = 'status.hostIPs[0].ip';
      errors.push(invalid(path, status.hostIPs[0]?.ip, 'must be equal to `hostIP`'));
    }
    checkAddresses(errors, 'status.hostIPs', status.hostIPs);
  }
  return errors;
}

/** What has ended for good stays ended. */
function checkStates(errors: Errors, pod: Pod, old: Pod): void {
  const { restartPolicy = 'Always' } = old.spec;
  const all = [...old.spec.containers, ...(old.spec.initContainers ?? [])];
  const mayRestartAll = all.some(({ restartPolicyRules }) =>
    restartPolicyRules?.some(({ action }) => action === 'RestartAllContainers'),
  );
  if (mayRestartAll) return;
  const sidecars = new Set(
    (old.spec.initContainers ?? [])
      .filter((container) => container.restartPolicy === 'Always')
      .map(({ name }) => name),
  );
  const own = new Set(
    all
      .filter((container) => container.restartPolicy || container.restartPolicyRules?.length)
      .map(({ name }) => name),
  );
  const lists = [
    ['containerStatuses', restartPolicy],
    ['initContainerStatuses', restartPolicy],
    ['ephemeralContainerStatuses', 'Never'],
  ] as const;
  for (const [list, policy] of lists) {
    if (policy === 'Always') continue;
    const now = new Map((pod.status?.[list] ?? []).map((one) => [one.name, one]));
    for (const [i, before] of (old.status?.[list] ?? []).entries()) {
      const ended = before.state?.terminated;
      if (!ended || sidecars.has(before.name) || own.has(before.name)) continue;
      if (ended.exitCode !== 0 && policy === 'OnFailure') continue;
      if (restarted(now.get(before.name))) {
        const rule = 'may not be transitioned to non-terminated state';
        errors.push(forbidden(`status.${list}[${i}].state`, rule));
      }
    }
  }
}

const restarted = (status: ContainerStatus | undefined): boolean =>
  status !== undefined && !status.state?.terminated;

function checkAddresses(
  errors: Errors,
  path: string,
  addresses: readonly { ip: string }[] | undefined,
): void {
  const list = addresses ?? [];
  for (const [i, { ip }] of list.entries()) checkIp(errors, `${path}[${i}]`, ip ?? '');
  if (list.length < 2) return;
  if (!isDualStack(list.map(({ ip }) => ipFamily(ip))) || list.length > 2) {
    errors.push(
      invalid(path, internalForm('IP', list), 'may specify no more than one IP for each IP family'),
    );
  }
  const seen = new Set<string>();
  for (const [i, entry] of list.entries()) {
    if (seen.has(entry.ip)) errors.push(duplicate(`${path}[${i}]`, internalForm('IP', entry)));
    seen.add(entry.ip);
  }
}
