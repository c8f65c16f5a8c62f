import { isIP } from 'node:net';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { reportedLimits } from '#node-agent/containers/container-resources.ts';
import { terminationFile, type PodIdentity, type PodPaths } from '#node-agent/pods/pod-files.ts';
import type {
  ContainerRecord,
  PodRuntimeState,
  SandboxRecord,
} from '#node-agent/pods/pod-observation.ts';
import {
  type Container,
  type ContainerStatus,
  isRuntimeError,
  LABEL,
  type PodSandbox,
  type RuntimeService,
} from '#node-agent/runtime/service.ts';
import {
  terminationMessage,
  type TerminationPolicy,
} from '#node-agent/containers/termination-message.ts';

/** Notes on containers, so that an agent that starts anew knows what the last one knew. */
export const NOTE = {
  hash: 'io.kubernetes.container.hash',
  restartCount: 'io.kubernetes.container.restartCount',
  terminationMessagePolicy: 'io.kubernetes.container.terminationMessagePolicy',
  restartDelayMs: 'gantry.dev/restart-delay-ms',
  /** Whether the kernel may kill it for its own, or its pod's, use of memory. */
  memoryLimited: 'gantry.dev/memory-limited',
} as const;

/** Safety net under the event stream. */
const POLL_MS = 10_000;
/** The runtime says EXITED up to 140 ms after the event; asked in growing steps, this long. */
const EXIT_STEPS_MS = [2, 5, 10, 15, 20, 30, 50, 100, 200, 400, 800];

const KILLED_EXIT_CODE = 137;
const OOM_KILLED = 'OOMKilled';
const OOM_WAIT_MS = 40;

export type KnownPod = PodIdentity & { state: PodRuntimeState };

type Entry = PodIdentity & {
  /** Raised by every direct change; a relist that began before must not undo it. */
  version: number;
  sandboxes: Map<string, SandboxRecord>;
  containers: Map<string, ContainerRecord>;
  view: PodRuntimeState | undefined;
};

export type PodRuntimesOptions = {
  runtime: RuntimeService;
  paths: PodPaths;
  clock: Clock;
  log: Log;
  /** Of the node's first address; a pod's first is of the same. Default 4. */
  firstFamily?: 4 | 6;
  /** Something of this pod is different now. */
  onChange: (uid: string) => void;
};

const NOTHING: PodRuntimeState = { sandboxes: [], containers: [] };
const toMs = (ns: number): number => Math.floor(ns / 1e6);

/** A live copy of what the runtime runs, by pod: from its events, and from its lists now and then. */
export class PodRuntimes {
  readonly #options: PodRuntimesOptions;
  readonly #pods = new Map<string, Entry>();
  #relisting: Promise<void> | undefined;

  constructor(options: PodRuntimesOptions) {
    this.#options = options;
  }

  get(uid: string): PodRuntimeState {
    const entry = this.#pods.get(uid);
    if (!entry) return NOTHING;
    entry.view ??= {
      sandboxes: [...entry.sandboxes.values()].sort(newestFirst),
      containers: [...entry.containers.values()].sort(newestFirst),
    };
    return entry.view;
  }

  /** Every pod of which the runtime has something. */
  pods(): KnownPod[] {
    return [...this.#pods.values()]
      .filter(({ sandboxes, containers }) => sandboxes.size + containers.size > 0)
      .map(({ uid, name, namespace }) => ({ uid, name, namespace, state: this.get(uid) }));
  }

  /** Finds a container by its id. */
  container(id: string): { uid: string; record: ContainerRecord } | undefined {
    for (const entry of this.#pods.values()) {
      const record = entry.containers.get(id);
      if (record) return { uid: entry.uid, record };
    }
    return undefined;
  }

  /** Reads everything. Calls while one is under way share it. */
  relist(): Promise<void> {
    this.#relisting ??= this.#relist().finally(() => (this.#relisting = undefined));
    return this.#relisting;
  }

  /** Follows events, and polls as a safety net, until `signal` aborts. */
  async follow(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#followEvents(signal), this.#poll(signal)]);
  }

  /** A sandbox was made or stopped. */
  async refreshSandbox(id: string, identity: PodIdentity): Promise<void> {
    try {
      const status = await this.#options.runtime.podSandboxStatus(id);
      const ips = status.network
        ? inOrder(
            [status.network.ip, ...status.network.additionalIps.map((a) => a.ip)].filter(Boolean),
            this.#options.firstFamily ?? 4,
          )
        : [];
      this.#change(identity, (entry) => entry.sandboxes.set(id, sandboxRecord(status, ips)));
    } catch (error) {
      if (!isRuntimeError(error, 'NotFound')) throw error;
      this.#change(identity, (entry) => entry.sandboxes.delete(id));
    }
  }

  /** A container was made, started or ended. */
  async refreshContainer(id: string, identity: PodIdentity): Promise<ContainerRecord | undefined> {
    try {
      const status = await this.#options.runtime.containerStatus(id);
      const known = this.#pods.get(identity.uid)?.containers.get(id);
      const record = this.#record(identity.uid, status, known?.sandboxId ?? '');
      this.#change(identity, (entry) => entry.containers.set(id, record));
      return record;
    } catch (error) {
      if (!isRuntimeError(error, 'NotFound')) throw error;
      this.forgetContainer(id, identity);
      return undefined;
    }
  }

  /** Tells of a container that was just made, and of its sandbox, which its status lacks. */
  addContainer(record: ContainerRecord, identity: PodIdentity): void {
    this.#change(identity, (entry) => entry.containers.set(record.id, record));
  }

  forgetContainer(id: string, identity: PodIdentity): void {
    this.#change(identity, (entry) => entry.containers.delete(id));
  }

  /** The sandbox was removed, and its containers with it. */
  forgetSandbox(id: string, identity: PodIdentity): void {
    this.#change(identity, (entry) => {
      entry.sandboxes.delete(id);
      for (const record of entry.containers.values())
        if (record.sandboxId === id) entry.containers.delete(record.id);
    });
  }

  async #relist(): Promise<void> {
    const { runtime, onChange } = this.#options;
    const versions = new Map([...this.#pods].map(([uid, entry]) => [uid, entry.version]));
    const [sandboxes, containers] = await Promise.all([
      runtime.listPodSandboxes(),
      runtime.listContainers(),
    ]);
    const found = new Map<string, { sandboxes: PodSandbox[]; containers: Container[] }>();
    const at = (uid: string) => {
      const value = found.get(uid) ?? { sandboxes: [], containers: [] };
      found.set(uid, value);
      return value;
    };
    for (const sandbox of sandboxes) at(sandbox.metadata.uid).sandboxes.push(sandbox);
    for (const container of containers) {
      const uid = container.labels[LABEL.podUid];
      if (uid) at(uid).containers.push(container);
    }
    for (const uid of this.#pods.keys()) at(uid);
    for (const [uid, lists] of found) {
      if ((this.#pods.get(uid)?.version ?? 0) !== (versions.get(uid) ?? 0)) continue;
      if (await this.#adopt(uid, lists)) onChange(uid);
    }
  }

  /** Takes over a pod's lists; true when they say something new. */
  async #adopt(
    uid: string,
    lists: { sandboxes: PodSandbox[]; containers: Container[] },
  ): Promise<boolean> {
    const identity = identityFrom(uid, lists) ?? this.#pods.get(uid);
    if (!identity) return false;
    const entry = this.#entry(identity);
    const { version } = entry;
    let changed = false;
    for (const id of entry.sandboxes.keys())
      if (!lists.sandboxes.some((s) => s.id === id))
        changed = entry.sandboxes.delete(id) || changed;
    for (const id of entry.containers.keys())
      if (!lists.containers.some((c) => c.id === id))
        changed = entry.containers.delete(id) || changed;
    for (const sandbox of lists.sandboxes) {
      const known = entry.sandboxes.get(sandbox.id);
      if (known && known.ready === (sandbox.state === 'SANDBOX_READY')) continue;
      await this.refreshSandbox(sandbox.id, identity);
      changed = true;
    }
    for (const container of lists.containers) {
      const known = entry.containers.get(container.id);
      if (known && known.state === STATES[container.state]) continue;
      // An event may have told more meanwhile.
      const status = await this.#options.runtime
        .containerStatus(container.id)
        .catch(() => undefined);
      if (!status) continue;
      entry.containers.set(container.id, this.#record(uid, status, container.podSandboxId));
      changed = true;
    }
    if (changed && entry.version === version) entry.version++;
    if (changed) entry.view = undefined;
    if (entry.sandboxes.size === 0 && entry.containers.size === 0) this.#pods.delete(uid);
    return changed;
  }

  async #followEvents(signal: AbortSignal): Promise<void> {
    for await (const event of this.#options.runtime.events(signal)) {
      if (event.type === 'resync') {
        await this.relist().catch((error: unknown) => this.#complain(error));
      } else if (event.type === 'exited' || event.type === 'oom') {
        const id = event.containerId;
        const news =
          event.type === 'oom' ? this.#ranOutOfMemory(id, signal) : this.#ended(id, signal);
        // Not awaited: one slow end must not hold up news of the others.
        void news.catch((error: unknown) => {
          if (!signal.aborted) this.#complain(error);
        });
      }
    }
  }

  async #ended(id: string, signal: AbortSignal): Promise<void> {
    const { clock, onChange } = this.#options;
    for (const entry of this.#pods.values()) {
      if (entry.sandboxes.has(id)) {
        for (const ms of EXIT_STEPS_MS) {
          await clock.sleep(ms, { signal });
          await this.refreshSandbox(id, entry);
          if (!entry.sandboxes.get(id)?.ready) return onChange(entry.uid);
        }
        return;
      }
      if (!entry.containers.has(id)) continue;
      for (const ms of EXIT_STEPS_MS) {
        await clock.sleep(ms, { signal });
        const record = await this.refreshContainer(id, entry);
        if (record?.state === 'running' || record?.state === 'created') continue;
        const killed = record?.exitCode === KILLED_EXIT_CODE && record.memoryLimited !== false;
        if (killed && record.reason !== OOM_KILLED) {
          // Why it was killed is told by another event, which may come a little later.
          await clock.sleep(OOM_WAIT_MS, { signal });
          await this.refreshContainer(id, entry);
        }
        return onChange(entry.uid);
      }
      return;
    }
  }

  /** A process ran out of memory: if that ended its container, its reason is this. */
  async #ranOutOfMemory(id: string, signal: AbortSignal): Promise<void> {
    const { clock, onChange } = this.#options;
    for (const ms of EXIT_STEPS_MS) {
      await clock.sleep(ms, { signal });
      const known = this.container(id);
      if (!known) return;
      if (known.record.state !== 'exited') continue;
      const entry = this.#pods.get(known.uid);
      if (!entry || known.record.reason === OOM_KILLED) return;
      await this.refreshContainer(id, entry);
      if (this.container(id)?.record.reason === OOM_KILLED) return onChange(known.uid);
    }
  }

  async #poll(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      await clock.sleep(POLL_MS, { signal }).catch(() => undefined);
      if (signal.aborted) return;
      await this.relist().catch((error: unknown) => this.#complain(error));
    }
  }

  #complain(error: unknown): void {
    this.#options.log.warn('could not read the state of the container runtime', {
      error: errorText(error),
    });
  }

  #entry(identity: PodIdentity): Entry {
    let entry = this.#pods.get(identity.uid);
    if (!entry) {
      const { uid, name, namespace } = identity;
      entry = {
        uid,
        name,
        namespace,
        version: 0,
        sandboxes: new Map(),
        containers: new Map(),
        view: undefined,
      };
      this.#pods.set(uid, entry);
    }
    return entry;
  }

  #change(identity: PodIdentity, change: (entry: Entry) => void): void {
    const entry = this.#entry(identity);
    change(entry);
    entry.version++;
    entry.view = undefined;
  }

  #record(uid: string, status: ContainerStatus, sandboxId: string): ContainerRecord {
    const { name, attempt } = status.metadata;
    const state = STATES[status.state];
    const said =
      state === 'exited'
        ? terminationMessage({
            file: terminationFile(this.#options.paths, { uid, name, attempt }),
            policy: (status.annotations[NOTE.terminationMessagePolicy] ??
              'File') as TerminationPolicy,
            exitCode: status.exitCode,
            logPath: status.logPath,
          })
        : '';
    const { linux } = status.user ?? {};
    const limits = reportedLimits(status.resources?.linux);
    return {
      id: status.id,
      name,
      attempt,
      sandboxId,
      state,
      createdAtMs: toMs(status.createdAt),
      startedAtMs: toMs(status.startedAt),
      finishedAtMs: toMs(status.finishedAt),
      exitCode: status.exitCode,
      reason: status.reason,
      message: [said, status.message].filter(Boolean).join(': '),
      imageRef: status.imageRef,
      hash: status.annotations[NOTE.hash] ?? '',
      restartDelayMs: Number(status.annotations[NOTE.restartDelayMs] ?? 0),
      logPath: status.logPath,
      memoryLimited: status.annotations[NOTE.memoryLimited] !== 'false',
      ...(limits ? { limits } : {}),
      ...(linux
        ? {
            user: {
              uid: linux.uid,
              gid: linux.gid,
              supplementalGroups: linux.supplementalGroups,
            },
          }
        : {}),
    };
  }
}

const STATES = {
  CONTAINER_CREATED: 'created',
  CONTAINER_RUNNING: 'running',
  CONTAINER_EXITED: 'exited',
  CONTAINER_UNKNOWN: 'unknown',
} as const;

type Dated = { attempt: number; createdAtMs: number };
const newestFirst = (a: Dated, b: Dated): number =>
  b.attempt - a.attempt || b.createdAtMs - a.createdAtMs;

/** Runtimes put IPv4 first; a pod's first address is of its node's first family, as the kubelet does. */
const inOrder = (ips: readonly string[], family: 4 | 6): string[] =>
  ips.toSorted((a, b) => Number(isIP(b) === family) - Number(isIP(a) === family));

function sandboxRecord(sandbox: PodSandbox, ips: readonly string[]): SandboxRecord {
  return {
    id: sandbox.id,
    attempt: sandbox.metadata.attempt,
    ready: sandbox.state === 'SANDBOX_READY',
    createdAtMs: toMs(sandbox.createdAt),
    ips,
  };
}

function identityFrom(
  uid: string,
  { sandboxes, containers }: { sandboxes: PodSandbox[]; containers: Container[] },
): PodIdentity | undefined {
  const metadata = sandboxes[0]?.metadata;
  if (metadata) return { uid, name: metadata.name, namespace: metadata.namespace };
  const labels = containers[0]?.labels;
  if (!labels) return undefined;
  return { uid, name: labels[LABEL.podName] ?? '', namespace: labels[LABEL.podNamespace] ?? '' };
}
