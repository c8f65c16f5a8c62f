import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { errorText } from '#base/log.ts';
import { createEncryption, type Encryption } from '#apiserver/encryption.ts';
import { parseEncryptionConfig } from '#apiserver/encryption-config.ts';

/** How often the file is looked at; upstream's least often. */
const RELOAD_PERIOD_MS = 60_000;

export type EncryptionFile = {
  current(): Encryption;
  /** Takes over what the file says when it changes, until the signal aborts; not its mistakes. */
  follow(options: { clock: Clock; log: Log; signal: AbortSignal }): Promise<void>;
};

/** Reads --encryption-provider-config; undefined without one. Throws when the file is wrong. */
export function openEncryption(path: string | undefined): EncryptionFile | undefined {
  if (!path) return undefined;
  let text = readFileSync(path, 'utf8');
  let encryption = createEncryption(parseEncryptionConfig(text, path));
  return {
    current: () => encryption,
    async follow({ clock, log, signal }) {
      for (;;) {
        await clock.sleep(RELOAD_PERIOD_MS, { signal });
        try {
          const now = await readFile(path, 'utf8');
          if (now === text) continue;
          encryption = createEncryption(parseEncryptionConfig(now, path));
          text = now;
          log.info('encryption configuration taken over', { path });
        } catch (error) {
          log.error('encryption configuration is wrong; the former one stays', {
            error: errorText(error),
          });
        }
      }
    },
  };
}
