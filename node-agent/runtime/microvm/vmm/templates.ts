import { createWriteStream, mkdirSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Log } from '#base/log.ts';
import type { QemuProcess } from './qemu-process.ts';
import { sealMemory } from './jail.ts';
import { JAIL_FD } from './qemu-command.ts';

/** Each holds some 90 MB of memory that its VMs share; pods need few sizes. */
const MAX_TEMPLATES = 4;
/** Saving takes 20 ms: all but 100 KB of a guest is its memory, which is there already. */
const SAVE_TIMEOUT_MS = 15_000;

/** A booted guest that waits for its host, to be restored any number of times in this boot. */
export type Template = {
  /** Sealed: mapped copy on write by each VM, changed by none. */
  memory: FileHandle;
  stateFile: string;
};

export type TemplateSize = { memoryMib: number; vcpus: number };

export type TemplateOptions = {
  stateDir: string;
  jail: string;
  log: Log;
  /** Boots a guest of this size on shared memory; resolves when its agent has answered and the
   * connection to it was closed again. */
  boot: (size: TemplateSize) => Promise<QemuProcess>;
  /** Ends what `boot` gave and removes what it left. */
  discard: (process: QemuProcess) => Promise<void>;
};

export type Templates = {
  /** Made on first use; whoever asks meanwhile waits for the same. Fails when it cannot be made. */
  get(size: TemplateSize): Promise<Template>;
  close(): Promise<void>;
};

/** What VMs are made of, as long as the runtime lives. */
export const templatesDir = (stateDir: string): string => join(stateDir, 'templates');

export function openTemplates(options: TemplateOptions): Templates {
  const dir = templatesDir(options.stateDir);
  // Their memory went with the process that made them.
  rmSync(dir, { recursive: true, force: true });
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const made = new Map<string, Promise<Template>>();

  async function drop(key: string): Promise<void> {
    const template = await made.get(key)?.catch(() => undefined);
    made.delete(key);
    if (!template) return;
    // VMs that were restored from it keep its memory.
    await template.memory.close();
    rmSync(template.stateFile, { force: true });
  }

  return {
    async get(size) {
      const key = `${size.memoryMib}-${size.vcpus}`;
      const known = made.get(key);
      if (known) {
        // The least recently used goes first.
        made.delete(key);
        made.set(key, known);
        return known;
      }
      const making = makeTemplate(options, size, join(dir, key));
      made.set(key, making);
      making.catch(() => made.delete(key)); // tried again with the next VM
      const [oldest] = made.keys();
      if (made.size > MAX_TEMPLATES && oldest !== undefined) await drop(oldest);
      return making;
    },
    async close() {
      for (const key of made.keys()) await drop(key);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function makeTemplate(
  options: TemplateOptions,
  size: TemplateSize,
  stateFile: string,
): Promise<Template> {
  const begun = performance.now();
  const process = await options.boot(size);
  let memory: FileHandle | undefined;
  try {
    await saveState(process, stateFile);
    memory = await open(`/proc/${process.pid}/fd/${JAIL_FD.memory}`, 'r+');
    await options.discard(process);
    await sealMemory(options.jail, memory.fd);
    options.log.info('made a microVM template', {
      ...size,
      ms: Math.round(performance.now() - begun),
    });
    return { memory, stateFile };
  } catch (error) {
    await memory?.close();
    await options.discard(process);
    throw error;
  }
}

/**
 * The state of everything but memory, by QEMU's migration. It must not be stopped first: it would be
 * restored as stopped.
 */
async function saveState({ qmp, dir }: QemuProcess, stateFile: string): Promise<void> {
  const signal = AbortSignal.timeout(SAVE_TIMEOUT_MS);
  const folder = await open(dir, 'r');
  const server = createServer();
  try {
    const saved = receive(server, stateFile, signal);
    saved.catch(() => {}); // awaited below, unless QEMU refuses before it connects
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`/proc/self/fd/${folder.fd}/state.sock`, resolve);
    });
    await setShareIgnored(qmp, true);
    await qmp.execute('migrate', { uri: 'unix:/vm/state.sock' });
    await saved;
    const status = (await qmp.execute('query-migrate')) as { status?: string };
    if (status.status !== 'completed') throw new Error(`saving a template: ${status.status}`);
  } finally {
    server.close();
    await folder.close();
  }
}

/** Memory that is shared, or mapped from a template, is no part of the state that is moved. */
export async function setShareIgnored(qmp: QemuProcess['qmp'], state: boolean): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

function receive(server: Server, file: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    server.once('connection', (socket) => {
      pipeline(socket, createWriteStream(file, { mode: 0o600 }), { signal }).then(resolve, reject);
    });
  });
}
