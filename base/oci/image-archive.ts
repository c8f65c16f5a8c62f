import { createReadStream } from 'node:fs';
import { posix } from 'node:path';
import { createGunzip } from 'node:zlib';
import type { Readable } from 'node:stream';
import { type Descriptor, type ImageStore, MEDIA } from '#base/oci/image-store.ts';
import { readTar } from '#base/oci/tar-reader.ts';

/** One image of an archive, by the name it gets in the store. */
export type ImportedImage = { name: string; digest: string };

export type ImportOptions = {
  /** Name for an image that the archive leaves without one (host/path:tag). */
  name?: string | undefined;
  /** Makes names whole: `nginx` → `docker.io/library/nginx:latest`. Throws for what is no name. */
  wholeName: (name: string) => string;
};

/** Blobs by their path in the archive. */
type Members = Map<string, { digest: string; size: number; gzip: boolean }>;

type DockerImage = { Config: string; RepoTags?: string[] | null; Layers: string[] };

/** Source: containerd and `docker save`, which put the whole name beside the tag. */
const WHOLE_NAME = 'io.containerd.image.name';
const TAG_NAME = 'org.opencontainers.image.ref.name';
const GZIP = [0x1f, 0x8b];
/** An index of indexes of … is nobody's honest archive. */
const MAX_DEPTH = 4;

/**
 * Puts the images of an archive file into the store: `docker save` (docker-archive) and OCI layouts, as
 * tar or tar.gz. Throws an Error that says what is wrong with it; then no name was given to anything.
 * Source: OCI image layout specification; Docker image specification v1.2, "Combined Image JSON".
 */
export async function importArchive(
  file: string,
  store: ImageStore,
  options: ImportOptions,
): Promise<ImportedImage[]> {
  const members = await storeMembers(await opened(file), store);
  const found = members.has('index.json')
    ? ociImages(store, members, options)
    : members.has('manifest.json')
      ? dockerImages(store, members, options)
      : undefined;
  if (!found) {
    throw new Error('it is no image archive: there is neither an index.json nor a manifest.json');
  }
  if (found.length === 0) throw new Error('there is no image in it');
  for (const { name, descriptor } of found) store.nameImage(name, descriptor);
  return found.map(({ name, descriptor }) => ({ name, digest: descriptor.digest }));
}

async function opened(file: string): Promise<Readable> {
  const start = createReadStream(file, { start: 0, end: 1 });
  const head: number[] = [];
  for await (const chunk of start as AsyncIterable<Uint8Array>) head.push(...chunk);
  const stream = createReadStream(file, { highWaterMark: 1 << 20 });
  if (!isGzip(head)) return stream;
  const unzipped = createGunzip();
  stream.on('error', (error) => unzipped.destroy(error));
  return stream.pipe(unzipped);
}

const isGzip = (bytes: ArrayLike<number>): boolean => bytes[0] === GZIP[0] && bytes[1] === GZIP[1];

/** Every file becomes a blob; links between them (as `docker save` makes) lead to the same one. */
async function storeMembers(source: Readable, store: ImageStore): Promise<Members> {
  const members: Members = new Map();
  const links: { path: string; target: string }[] = [];
  for await (const item of readTar(source)) {
    const path = posix.normalize(item.path).replace(/^\//, '');
    if (item.type === 'symlink') {
      links.push({ path, target: posix.join(posix.dirname(path), item.linkTarget) });
    } else if (item.type === 'hardlink') {
      links.push({ path, target: posix.normalize(item.linkTarget) });
    } else if (item.type === 'file') {
      const written = await store.writeBlob(item.content);
      members.set(path, { ...written, gzip: isGzip(written.head) });
    }
  }
  for (const { path, target } of links) {
    const found = members.get(target);
    if (found) members.set(path, found);
  }
  return members;
}

type Named = { name: string; descriptor: Descriptor };

function ociImages(store: ImageStore, members: Members, options: ImportOptions): Named[] {
  const index = readJson<{ manifests?: Descriptor[] }>(store, members, 'index.json');
  const manifests = index.manifests ?? [];
  return manifests.map(({ annotations = {}, ...descriptor }) => {
    checkWhole(store, descriptor, 0);
    const given = manifests.length === 1 ? options.name : undefined;
    const tag = annotations[TAG_NAME];
    const name = given ?? annotations[WHOLE_NAME] ?? (tag?.includes('/') ? tag : undefined);
    if (name === undefined) {
      const what = tag === undefined ? descriptor.digest : `with the tag "${tag}"`;
      throw new Error(`the image ${what} has no whole name in the archive; give it one`);
    }
    return { name: options.wholeName(name), descriptor };
  });
}

/** All that an image consists of must be there; of an index, at least one platform. */
function checkWhole(store: ImageStore, { digest }: Descriptor, depth: number): void {
  type Manifest = { manifests?: Descriptor[]; config?: Descriptor; layers?: Descriptor[] };
  const manifest = JSON.parse(store.readBlob(digest)) as Manifest;
  if (manifest.manifests && depth < MAX_DEPTH) {
    const there = manifest.manifests.filter((part) => store.blobFile(part.digest));
    if (there.length === 0) throw new Error(`no platform of ${digest} is in the archive`);
    for (const part of there) checkWhole(store, part, depth + 1);
    return;
  }
  const { config, layers } = manifest;
  if (!config || !layers) throw new Error(`${digest} is neither a manifest nor an index`);
  const missing = [config, ...layers].find((part) => !store.blobFile(part.digest));
  if (missing) throw new Error(`${missing.digest}, a part of ${digest}, is not in the archive`);
}

function dockerImages(store: ImageStore, members: Members, options: ImportOptions): Named[] {
  const images = readJson<DockerImage[]>(store, members, 'manifest.json');
  return images.flatMap(({ Config, RepoTags, Layers }): Named[] => {
    const part = (path: string) => {
      const found = members.get(posix.normalize(path));
      if (!found) throw new Error(`${path}, which manifest.json names, is not in the archive`);
      return found;
    };
    const config = part(Config);
    const layers = Layers.map(part).map(({ digest, size, gzip }) => ({
      mediaType: gzip ? MEDIA.layerGzip : MEDIA.layer,
      digest,
      size,
    }));
    checkLayers(store, config.digest, layers);
    const { digest, size } = config;
    const descriptor = store.addManifest({ mediaType: MEDIA.config, digest, size }, layers);
    const names = images.length === 1 && options.name ? [options.name] : (RepoTags ?? []);
    if (names.length === 0) throw new Error(`the image ${Config} has no name in it; give it one`);
    return names.map((name) => ({ name: options.wholeName(name), descriptor }));
  });
}

/** A layer cut off or changed would only be found at the first start of a container. */
function checkLayers(store: ImageStore, config: string, layers: readonly Descriptor[]): void {
  type Config = { rootfs?: { diff_ids?: string[] } };
  const { rootfs } = JSON.parse(store.readBlob(config)) as Config;
  const wanted = rootfs?.diff_ids ?? [];
  const wrong =
    wanted.length !== layers.length
      ? `${wanted.length} layers in its config, ${layers.length} in manifest.json`
      : layers.find((l, i) => l.mediaType === MEDIA.layer && l.digest !== wanted[i])?.digest;
  if (wrong !== undefined) throw new Error(`the archive is damaged: layer ${wrong}`);
}

function readJson<T>(store: ImageStore, members: Members, path: string): T {
  const text = store.readBlob(members.get(path)?.digest ?? '');
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new Error(`${path} in the archive is no JSON`, { cause });
  }
}
