import { extractModels, readModelsFile } from '#api/extract-schema.ts';
import type { Models } from '#api/extract-schema.ts';

let loaded: Models | undefined;

/**
 * The extracted models of the built-in kinds, read on first use (some 5 ms) and then kept until
 * `releaseModels`. Where setup has not written the file yet, they are extracted in memory.
 */
export function loadModels(): Models {
  loaded ??= readModelsFile() ?? extractModels();
  return loaded;
}

/** Lets the definitions that no scheme refers to be collected. */
export function releaseModels(): void {
  loaded = undefined;
}
