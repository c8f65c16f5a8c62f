import { checkEnv, checkEnvFrom } from '#api/core/pod-validate-env.ts';
import { checkRunningParts } from '#api/core/pod-validate-probes.ts';
import { checkContainerResources } from '#api/core/pod-validate-resources.ts';
import { checkSecurityContext } from '#api/core/pod-validate-security.ts';
import type { VolumesByName } from '#api/core/pod-validate-volumes.ts';
import { checkDescendingPath } from '#api/core/volume-paths.ts';
import {
  duplicate,
  forbidden,
  invalid,
  notFound,
  notSupported,
  required,
} from '#api/field-error.ts';
import type { Container, PodSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkLabel, checkPort, checkRequiredEnum } from '#api/validate.ts';
import { isPortName } from '#api/validate-names.ts';

type Mount = NonNullable<Container['volumeMounts']>[number];
type Port = NonNullable<Container['ports']>[number];

/** What a container's rules need to know of its pod. */
export type PodSurroundings = {
  spec: PodSpec;
  volumes: VolumesByName;
  claims: ReadonlySet<string>;
  hostUsers: boolean;
  /** A pod itself, whose images are taken literally; not a template. */
  standalone: boolean;
};

export const PROTOCOLS = ['SCTP', 'TCP', 'UDP'];
const PULL_POLICIES = ['Always', 'IfNotPresent', 'Never'];
const RESTART_POLICIES = ['Always', 'Never', 'OnFailure'];

/** Rules of every container. Source: core/v1 Container. */
function checkCommon(
  errors: Errors,
  path: string,
  container: Container,
  pod: PodSurroundings,
): void {
  if (!container.name) errors.push(required(`${path}.name`));
  else checkLabel(errors, `${path}.name`, container.name);
  if (!container.image) errors.push(required(`${path}.image`));
  checkRequiredEnum(
    errors,
    `${path}.terminationMessagePolicy`,
    container.terminationMessagePolicy,
    ['File', 'FallbackToLogsOnError'],
  );
  if (container.ports) checkPorts(errors, `${path}.ports`, container.ports);
  if (container.env) checkEnv(errors, `${path}.env`, container.env);
  if (container.envFrom) checkEnvFrom(errors, `${path}.envFrom`, container.envFrom);
  if (container.volumeMounts) checkMounts(errors, `${path}.volumeMounts`, container, pod.volumes);
  if (container.volumeDevices) {
    checkDevices(errors, `${path}.volumeDevices`, container, pod.volumes);
  }
  checkRequiredEnum(errors, `${path}.imagePullPolicy`, container.imagePullPolicy, PULL_POLICIES);
  checkContainerResources(errors, `${path}.resources`, container.resources, pod.claims);
  if (container.resizePolicy) checkResizePolicy(errors, `${path}.resizePolicy`, container, pod);
  if (container.securityContext) {
    const at = `${path}.securityContext`;
    checkSecurityContext(errors, at, container.securityContext, pod.hostUsers);
  }
}

function checkPorts(errors: Errors, path: string, ports: readonly Port[]): void {
  const names = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const at = `${path}[${i}]`;
    if (port.name) {
      const problems = isPortName(port.name);
      addInvalid(errors, `${at}.name`, port.name, problems);
      if (problems.length === 0) {
        if (names.has(port.name)) errors.push(duplicate(`${at}.name`, port.name));
        names.add(port.name);
      }
    }
    if (!port.containerPort) errors.push(required(`${at}.containerPort`));
    else checkPort(errors, `${at}.containerPort`, port.containerPort);
    if (port.hostPort) checkPort(errors, `${at}.hostPort`, port.hostPort);
    checkRequiredEnum(errors, `${at}.protocol`, port.protocol, PROTOCOLS);
  }
}

function checkMounts(
  errors: Errors,
  path: string,
  container: Container,
  volumes: VolumesByName,
): void {
  const points = new Set<string>();
  const devices = container.volumeDevices ?? [];
  for (const [i, mount] of (container.volumeMounts ?? []).entries()) {
    const at = `${path}[${i}]`;
    const volume = volumes.get(mount.name);
    if (!mount.name) errors.push(required(`${at}.name`));
    if (!volume) errors.push(notFound(`${at}.name`, mount.name ?? ''));
    if (!mount.mountPath) errors.push(required(`${at}.mountPath`));
    if (points.has(mount.mountPath)) {
      errors.push(invalid(`${at}.mountPath`, mount.mountPath, 'must be unique'));
    }
    points.add(mount.mountPath);
    if (devices.some((device) => device.name === mount.name)) {
      errors.push(invalid(`${at}.name`, mount.name, 'must not already exist in volumeDevices'));
    }
    if (devices.some((device) => device.devicePath === mount.mountPath)) {
      const rule = 'must not already exist as a path in volumeDevices';
      errors.push(invalid(`${at}.mountPath`, mount.mountPath, rule));
    }
    checkSubPaths(errors, path, at, mount);
    checkPropagation(errors, path, mount, container);
  }
}

/** Some of these errors are about the list, as upstream's are. */
function checkSubPaths(errors: Errors, path: string, at: string, mount: Mount): void {
  const { subPath, subPathExpr } = mount;
  if (subPath) checkDescendingPath(errors, `${path}.subPath`, subPath);
  if (subPathExpr) {
    if (subPath) {
      const rule = 'subPathExpr and subPath are mutually exclusive';
      errors.push(invalid(`${at}.subPathExpr`, subPathExpr, rule));
    }
    checkDescendingPath(errors, `${path}.subPathExpr`, subPathExpr);
  }
}

function checkPropagation(errors: Errors, path: string, mount: Mount, container: Container): void {
  const { mountPropagation, recursiveReadOnly } = mount;
  if (mountPropagation !== undefined) {
    const at = `${path}.mountPropagation`;
    checkEnum(errors, at, mountPropagation, ['Bidirectional', 'HostToContainer', 'None']);
    if (mountPropagation === 'Bidirectional' && !container.securityContext?.privileged) {
      errors.push(
        forbidden(at, 'Bidirectional mount propagation is available only to privileged containers'),
      );
    }
  }
  if (recursiveReadOnly === undefined || recursiveReadOnly === 'Disabled') return;
  const at = `${path}.recursiveReadOnly`;
  if (recursiveReadOnly !== 'Enabled' && recursiveReadOnly !== 'IfPossible') {
    errors.push(notSupported(at, recursiveReadOnly, ['Disabled', 'Enabled', 'IfPossible']));
    return;
  }
  if (!mount.readOnly) {
    errors.push(forbidden(at, 'may only be specified when readOnly is true'));
  }
  if (mountPropagation !== undefined && mountPropagation !== 'None') {
    const rule = 'may only be specified when mountPropagation is None or not specified';
    errors.push(forbidden(at, rule));
  }
}

function checkDevices(
  errors: Errors,
  path: string,
  container: Container,
  volumes: VolumesByName,
): void {
  const paths = new Set<string>();
  const names = new Set<string>();
  const mounts = container.volumeMounts ?? [];
  for (const [i, { name, devicePath }] of (container.volumeDevices ?? []).entries()) {
    const at = `${path}[${i}]`;
    const volume = volumes.get(name);
    if (!name) errors.push(required(`${at}.name`));
    if (names.has(name)) errors.push(invalid(`${at}.name`, name, 'must be unique'));
    if (volume && !volume.persistentVolumeClaim && !volume.ephemeral) {
      const rule =
        'can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode';
      errors.push(invalid(`${at}.name`, name, rule));
    }
    if (!volume) errors.push(notFound(`${at}.name`, name));
    if (!devicePath) errors.push(required(`${at}.devicePath`));
    if (paths.has(devicePath)) {
      errors.push(invalid(`${at}.devicePath`, devicePath, 'must be unique'));
    }
    if (devicePath?.split('/').includes('..')) {
      errors.push(invalid(`${at}.devicePath`, devicePath, "can not contain backsteps ('..')"));
    } else paths.add(devicePath);
    if (mounts.some((mount) => mount.name === name)) {
      errors.push(invalid(`${at}.name`, name, 'must not already exist in volumeMounts'));
    }
    if (mounts.some((mount) => mount.mountPath === devicePath)) {
      const rule = 'must not already exist as a path in volumeMounts';
      errors.push(invalid(`${at}.devicePath`, devicePath, rule));
    }
    if (name) names.add(name);
  }
}

function checkResizePolicy(
  errors: Errors,
  path: string,
  container: Container,
  { spec }: PodSurroundings,
): void {
  const seen = new Set<string>();
  for (const [i, policy] of (container.resizePolicy ?? []).entries()) {
    const { resourceName, restartPolicy } = policy;
    if (seen.has(resourceName)) errors.push(duplicate(`${path}[${i}]`, resourceName));
    seen.add(resourceName);
    checkRequiredEnum(errors, path, resourceName, ['cpu', 'memory']);
    checkRequiredEnum(errors, path, restartPolicy, ['NotRequired', 'RestartContainer']);
    if (spec.restartPolicy === 'Never' && restartPolicy !== 'NotRequired') {
      const rule = "must be 'NotRequired' when `restartPolicy` is 'Never'";
      errors.push(invalid(path, restartPolicy, rule));
    }
  }
}

/** Main containers. `graceSeconds` bounds what their hooks may sleep. */
export function checkContainers(errors: Errors, path: string, pod: PodSurroundings): void {
  const containers = pod.spec.containers ?? [];
  if (containers.length === 0) {
    errors.push(required(path));
    return;
  }
  const names = new Set<string>();
  for (const [i, container] of containers.entries()) {
    const at = `${path}[${i}]`;
    checkCommon(errors, at, container, pod);
    if (names.has(container.name)) errors.push(duplicate(`${at}.name`, container.name));
    names.add(container.name);
    checkRunningParts(errors, at, container, pod.spec.terminationGracePeriodSeconds);
    checkRestartRules(errors, at, container);
  }
  checkHostPorts(errors, path, containers);
}

/** A container's own restart policy, and rules by exit code. Source: KEP-5307. */
function checkRestartRules(errors: Errors, at: string, container: Container): void {
  const { restartPolicy, restartPolicyRules: rules } = container;
  if (restartPolicy !== undefined) {
    checkEnum(errors, `${at}.restartPolicy`, restartPolicy, RESTART_POLICIES);
  }
  if (!rules?.length) return;
  const path = `${at}.restartPolicyRules`;
  if (restartPolicy === undefined) {
    errors.push(
      required(`${at}.restartPolicy`, 'must specify restartPolicy when restart rules are used'),
    );
  }
  if (rules.length > 20) {
    errors.push(invalid(path, rules.length, 'must have at most 20 rules'));
  }
  for (const [i, rule] of rules.entries()) {
    checkEnum(errors, `${path}[${i}].action`, rule.action, ['Restart', 'RestartAllContainers']);
    const codes = rule.exitCodes;
    if (!codes) errors.push(required(`${path}[${i}].exitCodes`, 'must be specified'));
    else {
      checkEnum(errors, `${path}[${i}].exitCodes.operator`, codes.operator, ['In', 'NotIn']);
      if ((codes.values ?? []).length > 255) {
        const count = codes.values?.length;
        errors.push(
          invalid(`${path}[${i}].exitCodes.values`, count, 'must have at most 255 values'),
        );
      }
    }
  }
}

/** Two containers cannot listen on one port of the node. */
function checkHostPorts(errors: Errors, path: string, containers: readonly Container[]): void {
  const taken = new Set<string>();
  for (const [i, container] of containers.entries()) {
    for (const [j, port] of (container.ports ?? []).entries()) {
      if (!port.hostPort) continue;
      const key = `${port.protocol}/${port.hostIP ?? ''}/${port.hostPort}`;
      if (taken.has(key)) errors.push(duplicate(`${path}[${i}].ports[${j}].hostPort`, key));
      taken.add(key);
    }
  }
}

const NOT_FOR_INIT = 'may not be set for init containers without restartPolicy=Always';

export function checkInitContainers(errors: Errors, path: string, pod: PodSurroundings): void {
  const names = new Set((pod.spec.containers ?? []).map(({ name }) => name));
  for (const [i, container] of (pod.spec.initContainers ?? []).entries()) {
    const at = `${path}[${i}]`;
    checkCommon(errors, at, container, pod);
    checkRestartRules(errors, at, container);
    if (container.name && names.has(container.name)) {
      errors.push(duplicate(`${at}.name`, container.name));
    } else if (container.name) names.add(container.name);
    checkHostPorts(errors, path, [container]);
    if (container.restartPolicy === 'Always') {
      checkRunningParts(errors, at, container, pod.spec.terminationGracePeriodSeconds);
    } else {
      const fields = ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'] as const;
      for (const field of fields) {
        if (container[field] != null) errors.push(forbidden(`${at}.${field}`, NOT_FOR_INIT));
      }
    }
  }
}

const NOT_FOR_EPHEMERAL = 'cannot be set for an Ephemeral Container';
const EPHEMERAL_FORBIDDEN = [
  'ports',
  'resources',
  'resizePolicy',
  'restartPolicy',
  'restartPolicyRules',
  'livenessProbe',
  'readinessProbe',
  'startupProbe',
  'lifecycle',
] as const;

/** Containers added to a running pod to look into it. Source: core/v1 EphemeralContainer. */
export function checkEphemeralContainers(errors: Errors, path: string, pod: PodSurroundings): void {
  const { spec } = pod;
  if (!spec.ephemeralContainers?.length) return;
  const others = new Set(
    [...(spec.containers ?? []), ...(spec.initContainers ?? [])].map(({ name }) => name),
  );
  const names = new Set(others);
  for (const [i, ephemeral] of spec.ephemeralContainers.entries()) {
    const at = `${path}[${i}]`;
    const container = ephemeral as Container;
    checkCommon(errors, at, container, pod);
    checkImageSpaces(errors, at, container);
    if (names.has(container.name)) errors.push(duplicate(`${at}.name`, container.name));
    names.add(container.name);
    const target = ephemeral.targetContainerName;
    if (target && !others.has(target)) {
      errors.push(notFound(`${at}.targetContainerName`, target));
    }
    for (const field of EPHEMERAL_FORBIDDEN) {
      const value = container[field];
      if (value == null || Object.keys(value).length === 0) continue;
      errors.push(forbidden(`${at}.${field}`, NOT_FOR_EPHEMERAL));
    }
    for (const [j, mount] of (container.volumeMounts ?? []).entries()) {
      for (const field of ['subPath', 'subPathExpr'] as const) {
        if (mount[field]) {
          errors.push(forbidden(`${at}.volumeMounts[${j}].${field}`, NOT_FOR_EPHEMERAL));
        }
      }
    }
  }
}

export function checkImageSpaces(errors: Errors, at: string, { image }: Container): void {
  if (image !== undefined && image.trim() !== image) {
    errors.push(invalid(`${at}.image`, image, 'must not have leading or trailing whitespace'));
  }
}
