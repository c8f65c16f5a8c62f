import { checkAffinity, checkSpread, checkTolerations } from '#api/core/pod-validate-affinity.ts';
import {
  checkContainers,
  checkEphemeralContainers,
  checkImageSpaces,
  checkInitContainers,
} from '#api/core/pod-validate-containers.ts';
import { checkContainerResources, checkPodResources } from '#api/core/pod-validate-resources.ts';
import {
  checkHostProcess,
  checkOs,
  checkPodSecurityContext,
} from '#api/core/pod-validate-security.ts';
import { checkPodClaims, checkVolumes } from '#api/core/pod-validate-volumes.ts';
import { duplicate, forbidden, invalid, required } from '#api/field-error.ts';
import type { Container, ObjectMeta, Pod, PodSpec, PodTemplateSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  addInvalid,
  checkEnum,
  checkLabel,
  checkQualifiedName,
  checkRange,
  checkRequiredEnum,
  checkSubdomain,
  MAX_INT32,
} from '#api/validate.ts';
import { checkLabels } from '#api/validate-labels.ts';
import { checkAnnotations } from '#api/validate-meta.ts';
import { isDns1123SubdomainWithUnderscore } from '#api/validate-names.ts';
import { checkIp } from '#api/validate-network.ts';

const DNS_POLICIES = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];
const RESTART_POLICIES = ['Always', 'OnFailure', 'Never'];
const DEADLINE = [1, MAX_INT32] as const;

/**
 * A pod's spec, in upstream's order. `pod` is the metadata of a real pod, absent for templates.
 * Source: core/v1 PodSpec.
 */
export function checkPodSpec(
  errors: Errors,
  path: string,
  spec: PodSpec,
  pod: ObjectMeta | undefined,
): void {
  if (spec.terminationGracePeriodSeconds === undefined) {
    errors.push(required(`${path}.terminationGracePeriodSeconds`));
  }
  const volumes = checkVolumes(errors, `${path}.volumes`, spec, pod);
  const claims = checkPodClaims(errors, `${path}.resourceClaims`, spec);
  const hostUsers = spec.hostUsers ?? true;
  const surroundings = { spec, volumes, claims, hostUsers, standalone: pod !== undefined };
  checkContainers(errors, `${path}.containers`, surroundings);
  if (spec.initContainers) {
    checkInitContainers(errors, `${path}.initContainers`, surroundings);
  }
  if (spec.ephemeralContainers) {
    checkEphemeralContainers(errors, `${path}.ephemeralContainers`, surroundings);
  }
  checkPodResources(errors, `${path}.resources`, spec);
  if (spec.hostNetwork) checkHostNetwork(errors, path, spec, pod !== undefined);
  checkRequiredEnum(errors, `${path}.restartPolicy`, spec.restartPolicy, RESTART_POLICIES);
  checkRequiredEnum(errors, `${path}.dnsPolicy`, spec.dnsPolicy, DNS_POLICIES);
  if (spec.nodeSelector) checkLabels(errors, `${path}.nodeSelector`, spec.nodeSelector);
  if (spec.securityContext) {
    checkPodSecurityContext(errors, `${path}.securityContext`, spec.securityContext, spec);
  }
  if (spec.affinity) checkAffinity(errors, `${path}.affinity`, spec.affinity);
  checkDnsConfig(errors, `${path}.dnsConfig`, spec);
  for (const [i, gate] of (spec.readinessGates ?? []).entries()) {
    const at = `${path}.readinessGates[${i}].conditionType`;
    checkQualifiedName(errors, at, gate.conditionType ?? '');
  }
  checkSchedulingGates(errors, `${path}.schedulingGates`, spec);
  if (spec.topologySpreadConstraints) {
    checkSpread(errors, `${path}.topologySpreadConstraints`, spec.topologySpreadConstraints);
  }
  const containers = located(spec, path);
  checkHostProcess(errors, path, spec, containers);
  if (!hostUsers) checkOwnUsers(errors, path, spec, containers);
  checkNames(errors, path, spec);
  checkOs(errors, path, spec, containers);
}

function checkNames(errors: Errors, path: string, spec: PodSpec): void {
  if (spec.serviceAccountName) {
    checkSubdomain(errors, `${path}.serviceAccountName`, spec.serviceAccountName);
  }
  if (spec.nodeName) checkSubdomain(errors, `${path}.nodeName`, spec.nodeName);
  if (spec.activeDeadlineSeconds !== undefined) {
    checkRange(errors, `${path}.activeDeadlineSeconds`, spec.activeDeadlineSeconds, DEADLINE);
  }
  if (spec.hostname) checkLabel(errors, `${path}.hostname`, spec.hostname);
  if (spec.subdomain) checkLabel(errors, `${path}.subdomain`, spec.subdomain);
  if (spec.tolerations) checkTolerations(errors, `${path}.tolerations`, spec.tolerations);
  for (const [i, alias] of (spec.hostAliases ?? []).entries()) {
    const at = `${path}.hostAliases[${i}]`;
    checkIp(errors, `${at}.ip`, alias.ip ?? '');
    for (const [j, hostname] of (alias.hostnames ?? []).entries()) {
      checkSubdomain(errors, `${at}.hostnames[${j}]`, hostname);
    }
  }
  if (spec.priorityClassName) {
    checkSubdomain(errors, `${path}.priorityClassName`, spec.priorityClassName);
  }
  if (spec.runtimeClassName !== undefined) {
    checkSubdomain(errors, `${path}.runtimeClassName`, spec.runtimeClassName);
  }
  if (spec.preemptionPolicy !== undefined) {
    checkRequiredEnum(errors, `${path}.preemptionPolicy`, spec.preemptionPolicy, [
      'PreemptLowerPriority',
      'Never',
    ]);
  }
  if (spec.overhead) {
    checkContainerResources(
      errors,
      `${path}.overhead`,
      { limits: spec.overhead },
      new Set<string>(),
    );
  }
}

/** On the node's network, a container's port is the node's. */
function checkHostNetwork(errors: Errors, path: string, spec: PodSpec, standalone: boolean): void {
  for (const [i, container] of (spec.containers ?? []).entries()) {
    for (const [j, { hostPort = 0, containerPort }] of (container.ports ?? []).entries()) {
      if ((standalone || hostPort !== 0) && hostPort !== containerPort) {
        errors.push(
          invalid(
            `${path}.containers[${i}].ports[${j}].hostPort`,
            hostPort,
            'must match `containerPort` when `hostNetwork` is true',
          ),
        );
      }
    }
  }
}

/** Devices cannot be shown with other owners, as mounts can. Source: core/v1 PodSpec, hostUsers. */
function checkOwnUsers(
  errors: Errors,
  path: string,
  spec: PodSpec,
  containers: ReturnType<typeof located>,
): void {
  const rule = 'when `hostUsers` is false';
  if (spec.hostNetwork) errors.push(forbidden(`${path}.hostNetwork`, rule));
  if (spec.hostPID) errors.push(forbidden(`${path}.HostPID`, rule));
  if (spec.hostIPC) errors.push(forbidden(`${path}.HostIPC`, rule));
  for (const { path: at, container } of containers)
    if (container.volumeDevices?.length) errors.push(forbidden(`${at}.volumeDevices`, rule));
}

const MAX_NAMESERVERS = 3;
const MAX_SEARCHES = 32;
const MAX_SEARCH_CHARACTERS = 2048;

/** The limits are those of the C library's resolver. Source: core/v1 PodDNSConfig. */
function checkDnsConfig(errors: Errors, path: string, spec: PodSpec): void {
  const { dnsConfig: config, dnsPolicy } = spec;
  if (dnsPolicy === 'None' && !config) {
    errors.push(required(path, 'must provide `dnsConfig` when `dnsPolicy` is None'));
    return;
  }
  if (!config) return;
  const { nameservers = [], searches = [], options = [] } = config;
  if (dnsPolicy === 'None' && nameservers.length === 0) {
    const rule = 'must provide at least one DNS nameserver when `dnsPolicy` is None';
    errors.push(required(`${path}.nameservers`, rule));
    return;
  }
  if (nameservers.length > MAX_NAMESERVERS) {
    const rule = `must not have more than ${MAX_NAMESERVERS} nameservers`;
    errors.push(invalid(`${path}.nameservers`, nameservers, rule));
  }
  for (const [i, server] of nameservers.entries()) {
    checkIp(errors, `${path}.nameservers[${i}]`, server);
  }
  if (searches.length > MAX_SEARCHES) {
    const rule = `must not have more than ${MAX_SEARCHES} search paths`;
    errors.push(invalid(`${path}.searches`, searches, rule));
  }
  if (searches.join(' ').length > MAX_SEARCH_CHARACTERS) {
    const rule = `must not have more than ${MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list`;
    errors.push(invalid(`${path}.searches`, searches, rule));
  }
  for (const [i, search] of searches.entries()) {
    if (search === '.') continue;
    const name = search.replace(/\.$/, '');
    addInvalid(errors, `${path}.searches[${i}]`, name, isDns1123SubdomainWithUnderscore(name));
  }
  for (const [i, option] of options.entries()) {
    if (!option.name) errors.push(required(`${path}.options[${i}]`, 'must not be empty'));
  }
}

function checkSchedulingGates(errors: Errors, path: string, spec: PodSpec): void {
  const seen = new Set<string>();
  for (const [i, { name = '' }] of (spec.schedulingGates ?? []).entries()) {
    checkQualifiedName(errors, `${path}[${i}]`, name);
    if (seen.has(name)) errors.push(duplicate(`${path}[${i}]`, name));
    seen.add(name);
  }
}

/** Every container with its path, in the order in which upstream visits them. */
export function located(spec: PodSpec, path: string): { container: Container; path: string }[] {
  const lists = ['initContainers', 'containers', 'ephemeralContainers'] as const;
  return lists.flatMap((list) =>
    ((spec[list] ?? []) as Container[]).map((container, i) => ({
      container,
      path: `${path}.${list}[${i}]`,
    })),
  );
}

const APP_ARMOR = 'container.apparmor.security.beta.kubernetes.io/';
const SECCOMP_POD = 'seccomp.security.alpha.kubernetes.io/pod';
const SECCOMP_CONTAINER = 'container.seccomp.security.alpha.kubernetes.io/';
const DELETION_COST = 'controller.kubernetes.io/pod-deletion-cost';
const MIRROR = 'kubernetes.io/config.mirror';

/** Annotations that mean something to pods. */
export function checkPodAnnotations(
  errors: Errors,
  path: string,
  annotations: Readonly<Record<string, string>> | undefined,
  spec: PodSpec,
): void {
  if (!annotations) return;
  const mirror = annotations[MIRROR];
  if (mirror !== undefined && !spec.nodeName) {
    const rule = 'must set spec.nodeName if mirror pod annotation is set';
    errors.push(invalid(`${path}[${MIRROR}]`, mirror, rule));
  }
  const cost = annotations[DELETION_COST];
  if (cost !== undefined && !isInt32(cost)) {
    errors.push(invalid(`${path}[${DELETION_COST}]`, cost, 'must be a 32bit integer'));
  }
  for (const key of Object.keys(annotations)) {
    const value = annotations[key] ?? '';
    if (key === SECCOMP_POD || key.startsWith(SECCOMP_CONTAINER)) {
      checkSeccompName(errors, `${path}.${key}`, value);
    }
  }
  for (const key of Object.keys(annotations)) {
    if (!key.startsWith(APP_ARMOR)) continue;
    const name = key.slice(APP_ARMOR.length);
    const value = annotations[key] ?? '';
    if (!located(spec, '').some(({ container }) => container.name === name)) {
      errors.push(invalid(`${path}[${key}]`, name, 'container not found'));
    }
    if (!/^($|runtime\/default$|unconfined$|localhost\/)/.test(value)) {
      const rule = `invalid AppArmor profile name: ${JSON.stringify(value)}`;
      errors.push(invalid(`${path}[${key}]`, value, rule));
    }
  }
}

const isInt32 = (text: string): boolean =>
  /^[+-]?\d+$/.test(text) && Number(text) <= MAX_INT32 && Number(text) >= -MAX_INT32 - 1;

function checkSeccompName(errors: Errors, path: string, profile: string): void {
  if (['runtime/default', 'docker/default', 'unconfined'].includes(profile)) return;
  if (!profile.startsWith('localhost/')) {
    errors.push(invalid(path, profile, 'must be a valid seccomp profile'));
  }
}

/** A pod, new or changed. */
export function validatePod(pod: Pod): Errors {
  const errors: Errors = [];
  checkPodAnnotations(errors, 'metadata.annotations', pod.metadata.annotations, pod.spec);
  checkPodSpec(errors, 'spec', pod.spec, pod.metadata);
  if (!pod.spec.serviceAccountName) {
    for (const [i, volume] of (pod.spec.volumes ?? []).entries()) {
      for (const [j, source] of (volume.projected?.sources ?? []).entries()) {
        if (!source.serviceAccountToken) continue;
        errors.push(
          forbidden(
            `spec.volumes[${i}].projected.sources[${j}].serviceAccountToken`,
            'must not be specified when serviceAccountName is not set',
          ),
        );
      }
    }
  }
  for (const list of ['containers', 'initContainers'] as const) {
    for (const [i, container] of (pod.spec[list] ?? []).entries()) {
      checkImageSpaces(errors, `spec.${list}[${i}]`, container);
    }
  }
  return errors;
}

/** Rules of creation alone. */
export function validateNewPod(pod: Pod): Errors {
  const errors: Errors = [];
  if (pod.spec.ephemeralContainers?.length) {
    errors.push(forbidden('spec.ephemeralContainers', 'cannot be set on create'));
  }
  if (pod.spec.nodeName && pod.spec.schedulingGates?.length) {
    const rule = 'cannot be set until all schedulingGates have been cleared';
    errors.push(forbidden('spec.nodeName', rule));
  }
  return errors;
}

/** Source: core/v1 PodTemplateSpec. */
export function checkPodTemplate(errors: Errors, path: string, template: PodTemplateSpec): void {
  const { labels, annotations } = template.metadata ?? {};
  const spec = template.spec ?? ({ containers: [] } as PodSpec);
  if (labels) checkLabels(errors, `${path}.labels`, labels);
  if (annotations) checkAnnotations(errors, `${path}.annotations`, annotations);
  checkPodAnnotations(errors, `${path}.annotations`, annotations, spec);
  checkPodSpec(errors, `${path}.spec`, spec, undefined);
  if (spec.ephemeralContainers?.length) {
    errors.push(
      forbidden(
        `${path}.spec.ephemeralContainers`,
        'ephemeral containers not allowed in pod template',
      ),
    );
  }
}

/** Templates of controllers that keep pods running. */
export function checkRestartAlways(errors: Errors, path: string, spec: PodSpec | undefined): void {
  const policy = spec?.restartPolicy ?? '';
  checkEnum(errors, `${path}.spec.restartPolicy`, policy, ['Always']);
}
