import type { Container, Pod } from '#api/types.ts';
import { containerResources, podLimits } from '#node-agent/containers/container-resources.ts';
import { type EnvVar, expand } from '#node-agent/containers/env-vars.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import {
  containerLogPath,
  hostsFile,
  identityOf,
  terminationFile,
} from '#node-agent/pods/pod-files.ts';
import { type PodContainer, graceOf, specHash } from '#node-agent/pods/pod-observation.ts';
import { NOTE } from '#node-agent/pods/pod-runtimes.ts';
import {
  type ContainerConfig,
  type Device,
  type Image,
  LABEL,
  type Mount,
} from '#node-agent/runtime/service.ts';
import { containerSecurity } from '#node-agent/containers/security-context.ts';
import { criSignal } from '#node-agent/containers/stop-signal.ts';

export const DEFAULT_TERMINATION_PATH = '/dev/termination-log';

type Facts = Pick<NodeServices, 'paths' | 'features' | 'users' | 'resourceFacts'>;

export type ContainerRequest = {
  pod: Pod;
  container: PodContainer;
  attempt: number;
  restartDelayMs: number;
  image: Image;
  env: readonly EnvVar[];
  volumeMounts: readonly Mount[];
  devices: readonly Device[];
  /** What device plugins want the runtime to know. */
  annotations?: Readonly<Record<string, string>>;
  /** Id of the container an ephemeral one joins. */
  target?: string | undefined;
};

/** A container in the runtime's words. Throws ConfigError for what cannot be honoured. */
export function containerConfig(request: ContainerRequest, facts: Facts): ContainerConfig {
  const { pod, container, attempt, restartDelayMs, image, env, target } = request;
  const { spec } = container;
  const identity = identityOf(pod);
  const value = (name: string): string | undefined => env.find((e) => e.key === name)?.value;
  const users = facts.users(pod);
  const expandAll = (list: readonly string[] | undefined): string[] =>
    (list ?? []).map((text) => expand(text, value));
  return {
    metadata: { name: spec.name, attempt },
    image: { image: image.id, userSpecifiedImage: spec.image ?? '' },
    command: expandAll(spec.command),
    args: expandAll(spec.args),
    workingDir: spec.workingDir ?? '',
    envs: [...env],
    mounts: [...request.volumeMounts, ...agentMounts(pod, spec, attempt, facts)].map((mount) =>
      users ? { ...mount, uidMappings: users.uids, gidMappings: users.gids } : mount,
    ),
    devices: [...request.devices],
    labels: {
      [LABEL.podName]: identity.name,
      [LABEL.podNamespace]: identity.namespace,
      [LABEL.podUid]: identity.uid,
      [LABEL.containerName]: spec.name,
    },
    annotations: {
      ...request.annotations,
      [NOTE.hash]: specHash(spec),
      [NOTE.restartCount]: String(attempt),
      [NOTE.terminationMessagePolicy]: spec.terminationMessagePolicy ?? 'File',
      [NOTE.restartDelayMs]: String(restartDelayMs),
      [NOTE.memoryLimited]: String(memoryLimited(pod, spec)),
      'io.kubernetes.pod.terminationGracePeriod': String(graceOf(pod)),
    },
    logPath: containerLogPath(spec.name, attempt),
    stdin: spec.stdin ?? false,
    stdinOnce: spec.stdinOnce ?? false,
    tty: spec.tty ?? false,
    ...(spec.lifecycle?.stopSignal ? { stopSignal: criSignal(spec.lifecycle.stopSignal) } : {}),
    linux: {
      resources: containerResources(pod, spec, facts.resourceFacts),
      securityContext: containerSecurity({
        pod,
        container: spec,
        image,
        target,
        users,
        seccompDir: facts.paths.seccompDir,
        features: facts.features(pod),
      }),
    },
  };
}

const memoryLimited = (pod: Pod, { resources }: Container): boolean =>
  resources?.limits?.['memory'] !== undefined ||
  podLimits(pod, undefined).memoryBytes !== undefined;

/** Files the agent puts into every container, unless the pod mounts something there itself. */
function agentMounts(
  pod: Pod,
  spec: Container,
  attempt: number,
  { paths }: Pick<Facts, 'paths'>,
): Mount[] {
  const { uid } = identityOf(pod);
  const taken = new Set((spec.volumeMounts ?? []).map((m) => m.mountPath));
  const mounts: Mount[] = [];
  if (!taken.has('/etc/hosts'))
    mounts.push({ containerPath: '/etc/hosts', hostPath: hostsFile(paths, uid) });
  const termination = spec.terminationMessagePath ?? DEFAULT_TERMINATION_PATH;
  if (!taken.has(termination)) {
    mounts.push({
      containerPath: termination,
      hostPath: terminationFile(paths, { uid, name: spec.name, attempt }),
    });
  }
  return mounts;
}
