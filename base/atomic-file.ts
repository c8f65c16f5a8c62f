import { randomUUID } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';

/** Writes a file in one step: a reader sees the old one or the new one, never a part. */
export function writeAtomic(file: string, content: string | Uint8Array, mode = 0o644): void {
  const partial = `${file}.${randomUUID()}`;
  try {
    writeFileSync(partial, content, { mode });
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}
