import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { errorText } from '#base/log.ts';
import { importArchive } from '#base/oci/image-archive.ts';
import { parseReference, taggedName } from '#base/oci/image-reference.ts';
import { type ImageStore, openImageStore } from '#base/oci/image-store.ts';
import type { Node } from '#api/types.ts';
import { nodes } from '#client/resources.ts';
import { type ClientFlags, withClient } from '#cli/context.ts';
import { dataDirOf, kubeconfigCandidates } from '#cli/data-dir.ts';
import { formatRows } from '#cli/output.ts';
import { UserError, type Verb } from '#cli/verb.ts';

type Flags = { dataDir?: string; kubeconfig?: string };

export const image: Verb = {
  name: 'image',
  summary: 'bring images in from files, show and remove them',
  configure(command: Command) {
    const sub = (name: string, summary: string): Command =>
      command
        .command(name)
        .description(summary)
        .option('--data-dir <dir>', 'where everything of this machine is kept');
    sub(
      'import',
      'put the images of archives (docker save, OCI layout; tar or tar.gz) into the store',
    )
      .argument('<files...>', 'archives')
      .option('--name <image>', 'name for an image that has none in its archive')
      .action((files: string[], flags: Flags & { name?: string }) => importFiles(files, flags));
    sub('list', "show the store's images, and those that the nodes have")
      .option('--kubeconfig <file>', 'cluster whose nodes are asked')
      .action((flags: Flags) => list(flags));
    sub('rm', 'take images out of the store; nodes keep what they have pulled until it is unused')
      .argument('<names...>', 'images')
      .action((names: string[], flags: Flags) => remove(names, flags));
  },
};

function storeOf(flags: Flags): ImageStore {
  const dataDir = dataDirOf(flags.dataDir, process.env);
  if (!existsSync(dataDir)) {
    throw new UserError(
      `${dataDir} does not exist: this machine is no node yet ("gantry up" or "gantry join")`,
    );
  }
  return openImageStore(join(dataDir, 'images'));
}

/** `nginx` → `docker.io/library/nginx:latest`. */
function wholeName(name: string): string {
  const problem = new UserError(`"${name}" is no image name like registry.example/app:1.0`);
  try {
    const whole = taggedName(parseReference(name));
    if (whole !== undefined && !name.includes('@')) return whole;
  } catch {
    throw problem;
  }
  throw problem;
}

async function importFiles(
  files: readonly string[],
  flags: Flags & { name?: string },
): Promise<void> {
  const store = storeOf(flags);
  for (const file of files) {
    if (!existsSync(file) || !statSync(file).isFile())
      throw new UserError(`${file}: there is no such file`);
    try {
      const imported = await importArchive(file, store, { name: flags.name, wholeName });
      for (const { name, digest } of imported) console.log(`${name} ${digest}`);
    } catch (error) {
      throw new UserError(`${file}: ${errorText(error)}`, { cause: error });
    }
  }
}

async function list(flags: Flags): Promise<void> {
  const store = storeOf(flags);
  const places = new Map<string, { size: number; where: string[] }>();
  const note = (name: string, size: number, where: string): void => {
    const known = places.get(name) ?? { size, where: [] };
    known.where.push(where);
    places.set(name, known);
  };
  for (const name of store.names()) note(name, store.sizeOf(name), 'store');
  for (const { metadata, status } of await nodesOf(flags)) {
    for (const { names = [], sizeBytes = 0 } of status?.images ?? []) {
      for (const name of names.filter((n) => !n.includes('@')))
        note(name, sizeBytes, metadata.name ?? '');
    }
  }
  const rows = [...places].sort(([a], [b]) => (a < b ? -1 : 1));
  if (rows.length === 0) return console.error('There are no images.');
  const lines = rows.map(([name, { size, where }]) => [name, mebibytes(size), where.join(',')]);
  process.stdout.write(formatRows([['IMAGE', 'SIZE', 'WHERE'], ...lines]));
}

const mebibytes = (bytes: number): string => `${(bytes / 1048576).toFixed(1)}Mi`;

/** The cluster's nodes, where there is a kubeconfig to ask with. */
async function nodesOf(flags: Flags): Promise<readonly Node[]> {
  const dataDir = dataDirOf(flags.dataDir, process.env);
  const candidates = kubeconfigCandidates(flags.kubeconfig, process.env, dataDir);
  const isThere = candidates.some((file) => existsSync(file));
  if (!isThere && flags.kubeconfig === undefined) return [];
  const client: ClientFlags = {
    dataDir,
    ...(flags.kubeconfig === undefined ? {} : { kubeconfig: flags.kubeconfig }),
  };
  return withClient(client, async ({ api }) => (await api.list(nodes)).items);
}

function remove(names: readonly string[], flags: Flags): void {
  const store = storeOf(flags);
  for (const name of names.map(wholeName)) {
    if (!store.removeName(name)) {
      throw new UserError(
        `there is no ${name} in the store of this machine; "gantry image list" shows what there is`,
      );
    }
    console.log(`Removed ${name}.`);
  }
  const freed = store.collectGarbage();
  console.log(`Freed ${mebibytes(freed)}.`);
}
