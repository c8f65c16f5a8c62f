import { mkdir, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { attachmentName, uniqueVolumeName } from '#api/csi-names.ts';
import { isStatusError } from '#api/status.ts';
import type { CSIDriver, Pod } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { nodes, volumeAttachments } from '#client/resources.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { CsiDriver, NodeCapability, VolumeStats } from '#node-agent/csi/csi-driver.ts';
import { growVolume } from '#node-agent/csi/csi-growth.ts';
import { type CsiPlaces, csiPlaces } from '#node-agent/csi/csi-paths.ts';
import {
  allRecords,
  type CsiRecord,
  hasRecord,
  recordsOf,
  writeRecord,
} from '#node-agent/csi/csi-records.ts';
import { driverNamed, ignoring, releaseVolume } from '#node-agent/csi/csi-release.ts';
import {
  capabilityOf,
  checkLifecycle,
  type CsiRequest,
  groupAccess,
  needsAttachment,
  podContext,
  type SecretRef,
  TOKENS_KEY,
} from '#node-agent/csi/csi-request.ts';
import { inUseText } from '#node-agent/storage/local-volumes.ts';
import { isMounted } from '#node-agent/storage/mounts.ts';
import type { PodPaths } from '#node-agent/pods/pod-files.ts';
import { createSlots, type Slots } from '#node-agent/pods/slots.ts';
import { giveToGroup } from '#node-agent/storage/volume-ownership.ts';
import {
  NotYetError,
  type PodTokens,
  type ReferencedObjects,
} from '#node-agent/storage/volume-type.ts';

/** How long a mount waits for the node's status to say that the volume is in use. */
const REPORT_MS = 10_000;

export type CsiVolumesOptions = {
  api: Api;
  nodeName: string;
  rootDir: string;
  paths: PodPaths;
  clock: Clock;
  log: Log;
  objects: () => ReferencedObjects;
  tokens: PodTokens;
  /** The driver's object, as the API has it now. */
  driverObject: (name: string) => CSIDriver | undefined;
  driver: (name: string) => CsiDriver | undefined;
};

/** How full a volume of a pod is; `name` is the PersistentVolume's. */
export type MeasuredVolume = {
  uid: string;
  volume: string;
  claim: string;
  name: string;
  stats: VolumeStats;
};

/**
 * The volumes of this node that CSI drivers make: staged once for the node, published for each pod,
 * and given back in the opposite order. What there is stands on the disk (csi-records.ts).
 */
export class CsiVolumes {
  readonly #options: CsiVolumesOptions;
  /** One thing at a time for each volume. */
  readonly #locks = new Map<string, Slots>();
  readonly #inUse: Set<string>;
  /** Pods with volumes that outlive them. */
  readonly #persistent: Set<string>;
  #reported: ReadonlySet<string> = new Set();
  #onReported: () => void = () => {};
  /** Volumes that were published since the agent started, by target. */
  readonly #published = new Set<string>();
  /** Of those, the ones behind claims, by target. */
  readonly #mounted = new Map<string, { request: CsiRequest; places: CsiPlaces }>();
  /** The same for what was staged, by staging path. */
  readonly #staged = new Set<string>();
  /** Asks for a report of `volumesInUse`; set by whoever reports. */
  onInUse: () => void = () => {};

  constructor(options: CsiVolumesOptions) {
    this.#options = options;
    const records = allRecords(options.paths);
    this.#persistent = new Set(
      records.filter(({ lifecycle }) => lifecycle === 'Persistent').map(({ uid }) => uid),
    );
    this.#inUse = new Set(
      records
        .filter(({ attachable }) => attachable)
        .map(({ driver, handle }) => uniqueVolumeName(driver, handle)),
    );
  }

  /** As node.status.volumesInUse: nobody may detach these. */
  volumesInUse(): string[] {
    return [...this.#inUse].sort();
  }

  /** The API has this list now. */
  reported(names: readonly string[]): void {
    this.#reported = new Set(names);
    this.#onReported();
  }

  /** Some driver wants its volumes to be published again and again. */
  republishes(driver: string): boolean {
    return this.#options.driverObject(driver)?.spec.requiresRepublish === true;
  }

  /** The pod has volumes that outlive it, and that may grow while it runs. */
  hasPersistent(uid: string): boolean {
    return this.#persistent.has(uid);
  }

  /**
   * Makes the volume for the pod; returns its path, for a block volume that of the device. Safe to
   * repeat; a `refresh` does nothing for a pod that has been released. Throws NotYetError while others have to do their part, CsiError for a driver's own.
   */
  async mount(request: CsiRequest, { refresh }: { refresh: boolean }): Promise<string> {
    const driver = driverNamed(this.#options, request.driver);
    const object = this.#options.driverObject(request.driver);
    checkLifecycle(request, object);
    const capabilities = await driver.capabilities();
    const places = this.#places(request);
    return this.#exclusively(request, async () => {
      // Released while this waited: the pod has ended.
      if (refresh && !hasRecord(places.podRecord)) return places.target;
      this.#checkExclusive(request);
      const attachable = needsAttachment(request, object);
      await this.#note(request, places, attachable);
      const publishContext = attachable ? await this.#attachment(request) : {};
      const steps = { request, driver, object, capabilities, places, publishContext };
      await this.#stage(steps);
      await this.#publish(steps);
      if (request.claim) this.#mounted.set(places.target, { request, places });
      if (request.growth && capabilities.has('EXPAND_VOLUME')) await this.#grow(steps);
      return places.target;
    });
  }

  /** Gives back all that a pod has. Throws when a driver cannot be reached; may be repeated. */
  async releasePod(uid: string): Promise<void> {
    for (const record of recordsOf(this.#options.paths, uid)) {
      await this.#exclusively(record, () => this.#release(record));
    }
    this.#persistent.delete(uid);
  }

  /** Asks drivers that can tell how full the volumes behind claims are; failures are told. */
  async measure(failed: (volume: string, error: unknown) => void): Promise<MeasuredVolume[]> {
    const measured: MeasuredVolume[] = [];
    for (const { request, places } of this.#mounted.values()) {
      const driver = this.#options.driver(request.driver);
      try {
        if (!driver || !(await driver.capabilities()).has('GET_VOLUME_STATS')) continue;
        const stats = await driver.stats(request.handle, places.target, places.staging);
        const { volume, claim, name, pod } = request;
        measured.push({ uid: pod.metadata.uid ?? '', volume, claim, name, stats });
      } catch (error) {
        failed(request.name, error);
      }
    }
    return measured;
  }

  #checkExclusive({ accessModes, driver, handle, name, pod }: CsiRequest): void {
    if (!accessModes.includes('ReadWriteOncePod')) return;
    const used = allRecords(this.#options.paths).some(
      (one) => one.driver === driver && one.handle === handle && one.uid !== pod.metadata.uid,
    );
    if (used) throw new ConfigError(inUseText(name));
  }

  #places(request: CsiRequest): CsiPlaces {
    return csiPlaces(this.#options, { ...request, uid: request.pod.metadata.uid ?? '' });
  }

  #exclusively<T>(
    { driver, handle }: { driver: string; handle: string },
    task: () => Promise<T>,
  ): Promise<T> {
    const key = uniqueVolumeName(driver, handle);
    const lock = this.#locks.get(key) ?? createSlots(1);
    this.#locks.set(key, lock);
    return lock.run(task);
  }

  /** Writes down that there will be something, before there is. */
  async #note(request: CsiRequest, places: CsiPlaces, attachable: boolean): Promise<void> {
    const { nodeName } = this.#options;
    const { name, driver, handle, block, lifecycle, pod } = request;
    const uid = pod.metadata.uid ?? '';
    const record: CsiRecord = { uid, name, driver, handle, block, lifecycle, attachable };
    const attachmentId = attachable ? attachmentName(handle, driver, nodeName) : '';
    if (lifecycle === 'Persistent') this.#persistent.add(uid);
    if (hasRecord(places.podRecord)) return;
    await writeRecord(places.podRecord, record, { nodeName, attachmentId });
  }

  /** Waits until the node says that it uses the volume; returns what the attacher said of it. */
  async #attachment(request: CsiRequest): Promise<Record<string, string>> {
    const { api, nodeName } = this.#options;
    const { driver, handle, name } = request;
    const unique = uniqueVolumeName(driver, handle);
    if (!this.#inUse.has(unique)) {
      this.#inUse.add(unique);
      this.onInUse();
    }
    await this.#untilReported(unique);
    // Read after the report: whoever is about to detach has seen it, or has said so before.
    const node = await api.get(nodes, { name: nodeName });
    const listed = node.status?.volumesAttached?.some((one) => one.name === unique) ?? false;
    const attachment = await api
      .get(volumeAttachments, { name: attachmentName(handle, driver, nodeName) })
      .catch((error: unknown) => {
        if (isStatusError(error, 'NotFound')) return undefined;
        throw error;
      });
    const { attached, attachmentMetadata, attachError } = attachment?.status ?? {};
    if (attached && listed) return attachmentMetadata ?? {};
    if (attachError?.message)
      throw new ConfigError(
        `AttachVolume.Attach failed for volume "${name}" : ${attachError.message}`,
      );
    throw new NotYetError(`volume "${name}" is not attached to node "${nodeName}" yet`);
  }

  async #untilReported(unique: string): Promise<void> {
    if (this.#reported.has(unique)) return;
    const limit = new AbortController();
    const timeout = this.#options.clock.sleep(REPORT_MS, { signal: limit.signal }).then(
      () => 'late',
      () => 'late',
    );
    try {
      while (!this.#reported.has(unique)) {
        const told = new Promise<string>((resolve) => {
          const before = this.#onReported;
          this.#onReported = () => {
            before();
            resolve('told');
          };
        });
        if ((await Promise.race([told, timeout])) === 'late')
          throw new NotYetError('the node could not report the volume as in use yet');
      }
    } finally {
      limit.abort();
      this.#onReported = () => {};
    }
  }

  async #stage(steps: Steps): Promise<void> {
    const { request, driver, object, capabilities, places, publishContext } = steps;
    if (request.lifecycle === 'Ephemeral' || !capabilities.has('STAGE_UNSTAGE_VOLUME')) return;
    if (this.#staged.has(places.staging) || isMounted(places.staging)) return;
    await mkdir(places.staging, { recursive: true, mode: 0o750 });
    await driver.stage({
      volumeId: request.handle,
      publishContext,
      stagingTargetPath: places.staging,
      volumeCapability: capabilityOf(request, object, capabilities),
      secrets: await this.#secret(request.secrets.stage),
      volumeContext: request.attributes,
    });
    this.#staged.add(places.staging);
  }

  async #publish(steps: Steps): Promise<void> {
    const { request, driver, object, capabilities, places, publishContext } = steps;
    const again = object?.spec.requiresRepublish === true;
    // An agent that was started anew finds what is there; whoever uses it must not be disturbed.
    const there = this.#published.has(places.target) || isMounted(places.target);
    if (!there || again) {
      await mkdir(dirname(places.target), { recursive: true, mode: 0o750 });
      const staged = request.lifecycle === 'Persistent' && capabilities.has('STAGE_UNSTAGE_VOLUME');
      const tokens = await this.#tokens(request.pod, object);
      const inSecrets = object?.spec.serviceAccountTokenInSecrets === true;
      await driver.publish({
        volumeId: request.handle,
        publishContext,
        stagingTargetPath: staged ? places.staging : '',
        targetPath: places.target,
        volumeCapability: capabilityOf(request, object, capabilities),
        readonly: request.readOnly,
        secrets: {
          ...(await this.#secret(request.secrets.publish)),
          ...(inSecrets ? tokens : {}),
        },
        volumeContext: {
          ...request.attributes,
          ...podContext(request, object),
          ...(inSecrets ? {} : tokens),
        },
      });
    }
    if (request.block) {
      const link = join(places.podRecord, 'device');
      await symlink(places.target, link).catch(ignoring('EEXIST'));
    } else if (!there) {
      const group = groupAccess(request, object, capabilities);
      const onlyIfNeeded =
        request.pod.spec.securityContext?.fsGroupChangePolicy === 'OnRootMismatch';
      if (group.by === 'agent')
        await giveToGroup(places.target, group.gid, 'writable', { onlyIfNeeded });
    }
    this.#published.add(places.target);
  }

  async #grow({ request, driver, object, capabilities, places }: Steps): Promise<void> {
    if (!request.growth) return;
    await growVolume({
      api: this.#options.api,
      driver,
      growth: request.growth,
      call: {
        volumeId: request.handle,
        volumePath: places.target,
        stagingTargetPath: capabilities.has('STAGE_UNSTAGE_VOLUME') ? places.staging : '',
        volumeCapability: capabilityOf(request, object, capabilities),
        secrets: await this.#secret(request.secrets.expand),
      },
    });
  }

  async #secret(ref: SecretRef | undefined): Promise<Record<string, string>> {
    if (!ref) return {};
    const secret = await this.#options.objects().secret(ref.namespace, ref.name);
    if (!secret) throw new ConfigError(`secret "${ref.namespace}/${ref.name}" not found`);
    return Object.fromEntries(
      Object.entries(secret.data ?? {}).map(([key, value]) => [
        key,
        Buffer.from(value, 'base64').toString('utf8'),
      ]),
    );
  }

  /** Source: CSIDriver.spec.tokenRequests. */
  async #tokens(pod: Pod, object: CSIDriver | undefined): Promise<Record<string, string>> {
    const requests = object?.spec.tokenRequests ?? [];
    if (requests.length === 0) return {};
    const tokens: Record<string, object> = {};
    for (const { audience, expirationSeconds = 3600 } of requests) {
      const token = await this.#options.tokens.token(pod, audience || undefined, expirationSeconds);
      tokens[audience] = { token, expirationTimestamp: expiryOf(token) };
    }
    return { [TOKENS_KEY]: JSON.stringify(tokens) };
  }

  async #release(record: CsiRecord): Promise<void> {
    const { shared } = await releaseVolume(this.#options, record, (path) => {
      this.#published.delete(path);
      this.#mounted.delete(path);
      this.#staged.delete(path);
    });
    if (shared) return;
    const unique = uniqueVolumeName(record.driver, record.handle);
    if (this.#inUse.delete(unique)) this.onInUse();
    this.#locks.delete(unique);
  }
}

type Steps = {
  request: CsiRequest;
  driver: CsiDriver;
  object: CSIDriver | undefined;
  capabilities: ReadonlySet<NodeCapability>;
  places: CsiPlaces;
  publishContext: Record<string, string>;
};

/** When a token runs out, out of the token itself. Source: RFC 7519. */
function expiryOf(token: string): string {
  const [, payload = ''] = token.split('.');
  const { exp = 0 } = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as {
    exp?: number;
  };
  return new Date(exp * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
}
