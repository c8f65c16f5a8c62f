import type { Labels } from '#node-agent/runtime/service.ts';
import type { ContainerEntry, Pod, Runtime } from './pod.ts';

const NS_PER_MS = 1e6;
const STATES = {
  created: 'CONTAINER_CREATED',
  running: 'CONTAINER_RUNNING',
  exited: 'CONTAINER_EXITED',
} as const;

const podState = ({ record, vm }: Pod): string =>
  record.state === 'ready' && vm ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY';

/** A sandbox as ListPodSandbox shows it. */
export function sandboxItem(pod: Pod): object {
  const { id, config, createdAtMs, handler } = pod.record;
  return {
    id,
    metadata: config.metadata,
    state: podState(pod),
    createdAt: createdAtMs * NS_PER_MS,
    labels: config.labels,
    annotations: config.annotations,
    runtimeHandler: handler,
  };
}

export function sandboxStatus(pod: Pod): object {
  const { config, network } = pod.record;
  const [ip = '', ...additional] = (network?.ips ?? []).map(
    ({ address }) => address.split('/')[0] ?? '',
  );
  return {
    ...sandboxItem(pod),
    network: { ip, additionalIps: additional.map((one) => ({ ip: one })) },
    linux: { namespaces: { options: config.linux.securityContext.namespaceOptions ?? {} } },
  };
}

export function containerItem({ record }: ContainerEntry): object {
  const { id, podId, config, image, state, createdAtMs } = record;
  return {
    id,
    podSandboxId: podId,
    metadata: config.metadata,
    image: config.image,
    imageRef: image.id,
    imageId: image.id,
    state: STATES[state],
    createdAt: createdAtMs * NS_PER_MS,
    labels: config.labels,
    annotations: config.annotations,
  };
}

/** As users know images: by the name that they wrote, and by the digest that the registry gave. */
export async function containerStatus(
  { images }: Pick<Runtime, 'images'>,
  { record }: ContainerEntry,
): Promise<object> {
  const { config, process } = record;
  const { repoDigests = [] } = (await images.imageStatus(record.image.id)) ?? {};
  const { podSandboxId: _, ...item } = containerItem({ record } as ContainerEntry) as Record<
    string,
    unknown
  >;
  return {
    ...item,
    image: { ...config.image, image: config.image?.userSpecifiedImage || config.image?.image },
    imageRef: repoDigests[0] ?? record.image.id,
    startedAt: record.startedAtMs * NS_PER_MS,
    finishedAt: record.finishedAtMs * NS_PER_MS,
    exitCode: record.exitCode,
    reason: record.reason,
    message: record.message,
    mounts: config.mounts,
    logPath: record.logPath,
    resources: { linux: record.resources },
    user: {
      linux: {
        uid: process.user.uid,
        gid: process.user.gid,
        supplementalGroups: process.user.groups,
      },
    },
  };
}

export type Filter = {
  id?: string;
  podSandboxId?: string;
  state?: { state: string } | null;
  labelSelector?: Labels;
} | null;

const matches = (labels: Labels, wanted: Labels | undefined): boolean =>
  Object.entries(wanted ?? {}).every(([key, value]) => labels[key] === value);

/** Sandboxes that a filter leaves; an id may be cut short. */
export function filterPods({ pods }: Pick<Runtime, 'pods'>, filter: Filter): Pod[] {
  return [...pods.values()].filter((pod) => {
    const { id, config, state } = pod.record;
    // One that is being made has no use for anybody yet.
    if (state === 'creating') return false;
    if (filter?.id && !id.startsWith(filter.id)) return false;
    if (filter?.state && filter.state.state !== podState(pod)) return false;
    return matches(config.labels, filter?.labelSelector);
  });
}

export function filterContainers({ pods }: Pick<Runtime, 'pods'>, filter: Filter) {
  return [...pods.values()].flatMap((pod) =>
    [...pod.containers.values()]
      .filter(({ record }) => {
        if (filter?.id && !record.id.startsWith(filter.id)) return false;
        if (filter?.podSandboxId && !record.podId.startsWith(filter.podSandboxId)) return false;
        if (filter?.state && filter.state.state !== STATES[record.state]) return false;
        return matches(record.config.labels, filter?.labelSelector);
      })
      .map((entry) => ({ pod, entry })),
  );
}
