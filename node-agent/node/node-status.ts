import { isDeepStrictEqual } from 'node:util';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import { formatTime } from '#api/time.ts';
import type { Node } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import type { EventRecorder } from '#client/events.ts';
import { nodes } from '#client/resources.ts';
import type { Pressure } from '#node-agent/node/eviction.ts';
import { architecture, type Capacity, type NodeInfo } from '#node-agent/node/node-facts.ts';
import type { MicrovmState } from '#node-agent/runtimes.ts';
import { featuresOf, handlerFeatures } from '#node-agent/runtime/containerd.ts';
import {
  type Image,
  MICROVM_HANDLER,
  MICROVM_RUNTIME,
  type RuntimeFeatures,
  type RuntimeHandler,
} from '#node-agent/runtime/service.ts';

/** How often the node looks at itself, and how often it says the same again. */
const CHECK_MS = 10_000;
const REPEAT_MS = 5 * 60_000;
/** Most images that the status lists. Source: kubelet's nodeStatusMaxImages. */
const MAX_IMAGES = 50;
const RETRY = { initialMs: 200, maxMs: 10_000 };
/** What the RuntimeClass `microvm` selects nodes by. */
const MICROVM_LABEL = 'gantry.dev/microvm';
const MICROVM_CONDITION = 'MicroVMReady';

type Condition = NonNullable<NonNullable<Node['status']>['conditions']>[number];

export type NodeReporterOptions = {
  api: Api;
  clock: Clock;
  log: Log;
  events: EventRecorder;
  nodeName: string;
  ips: readonly string[];
  /** Port of the agent's server. */
  port: () => number;
  labels: Readonly<Record<string, string>>;
  /** What the container runtime can do. */
  features: RuntimeFeatures;
  /** What it says of its handlers. */
  handlers: readonly RuntimeHandler[];
  capacity: Capacity;
  /** What device plugins add to it now. */
  devices: () => Capacity;
  info: NodeInfo;
  /** What the node is short of. */
  has: (pressure: Pressure) => boolean;
  /** Why pods cannot run now; undefined when they can. */
  notReady: () => Promise<string | undefined>;
  images: () => Promise<Image[]>;
  /** Whether pods can have microVMs; undefined when that was not asked for. */
  microvms: () => MicrovmState;
  /** Volumes that must not be detached, and who waits for the API to know of them. */
  volumes: { volumesInUse(): string[]; reported(names: readonly string[]): void };
};

/**
 * The API merges addresses by their type, of which a node of two families has two: the list is written
 * as a whole, as the kubelet does. Source: strategic merge patch, directive `replace`.
 */
const WHOLE_LIST = { $patch: 'replace' };

/** Registers the node and keeps its status true. */
export class NodeReporter {
  readonly #options: NodeReporterOptions;
  #sent: Node['status'] | undefined;
  #sentAtMs = 0;
  #node: Node | undefined;
  #wake: () => void = () => {};
  #poked = false;

  constructor(options: NodeReporterOptions) {
    this.#options = options;
  }

  /** Something changed: report now, not at the next look. */
  poke(): void {
    this.#poked = true;
    this.#wake();
  }

  /** Creates the Node object, or takes it over with this agent's labels. Retries until `signal`. */
  async register(signal: AbortSignal): Promise<Node> {
    const { clock, log, nodeName } = this.#options;
    for (let failures = 1; ; failures++) {
      try {
        this.#node = await this.#createOrAdopt();
        return this.#node;
      } catch (error) {
        signal.throwIfAborted();
        log.warn('could not register the node', { node: nodeName, error: errorText(error) });
        await clock.sleep(backoffMs(failures, RETRY), { signal });
      }
    }
  }

  async #createOrAdopt(): Promise<Node> {
    const { api, nodeName, labels } = this.#options;
    const own = {
      'kubernetes.io/hostname': nodeName,
      'kubernetes.io/os': 'linux',
      'kubernetes.io/arch': architecture(),
      'beta.kubernetes.io/os': 'linux',
      'beta.kubernetes.io/arch': architecture(),
      ...labels,
    };
    const status = await this.#status(undefined);
    const node: Node = {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: nodeName, labels: own },
      spec: {},
      ...(status ? { status } : {}),
    };
    try {
      return await api.create(nodes, node);
    } catch (error) {
      if (!isStatusError(error, 'AlreadyExists')) throw error;
    }
    const there = await api.get(nodes, { name: nodeName });
    const missing = Object.entries(own).some(([k, v]) => there.metadata.labels?.[k] !== v);
    if (!missing) return there;
    const body = { metadata: { labels: own } };
    return api.patch(nodes, { name: nodeName }, { type: 'merge', body });
  }

  /** Reports until `signal`; `onReady` is called once the API has the node as Ready. */
  async run(signal: AbortSignal, onReady: () => void): Promise<void> {
    const { clock, log, nodeName } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      this.#poked = false;
      try {
        const ready = await this.#report();
        failures = 0;
        if (ready) onReady();
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        if (isStatusError(error, 'NotFound')) await this.register(signal).catch(() => undefined);
        log.warn('could not report the node status', { node: nodeName, error: errorText(error) });
      }
      if (this.#poked && failures === 0) continue; // something changed meanwhile
      const woken = new Promise<void>((resolve) => (this.#wake = resolve));
      const timer = new AbortController();
      const until = AbortSignal.any([signal, timer.signal]);
      const ms = failures > 0 ? backoffMs(failures, RETRY) : CHECK_MS;
      await Promise.race([woken, clock.sleep(ms, { signal: until }).catch(() => undefined)]);
      timer.abort();
    }
  }

  /** Says by a label whether the scheduler may send microVMs here. */
  async #label(): Promise<void> {
    const { api, nodeName, microvms } = this.#options;
    const value = microvms()?.ready ? 'true' : undefined;
    if (this.#node?.metadata.labels?.[MICROVM_LABEL] === value) return;
    const body = { metadata: { labels: { [MICROVM_LABEL]: value ?? null } } };
    this.#node = await api.patch(nodes, { name: nodeName }, { type: 'merge', body });
  }

  async #report(): Promise<boolean> {
    const { api, nodeName, clock } = this.#options;
    await this.#label();
    const status = await this.#status(this.#sent);
    const ready = status?.conditions?.find((c) => c.type === 'Ready')?.status === 'True';
    const inUse = status?.volumesInUse ?? [];
    const due = clock.now() - this.#sentAtMs >= REPEAT_MS;
    if (!due && isDeepStrictEqual(withoutHeartbeat(status), withoutHeartbeat(this.#sent))) {
      this.#options.volumes.reported(inUse);
      return ready;
    }
    // A strategic merge leaves capacity keys and conditions of others alone.
    const addresses = [...(status?.addresses ?? []), WHOLE_LIST];
    const body = { status: { ...status, addresses, images: [...(status?.images ?? [])] } };
    await api.patch(
      nodes,
      { name: nodeName },
      { type: 'strategic', body },
      { subresource: 'status' },
    );
    this.#options.volumes.reported(inUse);
    this.#sent = status;
    this.#sentAtMs = clock.now();
    return ready;
  }

  async #status(before: Node['status'] | undefined): Promise<Node['status']> {
    const {
      nodeName,
      ips,
      port,
      capacity,
      devices,
      info,
      features,
      handlers,
      images,
      volumes,
      microvms,
    } = this.#options;
    const list = await images().catch((): Image[] => []);
    return {
      addresses: [
        ...ips.map((address) => ({ type: 'InternalIP', address })),
        { type: 'Hostname', address: nodeName },
      ],
      capacity: { ...capacity.capacity, ...devices().capacity },
      allocatable: { ...capacity.allocatable, ...devices().allocatable },
      conditions: await this.#conditions(before),
      daemonEndpoints: { kubeletEndpoint: { Port: port() } },
      images: list
        .sort((a, b) => b.size - a.size)
        .slice(0, MAX_IMAGES)
        .map((image) => ({
          names: [...image.repoDigests, ...image.repoTags],
          sizeBytes: image.size,
        })),
      nodeInfo: info,
      features: { supplementalGroupsPolicy: features.supplementalGroupsPolicy },
      runtimeHandlers: [
        ...new Set(['', ...handlers.map(({ name }) => name)])
          .values()
          .map((name) => runtimeHandler(name, handlerFeatures(name, { features }, handlers))),
        ...(microvms()?.ready
          ? [runtimeHandler(MICROVM_HANDLER, featuresOf(MICROVM_RUNTIME))]
          : []),
      ],
      volumesInUse: volumes.volumesInUse(),
    };
  }

  async #conditions(before: Node['status'] | undefined): Promise<Condition[]> {
    const { clock, has, notReady, nodeName, events } = this.#options;
    const now = formatTime(clock.now());
    const why = await notReady().catch((error: unknown) => errorText(error));
    const facts: { type: string; bad: boolean; texts: Texts; reasons: Texts }[] = [
      {
        type: 'MemoryPressure',
        bad: has('MemoryPressure'),
        texts: [
          'kubelet has sufficient memory available',
          'kubelet has insufficient memory available',
        ],
        reasons: ['KubeletHasSufficientMemory', 'KubeletHasInsufficientMemory'],
      },
      {
        type: 'DiskPressure',
        bad: has('DiskPressure'),
        texts: ['kubelet has no disk pressure', 'kubelet has disk pressure'],
        reasons: ['KubeletHasNoDiskPressure', 'KubeletHasDiskPressure'],
      },
      {
        type: 'PIDPressure',
        bad: has('PIDPressure'),
        texts: ['kubelet has sufficient PID available', 'kubelet has insufficient PID available'],
        reasons: ['KubeletHasSufficientPID', 'KubeletHasInsufficientPID'],
      },
    ];
    const conditions = facts.map(({ type, bad, texts, reasons }): Condition => {
      const index = bad ? 1 : 0;
      const status = bad ? 'True' : 'False';
      return { type, status, reason: reasons[index], message: texts[index] };
    });
    conditions.push(
      why === undefined
        ? {
            type: 'Ready',
            status: 'True',
            reason: 'KubeletReady',
            message: 'kubelet is posting ready status',
          }
        : { type: 'Ready', status: 'False', reason: 'KubeletNotReady', message: why },
    );
    const microvms = this.#options.microvms();
    if (microvms) {
      const { ready, reason, message } = microvms;
      conditions.push({
        type: MICROVM_CONDITION,
        status: ready ? 'True' : 'False',
        reason,
        message,
      });
    }
    return conditions.map((condition) => {
      const old = (before ?? this.#node?.status)?.conditions?.find(
        (c) => c.type === condition.type,
      );
      const same = old?.status === condition.status;
      if (!same && before) {
        const reason = eventReason(condition);
        const about: Node = { kind: 'Node', metadata: { name: nodeName, uid: nodeName } };
        const message = `Node ${nodeName} status is now: ${reason}`;
        events.record(about, { type: 'Normal', reason, message });
      }
      return {
        ...condition,
        lastHeartbeatTime: now,
        lastTransitionTime: (same && old?.lastTransitionTime) || now,
      };
    });
  }
}

/** `NodeReady`, `NodeHasDiskPressure`…: what a node's event says of a condition that changed. */
function eventReason({ type, status, reason = '' }: Condition): string {
  if (type === 'Ready') return status === 'True' ? 'NodeReady' : 'NodeNotReady';
  if (type === MICROVM_CONDITION) return status === 'True' ? 'MicroVMReady' : 'MicroVMNotReady';
  return reason.replace('Kubelet', 'Node');
}

/** Of the good and the bad case. */
type Texts = readonly [string, string];

const withoutHeartbeat = (status: Node['status'] | undefined): unknown => ({
  ...status,
  conditions: status?.conditions?.map((c) => ({ ...c, lastHeartbeatTime: '' })),
});

const runtimeHandler = (
  name: string,
  { recursiveReadOnlyMounts, userNamespaces }: RuntimeFeatures,
) => ({ name, features: { recursiveReadOnlyMounts, userNamespaces } });
