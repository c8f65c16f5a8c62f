import type { Clock } from '#base/clock.ts';
import type {
  ConfigMap,
  Container,
  KubeObject,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Secret,
} from '#api/types.ts';
import type { Resource } from '#client/api.ts';
import type { Informer } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { configMaps, secrets } from '#client/resources.ts';
import { pullSecretNames } from '#node-agent/pods/referenced-objects.ts';
import type { ReferencedObjects } from '#node-agent/storage/volume-type.ts';

/**
 * A watch nobody needs stays this long: the next pod often asks for the same. Not longer, because
 * the API server lets a node read what its pods refer to, and refuses the watch without a pod.
 */
const LINGER_MS = 15_000;
/** Version of an object that is not there. */
const MISSING = '';

export type Reference = { resource: 'configmaps' | 'secrets'; name: string };

/** The ConfigMaps and Secrets of its namespace that a pod makes use of, each once. */
export function referencesOf(pod: Pod): Reference[] {
  const { spec } = pod;
  const found = new Map<string, Reference>();
  const add = (resource: Reference['resource'], name: string | undefined): void => {
    if (name) found.set(`${resource}/${name}`, { resource, name });
  };
  for (const { configMap, secret, projected } of spec.volumes ?? []) {
    add('configmaps', configMap?.name);
    add('secrets', secret?.secretName);
    for (const source of projected?.sources ?? []) {
      add('configmaps', source.configMap?.name);
      add('secrets', source.secret?.name);
    }
  }
  const containers = [
    ...(spec.initContainers ?? []),
    ...spec.containers,
    ...((spec.ephemeralContainers ?? []) as Container[]),
  ];
  for (const { env, envFrom } of containers) {
    for (const { valueFrom } of env ?? []) {
      add('configmaps', valueFrom?.configMapKeyRef?.name);
      add('secrets', valueFrom?.secretKeyRef?.name);
    }
    for (const { configMapRef, secretRef } of envFrom ?? []) {
      add('configmaps', configMapRef?.name);
      add('secrets', secretRef?.name);
    }
  }
  for (const name of pullSecretNames(pod)) add('secrets', name);
  return [...found.values()];
}

type Entry = {
  resource: Resource;
  fieldSelector: string;
  namespace: string;
  name: string;
  users: Set<string>;
  informer: Informer | undefined;
  stop: () => void;
  /** An object that says it will never change; nobody watches it. */
  fixed: KubeObject | undefined;
  /** Version that was last read or told of; undefined while nobody has read it. */
  seen: string | undefined;
  unusedSinceMs: number | undefined;
};

export type WatchedObjectsOptions = {
  informers: Informers;
  /** Reads one object from the API. */
  direct: ReferencedObjects;
  clock: Clock;
  /** Something that this pod has read is different now. */
  onChange: (uid: string) => void;
};

/**
 * What the pods of a node refer to, each object watched once however many use it. Reads are answered
 * from the watch where it has the object, from the API otherwise.
 */
export class WatchedObjects implements ReferencedObjects {
  readonly #options: WatchedObjectsOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #byPod = new Map<string, ReadonlySet<string>>();

  constructor(options: WatchedObjectsOptions) {
    this.#options = options;
  }

  async configMap(namespace: string, name: string): Promise<ConfigMap | undefined> {
    const { direct } = this.#options;
    const key = `configmaps/${namespace}/${name}`;
    return this.#read(key, () => direct.configMap(namespace, name));
  }

  async secret(namespace: string, name: string): Promise<Secret | undefined> {
    const { direct } = this.#options;
    const key = `secrets/${namespace}/${name}`;
    return this.#read(key, () => direct.secret(namespace, name));
  }

  claim(namespace: string, name: string): Promise<PersistentVolumeClaim | undefined> {
    return this.#options.direct.claim(namespace, name);
  }

  persistentVolume(name: string): Promise<PersistentVolume | undefined> {
    return this.#options.direct.persistentVolume(name);
  }

  /** Watches what a pod refers to, until `forget`. Repeated when its spec may have changed. */
  follow(pod: Pod): void {
    const { uid = '', namespace = '' } = pod.metadata;
    const keys = new Set<string>();
    for (const { resource, name } of referencesOf(pod)) {
      const key = `${resource}/${namespace}/${name}`;
      keys.add(key);
      const entry = this.#entries.get(key) ?? this.#open(key, resource, namespace, name);
      entry.users.add(uid);
      entry.unusedSinceMs = undefined;
    }
    for (const key of this.#byPod.get(uid) ?? []) if (!keys.has(key)) this.#leave(key, uid);
    if (keys.size > 0) this.#byPod.set(uid, keys);
    else this.#byPod.delete(uid);
  }

  forget(uid: string): void {
    for (const key of this.#byPod.get(uid) ?? []) this.#leave(key, uid);
    this.#byPod.delete(uid);
    this.sweep();
  }

  #leave(key: string, uid: string): void {
    const entry = this.#entries.get(key);
    if (!entry?.users.delete(uid) || entry.users.size > 0) return;
    entry.unusedSinceMs = this.#options.clock.now();
  }

  /** Ends watches that have been of no use for a while. To be called now and then. */
  sweep(): void {
    const now = this.#options.clock.now();
    for (const [key, entry] of this.#entries) {
      if (entry.unusedSinceMs === undefined || now - entry.unusedSinceMs < LINGER_MS) continue;
      this.#close(entry);
      this.#entries.delete(key);
    }
  }

  #open(key: string, plural: Reference['resource'], namespace: string, name: string): Entry {
    const resource = (plural === 'secrets' ? secrets : configMaps) as Resource;
    const fieldSelector = `metadata.name=${name}`;
    const informer = this.#options.informers.of(resource, { namespace, fieldSelector });
    const entry: Entry = {
      resource,
      fieldSelector,
      namespace,
      name,
      users: new Set(),
      informer,
      stop: () => {},
      fixed: undefined,
      seen: undefined,
      unusedSinceMs: undefined,
    };
    this.#entries.set(key, entry);
    entry.stop = informer.onChange(({ type, object }) => {
      if (object.metadata.name !== name) return;
      const version = type === 'deleted' ? MISSING : versionOf(object);
      this.#tell(entry, version);
      if (type !== 'deleted' && object['immutable'] === true) {
        entry.fixed = object;
        queueMicrotask(() => this.#close(entry));
      }
    });
    return entry;
  }

  #close(entry: Entry): void {
    const { resource, namespace, fieldSelector } = entry;
    if (!entry.informer) return;
    entry.stop();
    entry.informer = undefined;
    this.#options.informers.drop(resource, { namespace, fieldSelector });
  }

  #tell(entry: Entry, version: string): void {
    if (entry.seen === undefined || entry.seen === version) return;
    entry.seen = version;
    for (const uid of entry.users) this.#options.onChange(uid);
  }

  async #read<T extends KubeObject>(
    key: string,
    direct: () => Promise<T | undefined>,
  ): Promise<T | undefined> {
    const known = this.#known(key);
    if (known) return known as T;
    // Not watched yet, or not there as far as the watch has come: a read tells what is true now.
    const object = await direct();
    const latest = this.#known(key);
    if (latest) return latest as T;
    const entry = this.#entries.get(key);
    if (entry) entry.seen = object ? versionOf(object) : MISSING;
    return object;
  }

  /** The object as the watch has it. */
  #known(key: string): KubeObject | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    const { informer, fixed, namespace, name } = entry;
    const object = fixed ?? (informer?.hasSynced() ? informer.get({ namespace, name }) : undefined);
    if (object) entry.seen = versionOf(object);
    return object;
  }
}

const versionOf = ({ metadata }: KubeObject): string => metadata.resourceVersion ?? MISSING;
