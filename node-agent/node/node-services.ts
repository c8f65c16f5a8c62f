import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { Amounts } from '#api/pod-resources.ts';
import type { Pod, Service } from '#api/types.ts';
import type { EventRecorder } from '#client/events.ts';
import type { ResourceFacts } from '#node-agent/containers/container-resources.ts';
import type { Cgroups } from '#node-agent/node/cgroups.ts';
import type { HostFacts } from '#node-agent/containers/container-status.ts';
import type { DevicePlugins } from '#node-agent/devices/device-plugins.ts';
import type { DnsFacts } from '#node-agent/containers/dns-config.ts';
import type { RunHandler } from '#node-agent/containers/handlers.ts';
import type { Images } from '#node-agent/images/images.ts';
import type { StopOrders } from '#node-agent/pods/stop-orders.ts';
import type { PodPaths } from '#node-agent/pods/pod-files.ts';
import type { ResizePending } from '#node-agent/pods/pod-resize.ts';
import type { PodRuntimes } from '#node-agent/pods/pod-runtimes.ts';
import type { VolumeServices } from '#node-agent/storage/pod-volumes.ts';
import type { Probes } from '#node-agent/containers/probes.ts';
import type { IdRanges } from '#node-agent/pods/id-ranges.ts';
import type {
  RuntimeFeatures,
  RuntimeService,
  UserNamespace,
} from '#node-agent/runtime/service.ts';
import type { Slots } from '#node-agent/pods/slots.ts';
import type { StatusWriter } from '#node-agent/pods/status-writer.ts';
import type { VolumeUsage } from '#node-agent/storage/volume-usage.ts';

/** What the pods of a node share: everything a worker needs besides its pod. */
export type NodeServices = {
  nodeName: string;
  host: HostFacts;
  /** What pods may use in all, as in `amountsOf`. */
  allocatable: Amounts;
  resourceFacts: ResourceFacts;
  podPidsLimit: number | undefined;
  clusterDomain: string;
  dns: () => DnsFacts;
  paths: PodPaths;
  /** Pods that the node itself has begun to end. */
  stopOrders: StopOrders;
  clock: Clock;
  log: Log;
  events: EventRecorder;
  runtime: RuntimeService;
  /** What the runtime of a pod's RuntimeClass honours. */
  features: (pod: Pod) => RuntimeFeatures;
  /** The ids of a pod of its own; undefined for those of the host. Throws ConfigError. */
  users: (pod: Pod) => UserNamespace | undefined;
  idRanges: Pick<IdRanges, 'release'>;
  runtimes: PodRuntimes;
  images: Images;
  probes: Probes;
  handlers: RunHandler;
  volumes: VolumeServices & {
    usage: VolumeUsage;
    /** Tells the pod's worker of changes of what the pod refers to, until `forget`. */
    follow(pod: Pod): void;
    forget(uid: string): void;
    /** Ends what is followed for no pod any more; to be called now and then. */
    sweep(): void;
  };
  /** Undefined where the host lets nobody make groups. */
  cgroups: Cgroups | undefined;
  /** Services whose addresses a pod's environment tells. */
  services: (namespace: string) => Service[];
  status: StatusWriter;
  /** Bound of sandboxes made at a time. */
  sandboxSlots: Slots;
  /** Why pods with a network of their own cannot be made now. */
  networkProblem: () => string | undefined;
  /** Devices that plugins offer. */
  devices: DevicePlugins;
  /** Why the node cannot grant what a pod asks for beside its other pods; undefined when it can. */
  judgeResize: (pod: Pod) => ResizePending | undefined;
  /** The runtime's handler for a pod's RuntimeClass; '' is its default. */
  runtimeHandler: (pod: Pod) => string;
};
