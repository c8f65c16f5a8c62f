import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { sha256 } from '#base/sha256.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { defaultPodSpec } from '#api/core/pod-defaults.ts';
import { isStatusError } from '#api/status.ts';
import type { Pod } from '#api/types.ts';
import { parseYaml } from '#api/yaml.ts';
import type { Api } from '#client/api.ts';
import type { Informer } from '#client/informer.ts';
import { pods } from '#client/resources.ts';
import type { PodWorkers } from '#node-agent/pods/pod-workers.ts';

/** Names of annotations. Source: Kubernetes documentation, "Create static Pods". */
export const STATIC = {
  source: 'kubernetes.io/config.source',
  hash: 'kubernetes.io/config.hash',
  mirror: 'kubernetes.io/config.mirror',
} as const;

/** How often files and mirrors are looked at: a few stat calls. */
const LOOK_MS = 2_000;

export const isMirror = ({ metadata }: Pod): boolean =>
  metadata.annotations?.[STATIC.mirror] !== undefined;
export const isStatic = (pod: Pod): boolean =>
  pod.metadata.annotations?.[STATIC.source] === 'file' && !isMirror(pod);

/**
 * A pod out of a manifest, YAML or JSON: named after its node, with an identity that is another one
 * when anything in the file is. Throws an Error that says what is wrong where.
 */
export function readStaticPod(
  text: string,
  { file, nodeName }: { file: string; nodeName: string },
): Pod {
  const [document, ...rest] = parseYaml(text, { source: file }).filter(({ value }) => value);
  const manifest = document?.value as Pod | undefined;
  if (!manifest || rest.length > 0) throw new Error(`${file}: want one Pod in the file`);
  if (manifest.kind !== 'Pod' || manifest.apiVersion !== 'v1')
    throw new Error(`${file}: want apiVersion v1 and kind Pod, not ${manifest.kind ?? 'nothing'}`);
  const { name, namespace = 'default', labels, annotations } = manifest.metadata ?? {};
  if (!name) throw new Error(`${file}: metadata.name is required`);
  if (!manifest.spec?.containers?.length)
    throw new Error(`${file}: spec.containers must have at least one container`);
  const { serviceAccountName: _, serviceAccount: __, ...spec } = manifest.spec;
  const uid = sha256(`${nodeName}\n${file}\n${text}`).slice(0, 32);
  const tolerations = [...(spec.tolerations ?? []), { operator: 'Exists', effect: 'NoExecute' }];
  const pod: Pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: `${name}-${nodeName}`,
      namespace,
      uid,
      ...(labels ? { labels } : {}),
      annotations: { ...annotations, [STATIC.source]: 'file', [STATIC.hash]: uid },
    },
    spec: { ...spec, nodeName, tolerations, enableServiceLinks: spec.enableServiceLinks ?? true },
  };
  defaultPodSpec(pod.spec, { standalone: true });
  return pod;
}

/** The object that shows a static pod to users of the API. */
export function mirrorOf({ metadata, spec }: Pod, node: { name: string; uid: string }): Pod {
  const { uid: hash = '', annotations, ...rest } = metadata;
  const owner = { apiVersion: 'v1', kind: 'Node', controller: true, ...node };
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      ...rest,
      annotations: { ...annotations, [STATIC.mirror]: hash },
      ownerReferences: [owner],
    },
    spec,
  };
}

export type StaticPodsOptions = {
  api: Api;
  nodeName: string;
  /** A directory of manifests, or one manifest. */
  path: string | undefined;
  /** Pods of this node. */
  informer: Informer<Pod>;
  nodeUid: () => string | undefined;
  clock: Clock;
  log: Log;
};

/** Runs the pods of local manifests, with or without an API server, and mirrors them to it. */
export class StaticPods {
  readonly #options: StaticPodsOptions;
  readonly #files = new Map<string, { stamp: string; pod: Pod | undefined }>();

  constructor(options: StaticPodsOptions) {
    this.#options = options;
  }

  /** Where a static pod's status is shown: its mirror, if there is one for this very manifest. */
  mirror({ metadata: { namespace, name = '', uid } }: Pod): Pod | undefined {
    const there = this.#options.informer.get({ namespace, name });
    return there?.metadata.annotations?.[STATIC.mirror] === uid ? there : undefined;
  }

  async run(workers: PodWorkers, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    const seen = new Set<string>();
    while (!signal.aborted) {
      this.look(workers);
      for (const pod of this.#pods()) {
        const mirror = this.mirror(pod);
        const key = mirror?.metadata.uid ?? '';
        // Its status has to be shown on an object that is new.
        if (key && !seen.has(key)) workers.wake(pod.metadata.uid ?? '');
        if (key) seen.add(key);
      }
      await this.#mirrorAll(signal).catch((error: unknown) =>
        log.warn('could not mirror static pods', { error: errorText(error) }),
      );
      await clock.sleep(LOOK_MS, { signal }).catch(() => undefined);
    }
  }

  /** Starts pods of new manifests, stops those whose manifest is gone or another one. */
  look(workers: PodWorkers): void {
    this.#read();
    const wanted = new Map(this.#pods().map((pod) => [pod.metadata.uid ?? '', pod]));
    for (const { pod } of workers.all()) {
      const { uid = '' } = pod.metadata;
      if (isStatic(pod) && !wanted.has(uid)) workers.stopStatic(uid);
    }
    for (const pod of wanted.values()) {
      const { namespace = '', name = '' } = pod.metadata;
      // One that is being replaced has to end first: they may want the same ports.
      if (!workers.find(namespace, name)) workers.startStatic(pod);
    }
  }

  #pods(): Pod[] {
    return [...this.#files.values()].flatMap(({ pod }) => pod ?? []);
  }

  #read(): void {
    const { path, nodeName, log } = this.#options;
    const found = new Set(path ? manifestsAt(path) : []);
    for (const file of this.#files.keys()) if (!found.has(file)) this.#files.delete(file);
    for (const file of found) {
      try {
        const { mtimeMs, size, ino } = statSync(file);
        const stamp = `${mtimeMs} ${size} ${ino}`;
        const known = this.#files.get(file);
        if (known?.stamp === stamp) continue;
        this.#files.set(file, { stamp, pod: known?.pod });
        const pod = readStaticPod(readFileSync(file, 'utf8'), { file, nodeName });
        this.#files.set(file, { stamp, pod });
      } catch (error) {
        // The pod of the last good version runs on.
        log.warn('could not read a static pod', { file, error: errorText(error) });
      }
    }
  }

  async #mirrorAll(signal: AbortSignal): Promise<void> {
    const { api, informer, nodeName, nodeUid } = this.#options;
    const wanted = new Map(
      this.#pods().map((pod) => [`${pod.metadata.namespace}/${pod.metadata.name}`, pod]),
    );
    for (const { metadata } of informer.list().filter(isMirror)) {
      const { namespace, name = '', uid = '', annotations, deletionTimestamp } = metadata;
      const pod = wanted.get(`${namespace}/${name}`);
      if (pod?.metadata.uid === annotations?.[STATIC.mirror] && !deletionTimestamp) continue;
      const options = { gracePeriodSeconds: 0, preconditions: { uid }, signal };
      await api.delete(pods, { namespace, name }, options).catch(ignoring('NotFound', 'Conflict'));
    }
    const uid = nodeUid();
    if (!uid) return;
    for (const pod of wanted.values()) {
      const { namespace, name = '' } = pod.metadata;
      if (informer.get({ namespace, name })) continue;
      const mirror = mirrorOf(pod, { name: nodeName, uid });
      await api.create(pods, mirror, { signal }).catch(ignoring('AlreadyExists'));
    }
  }
}

const ignoring =
  (...reasons: string[]) =>
  (error: unknown): void => {
    if (!reasons.some((reason) => isStatusError(error, reason))) throw error;
  };

/** Files of a directory but for hidden ones, in their order. */
function manifestsAt(path: string): string[] {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return [];
  if (!stats.isDirectory()) return [path];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => !entry.name.startsWith('.') && !entry.isDirectory())
    .map((entry) => join(path, entry.name))
    .sort();
}
