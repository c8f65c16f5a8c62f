import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import type { Container, Pod, Secret } from '#api/types.ts';
import type { EventNote, EventRecorder } from '#client/events.ts';
import type { CredentialSource } from '#node-agent/images/credential-providers.ts';
import { parseReference } from '#base/oci/image-reference.ts';
import type { Failure } from '#node-agent/pods/pod-observation.ts';
import {
  credentialHash,
  type PullCredentials,
  type PullRecords,
} from '#node-agent/images/pull-records.ts';
import { secretAuths } from '#node-agent/images/registry-auth.ts';
import {
  type AuthConfig,
  type Image,
  type ImageService,
  isRuntimeError,
} from '#node-agent/runtime/service.ts';
import { createSlots } from '#node-agent/pods/slots.ts';

/** Source: Kubernetes documentation, "ImagePullBackOff". */
export const PULL_BACKOFF = { initialMs: 10_000, maxMs: 300_000 };
/** Pulls at a time: more only share the same network and disk. */
const PARALLEL_PULLS = 4;
const RUNTIME_RETRY_MS = 1_000;
/** Waiting reason of a container whose image the runtime cannot tell of. */
const INSPECT_ERROR = 'ImageInspectError';
/** A pull that takes longer is told about, then after twice as long, and so on. */
const SLOW_PULL_MS = 30_000;
/** Failures remembered, by pod and image. */
const MAX_REMEMBERED = 1_000;

export type ImageResult =
  | { state: 'ready'; ref: string; image: Image }
  | ({ state: 'failed' } & Failure);

export type ImagesOptions = {
  /** Of the runtime that runs the pod. */
  serviceOf: (pod: Pod) => ImageService;
  clock: Clock;
  events: EventRecorder;
  /** The pod's pull Secrets that exist. */
  pullSecrets: (pod: Pod) => Promise<Secret[]>;
  /** Of the node's credential provider programs; used after the pod's own. */
  credentials?: CredentialSource | undefined;
  /** Who may use what is there; without them everybody may. */
  records?: PullRecords | undefined;
  /** Pulls at a time: see PARALLEL_PULLS. */
  parallelPulls?: number | undefined;
};

export type Images = {
  /** The image if its policy lets it be used as it is. */
  present(pod: Pod, container: Container): Promise<Image | undefined>;
  /** Pulls what is missing; a failure says when to try again. Never rejects but by `signal`. */
  ensure(pod: Pod, container: Container, signal: AbortSignal): Promise<ImageResult>;
  /** An image, by its id, has been taken off the node. */
  removed(ref: string): Promise<void>;
};

/** Gets images onto the node by their pull policies, telling each step as an event. */
export function createImages(options: ImagesOptions): Images {
  const { serviceOf, clock, events, pullSecrets, credentials, records } = options;
  const slots = createSlots(options.parallelPulls ?? PARALLEL_PULLS);
  const failures = new Map<string, number>();
  /** Pulls under way, so that many pods of one image share one. */
  const pulling = new Map<ImageService, Map<string, Promise<PullTime>>>();

  function tell(pod: Pod, container: Container, note: Omit<EventNote, 'fieldPath'>): void {
    events.record(pod, { ...note, fieldPath: `spec.containers{${container.name}}` });
  }

  async function pull(
    service: ImageService,
    image: string,
    keys: readonly PullKey[],
  ): Promise<PullTime> {
    const shared = pulling.get(service) ?? new Map<string, Promise<PullTime>>();
    pulling.set(service, shared);
    const key = `${image} ${JSON.stringify(keys.map(({ auth }) => auth))}`;
    let running = shared.get(key);
    if (!running) {
      const askedMs = clock.now();
      const turn = async (): Promise<PullTime> => {
        const begunMs = clock.now();
        const by = await pullWith(service, image, keys);
        const now = clock.now();
        return { pullMs: now - begunMs, withWaitingMs: now - askedMs, by };
      };
      running = slots.run(turn).finally(() => shared.delete(key));
      shared.set(key, running);
    }
    return running;
  }

  /** With what the pod may try, best match first: its own Secrets, then the node's programs. */
  async function keysOf(pod: Pod, image: string): Promise<PullKey[]> {
    const own = secretAuths(image, await pullSecrets(pod)).map(({ auth, secret }): PullKey => {
      const { uid = '', namespace = '', name = '' } = secret.metadata;
      const hash = credentialHash(auth);
      const by = { kubernetesSecrets: [{ uid, namespace, name, credentialHash: hash }] };
      return { auth, by };
    });
    const found = credentials ? await credentials(image, pod) : [];
    const others = found.map(({ auth, account }): PullKey => {
      const by = account ? { kubernetesServiceAccounts: [account] } : { nodePodsAccessible: true };
      return { auth, by };
    });
    return [...own, ...others];
  }

  /** Whether an image that is there is to be pulled again, for the pod has not shown that it may. */
  async function mustPull(pod: Pod, image: string, there: Image): Promise<boolean> {
    if (!records || there.pinned) return false;
    return records.mustPull(image, there.id, async () => {
      const keys = await keysOf(pod, image);
      return {
        kubernetesSecrets: keys.flatMap(({ by }) => by.kubernetesSecrets ?? []),
        kubernetesServiceAccounts: keys.flatMap(({ by }) => by.kubernetesServiceAccounts ?? []),
      };
    });
  }

  /** Says now and then that a long pull goes on, until it ends. */
  async function whileTelling<T>(pod: Pod, container: Container, work: Promise<T>): Promise<T> {
    const over = new AbortController();
    const begunMs = clock.now();
    const tellOn = async (): Promise<void> => {
      for (let waitMs = SLOW_PULL_MS; ; waitMs *= 2) {
        await clock.sleep(waitMs, { signal: over.signal });
        const message =
          `Still pulling image "${container.image}" after ${duration(clock.now() - begunMs)}; ` +
          `at most ${options.parallelPulls ?? PARALLEL_PULLS} images are pulled at a time`;
        tell(pod, container, { type: 'Normal', reason: 'Pulling', message });
      }
    };
    tellOn().catch(() => {}); // ends with the pull
    return work.finally(() => over.abort(new Error('the pull has ended')));
  }

  function failed(pod: Pod, image: string, reason: string, message: string): ImageResult {
    const key = `${pod.metadata.uid} ${image}`;
    if (failures.size >= MAX_REMEMBERED) failures.clear();
    const count = (failures.get(key) ?? 0) + 1;
    failures.set(key, count);
    return {
      state: 'failed',
      reason,
      message,
      retryAtMs: clock.now() + backoffMs(count, PULL_BACKOFF),
    };
  }

  function refuse(pod: Pod, container: Container, reason: string, message: string): ImageResult {
    tell(pod, container, { type: 'Warning', reason: 'Failed', message: `Error: ${reason}` });
    return failed(pod, container.image ?? '', reason, message);
  }

  async function ensure(pod: Pod, container: Container): Promise<ImageResult> {
    const image = container.image ?? '';
    const service = serviceOf(pod);
    const policy = pullPolicy(container);
    if (!isReference(image)) {
      const message = `Failed to apply default image tag "${image}": ${parseProblem(image)}`;
      tell(pod, container, { type: 'Warning', reason: 'InspectFailed', message });
      return refuse(pod, container, 'InvalidImageName', message);
    }
    if (policy !== 'Always') {
      const there = await inspect(service, image);
      if (there && !(await mustPull(pod, image, there))) {
        tell(pod, container, alreadyPresent(image));
        return { state: 'ready', ref: there.id, image: there };
      }
      if (policy === 'Never') {
        const message = `Container image "${image}" is not present with pull policy of Never`;
        tell(pod, container, { type: 'Warning', reason: 'ErrImageNeverPull', message });
        return refuse(pod, container, 'ErrImageNeverPull', message);
      }
    }
    const message = `Pulling image "${image}"`;
    tell(pod, container, { type: 'Normal', reason: 'Pulling', message });
    const keys = await keysOf(pod, image);
    const { time, pulled } = await recorded(image, async () => {
      const time = await whileTelling(pod, container, pull(service, image, keys));
      const pulled = await inspect(service, image);
      if (!pulled) throw new Error(`image "${image}" is gone after its pull`);
      return { time, pulled };
    });
    failures.delete(`${pod.metadata.uid} ${image}`);
    tell(pod, container, {
      type: 'Normal',
      reason: 'Pulled',
      message:
        `Successfully pulled image "${image}" in ${duration(time.pullMs)} ` +
        `(${duration(time.withWaitingMs)} including waiting). Image size: ${pulled.size} bytes.`,
    });
    return { state: 'ready', ref: pulled.id, image: pulled };
  }

  async function recorded(
    image: string,
    work: () => Promise<{ time: PullTime; pulled: Image }>,
  ): Promise<{ time: PullTime; pulled: Image }> {
    if (!records) return work();
    let done: { ref: string; by: PullCredentials } | undefined;
    await records.begin(image);
    try {
      const { time, pulled } = await work();
      done = { ref: pulled.id, by: time.by };
      return { time, pulled };
    } finally {
      await records.end(image, done);
    }
  }

  return {
    async present(pod, container) {
      if (pullPolicy(container) === 'Always') return undefined;
      const image = await serviceOf(pod).imageStatus(container.image ?? '');
      if (!image || (await mustPull(pod, container.image ?? '', image))) return undefined;
      tell(pod, container, alreadyPresent(container.image ?? ''));
      return image;
    },
    removed: async (ref) => records?.forget(ref),
    async ensure(pod, container, signal) {
      const image = container.image ?? '';
      try {
        return await ensure(pod, container);
      } catch (error) {
        signal.throwIfAborted();
        const text = errorText(error);
        // The runtime is being started again: no fault of the image.
        if (isRuntimeError(error, 'Unavailable')) {
          const retryAtMs = clock.now() + RUNTIME_RETRY_MS;
          return { state: 'failed', reason: INSPECT_ERROR, message: text, retryAtMs };
        }
        if (error instanceof InspectError) {
          tell(pod, container, { type: 'Warning', reason: 'InspectFailed', message: text });
          return refuse(pod, container, INSPECT_ERROR, text);
        }
        const message = `Failed to pull image "${image}": ${text}`;
        tell(pod, container, { type: 'Warning', reason: 'Failed', message });
        return refuse(pod, container, 'ErrImagePull', text);
      }
    },
  };
}

/** The runtime could not say whether it has an image, or did not answer in time. */
class InspectError extends Error {}

async function inspect(service: ImageService, image: string): Promise<Image | null> {
  try {
    return await service.imageStatus(image);
  } catch (cause) {
    if (isRuntimeError(cause, 'Unavailable')) throw cause;
    throw new InspectError(`Failed to inspect image "${image}"`, { cause });
  }
}

/** `withWaitingMs` counts from when the pull was asked for, before its turn came. */
type PullTime = { pullMs: number; withWaitingMs: number; by: PullCredentials };

/** Credentials to pull with, and what their success says of who may use the image. */
type PullKey = { auth: AuthConfig; by: PullCredentials };

const alreadyPresent = (image: string) => ({
  type: 'Normal' as const,
  reason: 'Pulled',
  message: `Container image "${image}" already present on machine and can be accessed by the pod`,
});

/** Upstream's words for a name that cannot be one. */
function parseProblem(image: string): string {
  const lower = image.toLowerCase();
  const why = lower !== image && isReference(lower) ? ': repository name must be lowercase' : '';
  return `couldn't parse image name "${image}": invalid reference format${why}`;
}

function isReference(image: string): boolean {
  try {
    return Boolean(parseReference(image));
  } catch {
    return false;
  }
}

/** Tries each credential, and none when there are none; returns by which it went. */
async function pullWith(
  service: ImageService,
  image: string,
  keys: readonly PullKey[],
): Promise<PullCredentials> {
  let last: unknown;
  const nobody = { auth: undefined, by: { nodePodsAccessible: true } };
  for (const { auth, by } of keys.length > 0 ? keys : [nobody]) {
    try {
      await service.pullImage(image, auth);
      return by;
    } catch (error) {
      last = error;
    }
  }
  throw last;
}

/** The API server fills the policy in; this is its rule. */
export function pullPolicy({ imagePullPolicy, image = '' }: Container): string {
  if (imagePullPolicy) return imagePullPolicy;
  const name = image.split('/').at(-1) ?? '';
  const latest = !image.includes('@') && (!name.includes(':') || name.endsWith(':latest'));
  return latest ? 'Always' : 'IfNotPresent';
}

const duration = (ms: number): string => (ms < 1000 ? `${ms}ms` : `${(ms / 1000).toFixed(3)}s`);
