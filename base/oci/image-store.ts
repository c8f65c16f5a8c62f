import { createHash, randomUUID } from 'node:crypto';
import {
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { sha256 } from '#base/sha256.ts';
import { readIfThere, writeAtomic } from '#base/files.ts';
import { type TarEntry, tarStream } from './tar.ts';

/** Source: OCI image specification, "Content Descriptors". */
export type Descriptor = {
  mediaType: string;
  /** `sha256:` and 64 hexadecimal digits. */
  digest: string;
  size: number;
  annotations?: Record<string, string>;
};

/** A layer's descriptor, with the digest of its uncompressed tar. */
export type Layer = { descriptor: Descriptor; diffId: string };

/** What an image's config says to a runtime; names as in the OCI image specification. */
export type ImageSettings = {
  Entrypoint?: string[];
  Cmd?: string[];
  Env?: string[];
  User?: string;
  WorkingDir?: string;
  ExposedPorts?: Record<string, Record<string, never>>;
  Labels?: Record<string, string>;
  StopSignal?: string;
};

export const MEDIA = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
} as const;

export type WrittenBlob = { digest: string; size: number; head: Uint8Array };

/** Manifests and configs are small; more is an attack on memory. */
const MAX_JSON_BYTES = 4 * 1024 * 1024;
const MANIFEST_TYPES =
  /^application\/vnd\.(oci\.image\.(index|manifest)\.v1|docker\.distribution\.manifest\.(list\.)?v2)\+json$/;

const REF_NAME = 'org.opencontainers.image.ref.name';

/** An OCI image layout in a folder: blobs by digest and an index of names. */
export type ImageStore = {
  readonly dir: string;
  /** Path of a blob that is there; undefined otherwise, also for what is no sha256 digest. */
  blobFile(digest: string): string | undefined;
  /**
   * Writes a layer. `compress` saves space on a network; a store on the same machine is faster
   * without. With `cacheKey` (which must name all that the entries depend on), a layer written
   * before under it is returned instead, and an `entries` function is not called.
   */
  addLayer(
    entries: readonly TarEntry[] | (() => readonly TarEntry[]),
    options?: { compress?: boolean; cacheKey?: string },
  ): Promise<Layer>;
  /** Writes config and manifest and gives them the name, `host/path:tag`. */
  addImage(name: string, layers: readonly Layer[], settings: ImageSettings): Descriptor;
  /** Writes a manifest of blobs that are there already. */
  addManifest(config: Descriptor, layers: readonly Descriptor[]): Descriptor;
  /** Writes a blob of bytes whose digest is not known yet; `head` is its first bytes. */
  writeBlob(content: AsyncIterable<Uint8Array>): Promise<WrittenBlob>;
  /** The text of a small blob. Throws when it is not there or too large to be a manifest. */
  readBlob(digest: string): string;
  /** Gives a name, `host/path:tag`, to a manifest or an index whose blobs are there. */
  nameImage(name: string, descriptor: Descriptor): void;
  /** The manifest of a name, or of `host/path@sha256:…` when that blob is there. */
  resolve(name: string): Descriptor | undefined;
  /** True when all that a named image consists of is there in full (a crash may have cut it off). */
  isComplete(name: string): boolean;
  names(): string[];
  /** Bytes of all that a named image consists of and that is here. */
  sizeOf(name: string): number;
  /** Forgets a name; false when it was not there. Blobs stay until `collectGarbage`. */
  removeName(name: string): boolean;
  /** Removes blobs that no named image needs; returns how many bytes. */
  collectGarbage(): number;
};

/** Source: OCI image layout specification. */
export function openImageStore(dir: string): ImageStore {
  const blobs = join(dir, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  mkdirSync(join(dir, 'layer-cache'), { recursive: true });
  writeAtomic(join(dir, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  const indexFile = join(dir, 'index.json');

  const blobFile = (digest: string): string | undefined => {
    const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
    return hex && existsSync(join(blobs, hex)) ? join(blobs, hex) : undefined;
  };
  const isWhole = ({ digest, size }: Descriptor): boolean => {
    const file = blobFile(digest);
    return file !== undefined && statSync(file).size === size;
  };
  const putBlob = (mediaType: string, value: unknown): Descriptor => {
    const bytes = Buffer.from(JSON.stringify(value));
    const hex = sha256(bytes);
    const descriptor = { mediaType, digest: `sha256:${hex}`, size: bytes.length };
    if (!isWhole(descriptor)) writeAtomic(join(blobs, hex), bytes);
    return descriptor;
  };
  const readIndex = (): Descriptor[] => readManifests(indexFile);
  const writeIndex = (manifests: readonly Descriptor[]): void => {
    const index = { schemaVersion: 2, mediaType: MEDIA.index, manifests };
    writeAtomic(indexFile, JSON.stringify(index, null, 1));
  };

  const addManifest = (config: Descriptor, layers: readonly Descriptor[]): Descriptor =>
    putBlob(MEDIA.manifest, { schemaVersion: 2, mediaType: MEDIA.manifest, config, layers });
  const nameImage = (name: string, descriptor: Descriptor): void => {
    const others = readIndex().filter((m) => m.annotations?.[REF_NAME] !== name);
    writeIndex([...others, { ...descriptor, annotations: { [REF_NAME]: name } }]);
  };

  return {
    dir,
    blobFile,
    async addLayer(entries, { compress = false, cacheKey } = {}) {
      const cacheFile = cacheKey && join(dir, 'layer-cache', sha256(`${compress} ${cacheKey}`));
      const cached = cacheFile && readLayer(cacheFile);
      if (cached && isWhole(cached.descriptor)) return cached;
      const list = typeof entries === 'function' ? entries() : entries;
      const layer = await writeLayer(blobs, list, compress);
      if (cacheFile) writeAtomic(cacheFile, JSON.stringify(layer));
      return layer;
    },
    addImage(name, layers, settings) {
      const config = putBlob(MEDIA.config, imageConfig(layers, settings));
      const manifest = addManifest(
        config,
        layers.map(({ descriptor }) => descriptor),
      );
      nameImage(name, manifest);
      return manifest;
    },
    addManifest,
    writeBlob: (content) => writeBlob(blobs, content),
    readBlob(digest) {
      const file = blobFile(digest);
      if (!file) throw new Error(`there is no ${digest}`);
      if (statSync(file).size > MAX_JSON_BYTES) throw new Error(`${digest} is too large`);
      return readFileSync(file, 'utf8');
    },
    nameImage,
    resolve(name) {
      const digest = /@(sha256:[0-9a-f]{64})$/.exec(name)?.[1];
      if (!digest) return readIndex().find((m) => m.annotations?.[REF_NAME] === name);
      const file = blobFile(digest);
      const mediaType = file && manifestType(file);
      return mediaType ? { mediaType, digest, size: statSync(file).size } : undefined;
    },
    isComplete(name) {
      const manifest = readIndex().find((m) => m.annotations?.[REF_NAME] === name);
      if (!manifest || !isWhole(manifest)) return false;
      return partsOf(blobFile(manifest.digest) ?? '').every(isWhole);
    },
    sizeOf(name) {
      const manifest = readIndex().find((m) => m.annotations?.[REF_NAME] === name);
      if (!manifest) return 0;
      const hexes = usedBlobs(blobs, [manifest]);
      return [...hexes].reduce((sum, hex) => sum + fileSize(join(blobs, hex)), 0);
    },
    names: () => readIndex().flatMap((m) => m.annotations?.[REF_NAME] ?? []),
    removeName(name) {
      const before = readIndex();
      const after = before.filter((m) => m.annotations?.[REF_NAME] !== name);
      if (after.length < before.length) writeIndex(after);
      return after.length < before.length;
    },
    collectGarbage: () => removeUnused(blobs, readIndex()),
  };
}

/** This machine's name in an image's config. */
export function imageArchitecture(arch: string = process.arch): string {
  return { x64: 'amd64', arm64: 'arm64' }[arch] ?? arch;
}

function imageConfig(layers: readonly Layer[], settings: ImageSettings): unknown {
  return {
    architecture: imageArchitecture(),
    os: 'linux',
    config: settings,
    rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
  };
}

async function writeLayer(
  blobs: string,
  entries: readonly TarEntry[],
  compress: boolean,
): Promise<Layer> {
  const partial = join(blobs, `.partial-${randomUUID()}`);
  const diff = createHash('sha256');
  const stored = createHash('sha256');
  let size = 0;
  const measure = (onChunk: (chunk: Uint8Array) => void): Transform =>
    new Transform({
      transform(chunk: Uint8Array, _encoding, done) {
        onChunk(chunk);
        done(null, chunk);
      },
    });
  const before = measure((chunk) => diff.update(chunk));
  const after = measure((chunk) => {
    stored.update(chunk);
    size += chunk.length;
  });
  try {
    const source = Readable.from(tarStream(entries), { objectMode: false });
    const zip = compress ? [createGzip({ level: 6 })] : [];
    await pipeline([source, before, ...zip, after, createWriteStream(partial)]);
    const hex = stored.digest('hex');
    renameSync(partial, join(blobs, hex));
    const mediaType = compress ? MEDIA.layerGzip : MEDIA.layer;
    const descriptor = { mediaType, digest: `sha256:${hex}`, size };
    return { descriptor, diffId: `sha256:${diff.digest('hex')}` };
  } finally {
    rmSync(partial, { force: true });
  }
}

/** Config and layers of a manifest; of an index nothing, whose platforms may be left out. */
function partsOf(file: string): Descriptor[] {
  type Manifest = { config?: Descriptor; layers?: Descriptor[] };
  const { config, layers = [] } = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
  return config ? [config, ...layers] : [];
}

const fileSize = (file: string): number => statSync(file, { throwIfNoEntry: false })?.size ?? 0;

/** Digests (hex) of all that manifests consist of, whether it is there or not. */
function usedBlobs(blobs: string, manifests: readonly Descriptor[]): Set<string> {
  const used = new Set<string>();
  const mark = (hex: string): void => {
    if (used.has(hex)) return;
    used.add(hex);
    const file = join(blobs, hex);
    // Only manifests and indexes name other blobs.
    if (!existsSync(file) || manifestType(file) === undefined) return;
    const text = readFileSync(file, 'utf8');
    for (const [, part = ''] of text.matchAll(/"sha256:([0-9a-f]{64})"/g)) mark(part);
  };
  for (const { digest } of manifests) mark(digest.slice('sha256:'.length));
  return used;
}

function removeUnused(blobs: string, manifests: readonly Descriptor[]): number {
  const used = usedBlobs(blobs, manifests);
  let freed = 0;
  for (const hex of readdirSync(blobs)) {
    if (used.has(hex) || hex.startsWith('.')) continue;
    freed += statSync(join(blobs, hex)).size;
    rmSync(join(blobs, hex));
  }
  return freed;
}

function readManifests(indexFile: string): Descriptor[] {
  const text = readIfThere(indexFile);
  if (text === undefined) return [];
  try {
    return (JSON.parse(text) as { manifests: Descriptor[] }).manifests;
  } catch (cause) {
    throw new Error(`${indexFile} is damaged; remove it and build the images again`, { cause });
  }
}

function readLayer(file: string): Layer | undefined {
  const text = readIfThere(file);
  return text === undefined ? undefined : (JSON.parse(text) as Layer);
}

/** What kind of manifest a blob is, also when it does not say so itself; undefined for others. */
export function manifestType(file: string): string | undefined {
  if (statSync(file).size > MAX_JSON_BYTES) return undefined;
  try {
    const value = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    const { mediaType, manifests, config, layers } = value;
    if (typeof mediaType === 'string')
      return MANIFEST_TYPES.test(mediaType) ? mediaType : undefined;
    if (Array.isArray(manifests)) return MEDIA.index;
    return config && Array.isArray(layers) ? MEDIA.manifest : undefined;
  } catch {
    return undefined;
  }
}

async function writeBlob(blobs: string, content: AsyncIterable<Uint8Array>): Promise<WrittenBlob> {
  const partial = join(blobs, `.partial-${randomUUID()}`);
  const hash = createHash('sha256');
  let size = 0;
  let head: Uint8Array = new Uint8Array();
  async function* measured(): AsyncGenerator<Uint8Array> {
    for await (const chunk of content) {
      if (size === 0) head = Uint8Array.from(chunk.subarray(0, 16));
      hash.update(chunk);
      size += chunk.length;
      yield chunk;
    }
  }
  try {
    await pipeline(measured, createWriteStream(partial));
    const hex = hash.digest('hex');
    renameSync(partial, join(blobs, hex));
    return { digest: `sha256:${hex}`, size, head };
  } finally {
    rmSync(partial, { force: true });
  }
}
