import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Descriptor } from '#base/oci/image-store.ts';

/** Blobs by their digest; each is there in full or not at all. */
export type Content = {
  /** Path of a blob that is there. */
  file(digest: string): string | undefined;
  /**
   * Makes sure the blob is there, taking it from `open` when it is not; several callers share one
   * download. Throws when size or digest differ from the descriptor's.
   */
  ensure(descriptor: Descriptor, open: () => Promise<AsyncIterable<Uint8Array>>): Promise<string>;
  /** Removes blobs that are not named and are not just being fetched. */
  keepOnly(digests: ReadonlySet<string>): void;
};

export function openContent(dir: string): Content {
  mkdirSync(dir, { recursive: true, mode: 0o711 });
  for (const name of readdirSync(dir)) if (name.startsWith('.')) rmSync(join(dir, name));
  const fetching = new Map<string, Promise<string>>();

  const pathOf = (digest: string): string => {
    const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
    if (!hex) throw new Error(`"${digest}" is no sha256 digest`);
    return join(dir, hex);
  };

  async function fetch(
    { digest, size }: Descriptor,
    open: () => Promise<AsyncIterable<Uint8Array>>,
  ): Promise<string> {
    const target = pathOf(digest);
    if (existsSync(target) && statSync(target).size === size) return target;
    const partial = join(dir, `.${randomUUID()}`);
    const hash = createHash('sha256');
    let received = 0;
    async function* checked(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
      for await (const chunk of source) {
        received += chunk.length;
        if (received > size) throw new Error(`blob ${digest} is larger than ${size} bytes`);
        hash.update(chunk);
        yield chunk;
      }
    }
    try {
      await pipeline(checked(await open()), createWriteStream(partial, { mode: 0o600 }));
      const found = `sha256:${hash.digest('hex')}`;
      if (received !== size)
        throw new Error(`blob ${digest} ends after ${received} of ${size} bytes`);
      if (found !== digest) throw new Error(`blob ${digest} is damaged: its digest is ${found}`);
      await fs.rename(partial, target);
      return target;
    } finally {
      await fs.rm(partial, { force: true });
    }
  }

  return {
    file(digest) {
      const path = pathOf(digest);
      return existsSync(path) ? path : undefined;
    },
    ensure(descriptor, open) {
      let running = fetching.get(descriptor.digest);
      if (!running) {
        running = fetch(descriptor, open).finally(() => fetching.delete(descriptor.digest));
        fetching.set(descriptor.digest, running);
      }
      return running;
    },
    keepOnly(digests) {
      for (const name of readdirSync(dir)) {
        const digest = `sha256:${name}`;
        if (name.startsWith('.') || digests.has(digest) || fetching.has(digest)) continue;
        rmSync(join(dir, name));
      }
    },
  };
}
