import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';

/**
 * Writes a file in one step: a reader sees the old one or the new one, never a part. `flush`: it is on
 * the disk, too, before it takes the old one's place.
 */
export function writeAtomic(
  file: string,
  content: string | Uint8Array,
  { mode = 0o644, flush = false }: { mode?: number; flush?: boolean } = {},
): void {
  const partial = `${file}.${randomUUID()}`;
  try {
    writeFileSync(partial, content, { mode, flush });
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}

/** The text of a file; undefined when it cannot be read, which mostly means that there is none. */
export function readIfThere(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/** The names in a folder; none when there is no such folder. */
export function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
