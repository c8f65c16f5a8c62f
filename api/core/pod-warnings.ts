import { parseQuantity } from '#api/quantity.ts';
import type { KubeObject, ObjectMeta, Pod, PodSpec, PodTemplateSpec } from '#api/types.ts';
import { sameMeaning } from '#api/validate.ts';
import { isDns1123Label } from '#api/validate-names.ts';

/** What is accepted and yet hardly meant. Source: the deprecation notes of the API reference. */

type Container = PodSpec['containers'][number];
type Port = NonNullable<Container['ports']>[number];

/** Labels of nodes that have newer names. */
const OLD_LABELS: Readonly<Record<string, string>> = {
  'beta.kubernetes.io/arch': 'deprecated since v1.14; use "kubernetes.io/arch" instead',
  'beta.kubernetes.io/os': 'deprecated since v1.14; use "kubernetes.io/os" instead',
  'failure-domain.beta.kubernetes.io/region':
    'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
  'failure-domain.beta.kubernetes.io/zone':
    'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
  'beta.kubernetes.io/instance-type':
    'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
};

const APP_ARMOR = 'container.apparmor.security.beta.kubernetes.io/';
const OLD_ANNOTATIONS: Readonly<Record<string, string>> = {
  'scheduler.alpha.kubernetes.io/critical-pod':
    'non-functional in v1.16+; use the "priorityClassName" field instead',
  'seccomp.security.alpha.kubernetes.io/pod':
    'non-functional in v1.27+; use the "seccompProfile" field instead',
  'security.alpha.kubernetes.io/sysctls':
    'non-functional in v1.11+; use the "sysctls" field instead',
  'security.alpha.kubernetes.io/unsafe-sysctls':
    'non-functional in v1.11+; use the "sysctls" field instead',
};

/** Volumes of drivers that left the project. */
const OLD_VOLUMES = {
  photonPersistentDisk: 'non-functional in v1.16+',
  gitRepo: 'deprecated in v1.11, and disabled by default in v1.33+',
  scaleIO: 'deprecated in v1.16, non-functional in v1.22+',
  flocker: 'deprecated in v1.22, non-functional in v1.25+',
  storageos: 'deprecated in v1.22, non-functional in v1.25+',
  quobyte: 'deprecated in v1.22, non-functional in v1.25+',
  glusterfs: 'deprecated in v1.25, non-functional in v1.26+',
  cephfs: 'deprecated in v1.28, non-functional in v1.31+',
  rbd: 'deprecated in v1.28, non-functional in v1.31+',
} as const;

export function podWarnings(object: Pod, old: Pod | undefined): string[] {
  if (old && sameMeaning(object.spec, old.spec)) return [];
  const purpose = "this is used in the Pod's hostname, which";
  return [...(old ? [] : nameWarnings(object, purpose)), ...specWarnings('', object)];
}

/** For every kind that makes pods; `path` is that of the template. */
export function templateWarnings(
  path: string,
  template: PodTemplateSpec | undefined,
  old?: PodTemplateSpec,
): string[] {
  if (!template || (old && sameMeaning(template, old))) return [];
  return specWarnings(`${path}.`, template);
}

export function workloadWarnings<T extends KubeObject & { spec?: { template?: PodTemplateSpec } }>(
  object: T,
  old: T | undefined,
): string[] {
  return [
    ...(old ? [] : madePodsNameWarnings(object)),
    ...templateWarnings('spec.template', object.spec?.template, old?.spec?.template),
  ];
}

export const madePodsNameWarnings = (object: KubeObject): string[] =>
  nameWarnings(object, 'this is used in Pod names and hostnames, which');

function nameWarnings({ metadata }: KubeObject, purpose: string): string[] {
  const faults = isDns1123Label(metadata.name ?? '');
  if (faults.length === 0) return [];
  const advice = `can result in surprising behavior; a DNS label is recommended`;
  return [`metadata.name: ${purpose} ${advice}: [${faults.join(' ')}]`];
}

function specWarnings(
  path: string,
  { metadata, spec }: { metadata?: ObjectMeta; spec?: PodSpec },
): string[] {
  if (!spec) return [];
  const at = `${path}spec`;
  const found: string[] = [];
  warnOfOldLabels(found, at, spec);
  warnOfAnnotations(found, `${path}metadata.annotations`, metadata);
  for (const [i, volume] of (spec.volumes ?? []).entries()) {
    for (const [type, text] of Object.entries(OLD_VOLUMES)) {
      if (type in volume) found.push(`${at}.volumes[${i}].${type}: ${text}`);
    }
  }
  const addresses = new Set<string>();
  for (const [i, { ip }] of (spec.hostAliases ?? []).entries()) {
    if (addresses.has(ip)) found.push(`${at}.hostAliases[${i}].ip: duplicate ip "${ip}"`);
    addresses.add(ip);
  }
  warnOfPullSecrets(found, `${at}.imagePullSecrets`, spec);
  warnOfFractions(found, `${at}.overhead`, spec.overhead);
  for (const list of ['initContainers', 'containers'] as const) {
    for (const [i, container] of (spec[list] ?? []).entries()) {
      warnOfContainer(found, `${at}.${list}[${i}]`, container);
    }
  }
  warnOfPorts(found, at, spec);
  if ((spec.terminationGracePeriodSeconds ?? 0) < 0) {
    const text = 'must be >= 0; negative values are invalid and will be treated as 1';
    found.push(`${at}.terminationGracePeriodSeconds: ${text}`);
  }
  return found;
}

function warnOfOldLabels(found: string[], at: string, spec: PodSpec): void {
  for (const key of Object.keys(spec.nodeSelector ?? {})) {
    if (OLD_LABELS[key]) found.push(`${at}.nodeSelector[${key}]: ${OLD_LABELS[key]}`);
  }
  const { requiredDuringSchedulingIgnoredDuringExecution: needed, ...rest } =
    spec.affinity?.nodeAffinity ?? {};
  const affinity = `${at}.affinity.nodeAffinity`;
  const terms = [
    ...(needed?.nodeSelectorTerms ?? []).map((term, i) => ({
      term,
      path: `${affinity}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[${i}]`,
    })),
    ...(rest.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(({ preference }, i) => ({
      term: preference,
      path: `${affinity}.preferredDuringSchedulingIgnoredDuringExecution[${i}].preference`,
    })),
  ];
  for (const { term, path } of terms) {
    for (const [i, { key }] of (term?.matchExpressions ?? []).entries()) {
      if (!OLD_LABELS[key]) continue;
      found.push(`${path}.matchExpressions[${i}].key: ${key} is ${OLD_LABELS[key]}`);
    }
  }
  for (const [i, { topologyKey: key }] of (spec.topologySpreadConstraints ?? []).entries()) {
    const path = `${at}.topologySpreadConstraints[${i}].topologyKey`;
    if (OLD_LABELS[key]) found.push(`${path}: ${key} is ${OLD_LABELS[key]}`);
  }
}

function warnOfAnnotations(found: string[], at: string, metadata: ObjectMeta | undefined): void {
  const keys = Object.keys(metadata?.annotations ?? {});
  for (const key of keys.filter((one) => one.startsWith(APP_ARMOR)).sort()) {
    found.push(`${at}[${key}]: deprecated since v1.30; use the "appArmorProfile" field instead`);
  }
  for (const [key, text] of Object.entries(OLD_ANNOTATIONS)) {
    if (keys.includes(key)) found.push(`${at}[${key}]: ${text}`);
  }
}

function warnOfPullSecrets(found: string[], at: string, spec: PodSpec): void {
  const names = (spec.imagePullSecrets ?? []).map(({ name }) => name ?? '');
  for (const [i, name] of names.entries()) {
    if (names.indexOf(name) < i) found.push(`${at}[${i}].name: duplicate name "${name}"`);
  }
  for (const [i, name] of names.entries()) {
    if (name === '') found.push(`${at}[${i}].name: invalid empty name ""`);
  }
}

const BYTES = ['memory', 'ephemeral-storage', 'storage'] as const;

/** `100m` of memory is a tenth of a byte. */
export function warnOfFractions(
  found: string[],
  at: string,
  amounts: Readonly<Record<string, string>> | undefined,
): void {
  for (const name of BYTES) {
    const text = amounts?.[name];
    if (text === undefined || parseQuantity(text).nano % 1_000_000_000n === 0n) continue;
    const rule = `fractional byte value "${text}" is invalid, must be an integer`;
    found.push(`${at}[${name}]: ${rule}`);
  }
}

function warnOfContainer(found: string[], at: string, container: Container): void {
  warnOfFractions(found, `${at}.resources.limits`, container.resources?.limits);
  warnOfFractions(found, `${at}.resources.requests`, container.resources?.requests);
  const defined = new Set<string>();
  for (const [i, { name, value }] of (container.env ?? []).entries()) {
    // A value that builds on the earlier one hides nothing.
    if (defined.has(name) && !value?.includes(`$(${name})`)) {
      const text = `hides previous definition of "${name}", which may be dropped when using apply`;
      found.push(`${at}.env[${i}]: ${text}`);
    }
    defined.add(name);
  }
}

/** Ports of init containers are not open beside others'; those of containers all are. */
function warnOfPorts(found: string[], at: string, spec: PodSpec): void {
  const seen: { port: Port; path: string }[] = [];
  for (const [i, container] of spec.containers.entries()) {
    for (const [j, port] of (container.ports ?? []).entries()) {
      const path = `${at}.containers[${i}].ports[${j}]`;
      const same = seen.find((one) => isSamePort(one.port, port));
      if (same) found.push(`${path}: duplicate port definition with ${same.path}`);
      seen.push({ port, path });
    }
  }
}

const isSamePort = (a: Port, b: Port): boolean =>
  a.containerPort === b.containerPort &&
  a.protocol === b.protocol &&
  (a.hostPort ?? 0) === (b.hostPort ?? 0) &&
  (a.hostIP ?? '') === (b.hostIP ?? '');
