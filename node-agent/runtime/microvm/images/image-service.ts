import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { sha256 } from '#base/sha256.ts';
import { writeAtomic } from '#base/files.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Descriptor, ImageSettings } from '#base/oci/image-store.ts';
import {
  type AuthConfig,
  type Image,
  type ImageService,
  isRuntimeError,
  RuntimeError,
} from '#node-agent/runtime/service.ts';
import { createSlots } from '#node-agent/pods/slots.ts';
import { openContent } from './content.ts';
import { buildErofs, type ImageFacts } from './erofs-image.ts';
import { choosePlatform, readImageConfig, readManifest } from './manifest.ts';
import {
  digestName,
  parseReference,
  type Reference,
  taggedName,
} from '#base/oci/image-reference.ts';
import { openRepository, type Repository } from './registry-client.ts';
import { registryEndpoints } from './registry-hosts.ts';

/** Layers fetched at a time, over all pulls: more only share one network. */
const PARALLEL_LAYERS = 4;
/** Images unpacked at a time: each uses a core. */
const PARALLEL_BUILDS = 2;

/** An image as it is remembered. */
type ImageRecord = {
  /** Digest of its config. */
  id: string;
  manifest: string;
  /** Names the root file system: equal for images of equal layers. */
  chainId: string;
  settings: ImageSettings;
  repoTags: string[];
  repoDigests: string[];
  blobs: string[];
  sizeBytes: number;
};

/** What a container is made of. */
export type ImageInUse = {
  id: string;
  chainId: string;
  /** EROFS image file. */
  file: string;
  settings: ImageSettings;
  facts: ImageFacts;
};

export type MicrovmImages = ImageService & {
  /** The image that a container asks for, by id or any name. Throws NotFound. */
  open(image: string): ImageInUse;
  /** Removes what neither an image nor a container needs. */
  collect(): void;
};

export type ImagesConfig = {
  dir: string;
  /** `<host>/hosts.toml` files. */
  certsDir: string;
  /** Root file systems that containers use (chain ids). */
  inUse: () => ReadonlySet<string>;
  log: Log;
  /** A registry that says nothing for so long hangs; default 30 s. */
  idleMs?: number;
};

/** Images of the microVM runtime: content by digest, one EROFS file for each root file system. */
export function openImages(config: ImagesConfig): MicrovmImages {
  const { dir, log } = config;
  const erofsDir = join(dir, 'erofs');
  mkdirSync(erofsDir, { recursive: true, mode: 0o711 });
  const content = openContent(join(dir, 'blobs'));
  const recordsFile = join(dir, 'images.json');
  let records = readRecords(recordsFile).filter(({ chainId }) => existsSync(fileOf(chainId)));
  const building = new Map<string, Promise<ImageFacts>>();
  const layerSlots = createSlots(PARALLEL_LAYERS);
  const buildSlots = createSlots(PARALLEL_BUILDS);

  function fileOf(chainId: string): string {
    return join(erofsDir, `${chainId.replace('sha256:', '')}.erofs`);
  }
  const factsFileOf = (chainId: string): string => `${fileOf(chainId)}.json`;
  const save = (next: ImageRecord[]): void => {
    writeAtomic(recordsFile, JSON.stringify(next, null, 1));
    records = next;
  };

  function find(name: string): ImageRecord | undefined {
    const byId = records.find(({ id }) => id === name || id === `sha256:${name}`);
    if (byId) return byId;
    const reference = tryParse(name);
    if (!reference) return undefined;
    const names = namesOf(reference);
    return records.find((record) =>
      names.some((one) => record.repoTags.includes(one) || record.repoDigests.includes(one)),
    );
  }

  function build(chainId: string, layers: Descriptor[], diffIds: string[]): Promise<ImageFacts> {
    const known = readFacts(factsFileOf(chainId));
    if (known && existsSync(fileOf(chainId))) return Promise.resolve(known);
    let running = building.get(chainId);
    if (!running) {
      running = buildSlots
        .run(async () => {
          const facts = await buildErofs({
            layers: layers.map(({ digest, mediaType }, index) => ({
              file: content.file(digest) ?? '',
              mediaType,
              diffId: diffIds[index] ?? '',
            })),
            workDir: join(dir, 'unpack', chainId.replace('sha256:', '').slice(0, 16)),
            output: fileOf(chainId),
            // Shared by all who wait for this image: one that gives up must not end it.
            signal: new AbortController().signal,
          });
          writeAtomic(factsFileOf(chainId), JSON.stringify(facts));
          return facts;
        })
        .finally(() => building.delete(chainId));
      building.set(chainId, running);
    }
    return running;
  }

  async function pull(
    name: string,
    reference: Reference,
    auth: AuthConfig | undefined,
    signal: AbortSignal,
  ): Promise<string> {
    const { repository, manifest: top } = await resolve(config, reference, auth, signal);
    const topDigest = digestOf(top);
    if (reference.digest && reference.digest !== topDigest)
      throw new RuntimeError('Unknown', `image "${name}": the registry sent ${topDigest} instead`);
    const first = readManifest(name, top);
    const bytes =
      'index' in first ? await chosen(name, repository, choosePlatform(name, first.index)) : top;
    const read = readManifest(name, bytes);
    if (!('manifest' in read))
      throw new RuntimeError('Unknown', `image "${name}": an index in an index is not supported`);
    const { manifest } = read;
    const fetch = (one: Descriptor) =>
      layerSlots.run(() => content.ensure(one, () => repository.blob(one.digest)));
    const configBytes = readFileSync(await fetch(manifest.config));
    const imageConfig = readImageConfig(name, configBytes, manifest.layers.length);
    await Promise.all(manifest.layers.map(fetch));
    const chainId = chainIdOf(imageConfig.diffIds);
    const facts = await build(chainId, manifest.layers, imageConfig.diffIds);
    const id = manifest.config.digest;
    remember({
      id,
      manifest: digestOf(bytes),
      chainId,
      settings: imageConfig.config,
      repoTags: [taggedName(reference) ?? []].flat(),
      repoDigests: [digestName(reference, topDigest)],
      blobs: [id, ...manifest.layers.map(({ digest }) => digest)],
      sizeBytes: facts.sizeBytes,
    });
    return id;
  }

  /** A tag moves from the image that had it; names of the same image add up. */
  function remember(record: ImageRecord): void {
    const others = records
      .filter(({ id }) => id !== record.id)
      .map((one) => ({
        ...one,
        repoTags: one.repoTags.filter((tag) => !record.repoTags.includes(tag)),
      }));
    const before = records.find(({ id }) => id === record.id);
    const merged = {
      ...record,
      repoTags: [...new Set([...(before?.repoTags ?? []), ...record.repoTags])],
      repoDigests: [...new Set([...(before?.repoDigests ?? []), ...record.repoDigests])],
    };
    save([...others, merged]);
  }

  function collect(): void {
    const chains = new Set([
      ...records.map(({ chainId }) => chainId),
      ...config.inUse(),
      ...building.keys(),
    ]);
    const keep = new Set([...chains].flatMap((id) => [fileOf(id), factsFileOf(id)]));
    for (const file of readdirSync(erofsDir))
      if (!keep.has(join(erofsDir, file))) rmSync(join(erofsDir, file), { force: true });
    // A pull under way may have fetched layers that no record names yet.
    if (pulling === 0) content.keepOnly(new Set(records.flatMap(({ blobs }) => blobs)));
  }

  let pulling = 0;
  collect();
  rmSync(join(dir, 'unpack'), { recursive: true, force: true });
  return {
    listImages: () => Promise.resolve(records.map(toImage)),
    imageStatus(image) {
      const record = find(image);
      return Promise.resolve(record ? toImage(record) : null);
    },
    async pullImage(name, auth, options) {
      const signal = options?.signal ?? new AbortController().signal;
      pulling++;
      try {
        return await pull(name, parseReference(name), auth, signal);
      } catch (error) {
        signal.throwIfAborted();
        log.warn('cannot pull an image', { image: name, error: errorText(error) });
        throw pullError(name, error);
      } finally {
        pulling--;
      }
    },
    removeImage(image) {
      const record = find(image);
      if (record) save(records.filter((one) => one !== record));
      collect();
      return Promise.resolve();
    },
    imageFsInfo: () =>
      Promise.resolve([{ mountpoint: dir, ...usage([erofsDir, join(dir, 'blobs')]) }]),
    open(image) {
      const record = find(image);
      const facts = record && readFacts(factsFileOf(record.chainId));
      if (!record || !facts)
        throw new RuntimeError('NotFound', `image "${image}" is not here: pull it first`);
      const { id, chainId, settings } = record;
      return { id, chainId, settings, facts, file: fileOf(chainId) };
    },
    collect,
  };
}

/** Asks the endpoints in their order; the error of the last is told when none has it. */
async function resolve(
  config: ImagesConfig,
  reference: Reference,
  auth: AuthConfig | undefined,
  signal: AbortSignal,
): Promise<{ repository: Repository; manifest: Buffer }> {
  const failures: unknown[] = [];
  for (const endpoint of registryEndpoints(config.certsDir, reference.host)) {
    const repository = openRepository({
      endpoint,
      host: reference.host,
      repository: reference.repository,
      auth,
      signal,
      ...(config.idleMs ? { idleMs: config.idleMs } : {}),
    });
    try {
      const { bytes } = await repository.manifest(reference.digest ?? reference.tag ?? 'latest');
      return { repository, manifest: bytes };
    } catch (error) {
      signal.throwIfAborted();
      failures.push(error);
    }
  }
  throw failures.at(-1);
}

async function chosen(name: string, repository: Repository, one: Descriptor): Promise<Buffer> {
  const { bytes } = await repository.manifest(one.digest);
  if (digestOf(bytes) !== one.digest)
    throw new RuntimeError('Unknown', `image "${name}": manifest ${one.digest} is damaged`);
  return bytes;
}

function pullError(name: string, error: unknown): RuntimeError {
  const code = (error as NodeJS.ErrnoException).code;
  const text = errorText(error);
  if (code === 'ENOSPC' || /no space left on device/i.test(text))
    return new RuntimeError(
      'Unknown',
      `cannot pull "${name}": no space left on the image file system; remove images or files there`,
      { cause: error },
    );
  if (isRuntimeError(error)) return error;
  return new RuntimeError('Unknown', `cannot pull "${name}": ${text}`, { cause: error });
}

const digestOf = (bytes: Uint8Array): string => `sha256:${sha256(bytes)}`;

/** Source: OCI image specification, "Layer ChainID". */
export function chainIdOf(diffIds: readonly string[]): string {
  let chain = diffIds[0] ?? digestOf(Buffer.alloc(0));
  for (const diffId of diffIds.slice(1)) chain = digestOf(Buffer.from(`${chain} ${diffId}`));
  return chain;
}

function tryParse(name: string): Reference | undefined {
  try {
    return parseReference(name);
  } catch {
    return undefined; // an id, or no name at all: then there is no such image
  }
}

const namesOf = (reference: Reference): string[] =>
  reference.digest
    ? [digestName(reference, reference.digest)]
    : [taggedName(reference) ?? []].flat();

function toImage(record: ImageRecord): Image {
  const user = (record.settings.User ?? '').split(':')[0] ?? '';
  const numeric = /^\d+$/.test(user);
  return {
    id: record.id,
    repoTags: record.repoTags,
    repoDigests: record.repoDigests,
    size: record.sizeBytes,
    uid: numeric ? { value: Number(user) } : null,
    username: numeric ? '' : user,
    pinned: false,
  };
}

function usage(dirs: readonly string[]): { usedBytes: number; inodesUsed: number } {
  const sizes = dirs.flatMap((dir) =>
    readdirSync(dir).map((name) => statSync(join(dir, name), { throwIfNoEntry: false })?.size ?? 0),
  );
  return { usedBytes: sizes.reduce((sum, size) => sum + size, 0), inodesUsed: sizes.length };
}

function readRecords(file: string): ImageRecord[] {
  if (!existsSync(file)) return [];
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ImageRecord[];
  } catch {
    return []; // damaged by a crash of the disk: images are pulled again
  }
}

function readFacts(file: string): ImageFacts | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as ImageFacts;
  } catch {
    return undefined; // not built yet
  }
}
