import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { readTar, type TarItem } from '#base/oci/tar-reader.ts';
import { type TarEntry, tarStream } from '#base/oci/tar.ts';
import { createLayerTree, type TreeNode } from './layer-tree.ts';

const run = promisify(execFile);

/** One layer as it lies in the store. */
export type LayerFile = { file: string; mediaType: string; diffId: string };

export type ErofsOptions = {
  layers: readonly LayerFile[];
  /** Made, used and removed; on the same file system as `output`, and as large as the image. */
  workDir: string;
  /** The image file; appears in one step. */
  output: string;
  signal: AbortSignal;
};

/** What the runtime must know of an image without opening it again. */
export type ImageFacts = {
  /** `/etc/passwd` and `/etc/group` of the image; empty when it has none or they are too large. */
  passwd: string;
  group: string;
  sizeBytes: number;
  inodes: number;
};

/** A passwd file of a distribution has 1-2 KiB; what is larger is no list of users. */
const MAX_USER_FILE_BYTES = 256 * 1024;
/** Building the largest images takes seconds; a program that hangs must end. */
const BUILD_TIMEOUT_MS = 10 * 60_000;

/**
 * Lays the layers over each other and makes one read-only EROFS image of the result. Throws an Error
 * that says which layer is bad and how; leaves nothing behind then.
 */
export async function buildErofs(options: ErofsOptions): Promise<ImageFacts> {
  const { layers, workDir, output, signal } = options;
  const dataDir = join(workDir, 'data');
  const rootDir = join(workDir, 'root');
  await fs.rm(workDir, { recursive: true, force: true });
  try {
    await fs.mkdir(dataDir, { recursive: true, mode: 0o700 });
    const tree = createLayerTree();
    const files = { dir: dataDir, next: 0 };
    for (const [index, layer] of layers.entries()) {
      tree.nextLayer();
      try {
        await readLayer(layer, signal, async (item) => {
          const content = item.type === 'file' ? await keepContent(item, files) : undefined;
          for (const file of tree.add(item, content)) await fs.rm(file, { force: true });
        });
      } catch (cause) {
        signal.throwIfAborted();
        const text = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`layer ${index + 1} of ${layers.length}: ${text}`, { cause });
      }
    }
    const facts = await userFiles(tree.root);
    const inodes = await materialize(tree.root, rootDir);
    const partial = join(workDir, 'image.erofs');
    await run('mkfs.erofs', ['--quiet', '--preserve-mtime', partial, rootDir], {
      signal,
      timeout: BUILD_TIMEOUT_MS,
    });
    await fs.chmod(partial, 0o640);
    const { size } = await fs.stat(partial);
    await fs.rename(partial, output);
    return { ...facts, sizeBytes: size, inodes };
  } finally {
    await fs.rm(workDir, { recursive: true, force: true });
  }
}

async function readLayer(
  { file, mediaType, diffId }: LayerFile,
  signal: AbortSignal,
  take: (item: TarItem) => Promise<void>,
): Promise<void> {
  const hash = createHash('sha256');
  const unzip = mediaType.endsWith('+zstd')
    ? createZstdDecompress()
    : mediaType.endsWith('gzip')
      ? createGunzip()
      : undefined;
  const raw = createReadStream(file, { highWaterMark: 256 * 1024, signal });
  const feeding = unzip ? pipeline(raw, unzip) : Promise.resolve();
  // A reader that gives up ends the pipeline too; its own error is the one to tell.
  feeding.catch(() => {});
  const chunks = (unzip ?? raw)[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const next = async (): Promise<IteratorResult<Buffer>> => {
    const step = await chunks.next();
    if (step.done !== true) hash.update(step.value);
    return step;
  };
  try {
    // readTar stops at the closing blocks; what follows still counts for the digest.
    for await (const item of readTar({ [Symbol.asyncIterator]: () => ({ next }) }))
      await take(item);
    while ((await next()).done !== true);
    await feeding;
  } finally {
    raw.destroy();
    unzip?.destroy();
  }
  const found = `sha256:${hash.digest('hex')}`;
  if (found !== diffId) throw new Error(`its content is ${found}, not ${diffId}`);
}

async function keepContent(item: TarItem, files: { dir: string; next: number }): Promise<string> {
  const file = join(files.dir, String(files.next++));
  if (item.size < 64 * 1024) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of item.content) chunks.push(chunk);
    await fs.writeFile(file, Buffer.concat(chunks), { mode: 0o600 });
  } else {
    await pipeline(
      Readable.from(item.content, { objectMode: false }),
      createWriteStream(file, { mode: 0o600 }),
    );
  }
  return file;
}

async function userFiles(root: TreeNode): Promise<{ passwd: string; group: string }> {
  const read = async (name: string): Promise<string> => {
    const node = root.children.get('etc')?.children.get(name);
    if (!node?.contentFile || node.size > MAX_USER_FILE_BYTES) return '';
    return fs.readFile(node.contentFile, 'utf8');
  };
  return { passwd: await read('passwd'), group: await read('group') };
}

type Work = {
  /** What only tar can make: devices, and whatever has extended attributes. */
  special: TarEntry[];
  links: { from: string; to: string }[];
  directories: { path: string; node: TreeNode }[];
  made: Map<TreeNode, string>;
};

/** Makes the tree below `rootDir`; returns how many files and directories it has. */
async function materialize(root: TreeNode, rootDir: string): Promise<number> {
  const work: Work = { special: [], links: [], directories: [], made: new Map() };
  await fs.mkdir(rootDir, { mode: 0o700 });
  await makeChildren(root, rootDir, '', work);
  if (work.special.length > 0) await extractSpecial(work.special, rootDir);
  for (const { from, to } of work.links) await fs.link(from, to);
  // Deepest first, so that times stay as set.
  for (const { path, node } of work.directories.reverse()) await setOwner(path, node);
  await setOwner(rootDir, root);
  return work.made.size + work.directories.length + 1;
}

async function makeChildren(dir: TreeNode, hostDir: string, path: string, work: Work) {
  for (const [name, node] of dir.children) {
    const target = join(hostDir, name);
    const inner = path === '' ? name : `${path}/${name}`;
    const first = work.made.get(node);
    if (node.type === 'directory') {
      await fs.mkdir(target, { mode: 0o700 });
      work.directories.push({ path: target, node });
      if (Object.keys(node.xattrs).length > 0)
        work.special.push({ ...marks(inner, node), type: 'directory' });
      await makeChildren(node, target, inner, work);
    } else if (first !== undefined) {
      work.links.push({ from: first, to: target });
    } else {
      work.made.set(node, target);
      await makeFile(node, target, inner, work);
    }
  }
}

const marks = (path: string, { mode, uid, gid, xattrs }: TreeNode) => ({
  path,
  mode,
  uid,
  gid,
  xattrs,
});

async function makeFile(node: TreeNode, target: string, path: string, work: Work): Promise<void> {
  const { type, device } = node;
  if (type === 'char' || type === 'block') {
    work.special.push({ ...marks(path, node), type, ...device });
  } else if (type === 'fifo') {
    work.special.push({ ...marks(path, node), type });
  } else if (type === 'symlink') {
    await fs.symlink(node.linkTarget, target);
    await fs.lchown(target, node.uid, node.gid);
    await fs.lutimes(target, node.mtimeSeconds, node.mtimeSeconds);
  } else if (Object.keys(node.xattrs).length > 0) {
    const source = node.contentFile ?? '';
    work.special.push({ ...marks(path, node), type: 'copy', source, sizeBytes: node.size });
  } else {
    await fs.rename(node.contentFile ?? '', target);
    await setOwner(target, node);
  }
}

async function setOwner(path: string, node: TreeNode): Promise<void> {
  await fs.chown(path, node.uid, node.gid);
  await fs.chmod(path, node.mode); // after chown, which clears setuid
  await fs.utimes(path, node.mtimeSeconds, node.mtimeSeconds);
}

/** Every parent is a real directory that was made here, so tar cannot be led astray. */
async function extractSpecial(entries: readonly TarEntry[], rootDir: string): Promise<void> {
  const tar = spawn(
    'tar',
    [
      '-x',
      '-p',
      '--xattrs',
      '--xattrs-include=*',
      '--numeric-owner',
      '--same-owner',
      '-C',
      rootDir,
    ],
    { stdio: ['pipe', 'ignore', 'pipe'], timeout: BUILD_TIMEOUT_MS },
  );
  let words = '';
  tar.stderr.on('data', (chunk: Buffer) => (words = (words + chunk.toString()).slice(0, 4096)));
  const ended = new Promise<number | null>((resolve, reject) => {
    tar.once('close', resolve);
    tar.once('error', reject);
  });
  await pipeline(Readable.from(tarStream(entries), { objectMode: false }), tar.stdin).catch(
    () => undefined, // tar ended early; its own words say why
  );
  const code = await ended;
  if (code !== 0) throw new Error(`cannot unpack devices and attributes: ${words.trim()}`);
}
