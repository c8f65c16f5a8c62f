import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseYaml, type YamlDocument } from '#api/yaml.ts';
import type { KubeObject } from '#api/types.ts';
import { UserError } from '#cli/verb.ts';

/** An object of a manifest, and where in which file it stands. */
export type ManifestObject = {
  object: KubeObject;
  source: string;
  document: YamlDocument;
  /** Path of the object within the document: [] unless it is an item of a List. */
  base: readonly (string | number)[];
};

/** `file:line:column` of a field, or of the nearest thing around it that the file has. */
export function placeOf(manifest: ManifestObject, path: readonly (string | number)[]): string {
  const { source, document, base } = manifest;
  for (let length = path.length; length > 0; length--) {
    const at = document.positionOf([...base, ...path.slice(0, length)]);
    if (at) return `${source}:${at.line}:${at.column}`;
  }
  return `${source}:${document.line}:1`;
}

/** Reads files, folders (their *.yaml, *.yml, *.json in order) and `-` for standard input. */
export function readManifests(files: readonly string[], recursive = false): ManifestObject[] {
  if (files.length === 0)
    throw new UserError('name a manifest with -f FILE (or -f - for standard input)');
  return files
    .flatMap((file) => expand(file, recursive))
    .flatMap(({ source, text }) => parseManifest(text, source));
}

function expand(file: string, recursive: boolean): { source: string; text: string }[] {
  if (file === '-') return [{ source: 'stdin', text: readFileSync(0, 'utf8') }];
  let isFolder: boolean;
  try {
    isFolder = statSync(file).isDirectory();
  } catch (error) {
    throw new UserError(`cannot read ${file}: no such file or folder`, { cause: error });
  }
  if (!isFolder) return [{ source: file, text: readFileSync(file, 'utf8') }];
  return readdirSync(file, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(file, entry.name);
      if (entry.isDirectory()) return recursive ? expand(path, true) : [];
      return /\.(ya?ml|json)$/.test(entry.name) ? expand(path, false) : [];
    });
}

/** Objects of one text; a `List` is taken apart. Throws UserError with file, line and column. */
export function parseManifest(text: string, source: string): ManifestObject[] {
  return parseYaml(text, { source }).flatMap((document) => {
    const value = document.value;
    const [twice] = document.duplicates;
    if (twice) {
      throw new UserError(
        `${source}:${twice.line}:${twice.column}: "${twice.path}" stands here twice; remove one of them`,
      );
    }
    if (value === null || value === undefined) return [];
    if (typeof value !== 'object' || Array.isArray(value)) {
      throw new UserError(
        `${source}:${document.line}: an object was expected here, not ${typeof value}`,
      );
    }
    const object = value as KubeObject;
    for (const field of ['apiVersion', 'kind'] as const) {
      if (typeof object[field] !== 'string' || object[field] === '') {
        throw new UserError(
          `${source}:${document.line}: ${field} is missing; every object says its apiVersion and kind`,
        );
      }
    }
    const items = (object as { items?: unknown })['items'];
    if (object.kind === 'List' && Array.isArray(items)) {
      return items.map((item, i) => ({
        object: item as KubeObject,
        source,
        document,
        base: ['items', i],
      }));
    }
    return [{ object, source, document, base: [] }];
  });
}
