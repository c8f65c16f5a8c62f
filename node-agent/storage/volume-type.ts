import type {
  ConfigMap,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Secret,
  Volume,
} from '#api/types.ts';
import type { CsiVolumes } from '#node-agent/csi/csi-volumes.ts';
import type { LocalVolumes } from '#node-agent/storage/local-volumes.ts';
import type { ImageVolumes } from '#node-agent/storage/image-volumes.ts';
import type { DownwardSource } from '#node-agent/containers/downward-api.ts';
import type { TrustBundles } from '#node-agent/storage/trust-bundles.ts';

/** Objects that pods refer to, as they are now; undefined when they do not exist. */
export type ReferencedObjects = {
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
  claim(namespace: string, name: string): Promise<PersistentVolumeClaim | undefined>;
  persistentVolume(name: string): Promise<PersistentVolume | undefined>;
};

/** Service account tokens for pods; one that will run out is replaced in time. */
export type PodTokens = {
  token(pod: Pod, audience: string | undefined, expirationSeconds: number): Promise<string>;
};

export type VolumeContext = {
  pod: Pod;
  volume: Volume;
  /** The volume's own directory; its parent may not exist yet. */
  dir: string;
  local: LocalVolumes;
  trust: TrustBundles;
  objects: ReferencedObjects;
  tokens: PodTokens;
  downward: DownwardSource;
  csi: CsiVolumes;
  images: ImageVolumes;
  /** The pod has it already; only what changes while it runs is brought up to date. */
  refresh: boolean;
};

/** Somebody else's part of making a volume is not done yet: no fault, so nobody is warned at once. */
export class NotYetError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'NotYetError';
  }
}

export type VolumeType = {
  /** Directory name, as the kubelet's plugins have. */
  plugin: string;
  handles(volume: Volume): boolean;
  /**
   * Makes the volume, or brings its content up to date; returns its path on the host. Safe to repeat
   * at any time. Throws ConfigError when something it refers to is missing.
   */
  prepare(context: VolumeContext): Promise<string>;
  /** Content follows the API objects it shows: `prepare` is repeated while the pod runs. */
  live: boolean;
  /** Containers can only read it, whatever their mount says. */
  readOnly: boolean;
  /** Kept in memory, because it holds secrets. */
  inMemory: boolean;
};
