import { createRequire } from 'node:module';

let library: typeof import('yaml') | undefined;

/** Writes an answer as YAML, members in alphabetical order as upstream does. */
export function formatYaml(value: unknown): string {
  // Few requests ask for YAML: the library is not loaded before one does.
  library ??= createRequire(import.meta.url)('yaml') as typeof import('yaml');
  return library.stringify(value, {
    sortMapEntries: true,
    lineWidth: 0,
    version: '1.1',
    indentSeq: false,
    aliasDuplicateObjects: false,
  });
}
