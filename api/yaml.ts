import { createRequire } from 'node:module';
import type { Document, LineCounter, Node, Pair, YAMLMap } from 'yaml';
import { refusePrototypeKeys, unrecognizedError, wellFormed } from '#api/json.ts';
import type { ParsedJson } from '#api/json.ts';
import { MAX_DEPTH } from '#api/json-scan.ts';
import { badRequestError } from '#api/status.ts';
import { exactInteger, hasLongNumber } from '#base/exact-json.ts';

/** One document of a YAML text. Lines and columns count from 1. */
export type YamlDocument = {
  value: unknown;
  /** Where the document's first value stands. */
  line: number;
  /** Paths of keys that come twice, like `spec.replicas`. */
  duplicates: readonly { path: string; line: number; column: number }[];
  /** Place of a member's key or of a list's item: `['spec', 'containers', 0, 'image']`. */
  positionOf(path: readonly (string | number)[]): YamlPosition | undefined;
};

export type YamlPosition = { line: number; column: number };

/** The last word on what a small file may blow up to. */
const MAX_ALIASES = 100;

type Library = typeof import('yaml');
let library: Library | undefined;

/** Loaded on first use: most requests are JSON. */
const yaml = (): Library => {
  library ??= createRequire(import.meta.url)('yaml') as Library;
  return library;
};

/**
 * All documents of a text, in YAML 1.1 as upstream reads it (`yes` is true, times stay strings).
 * Throws StatusError 400 whose message starts with `source:line:column`. Source: yaml.org 1.1.
 */
export function parseYaml(
  text: string,
  { source = 'yaml' }: { source?: string } = {},
): YamlDocument[] {
  const lines = new (yaml().LineCounter)();
  const documents = guard(source, () => parseAll(text, lines));
  return documents.map((document) => {
    const [error] = document.errors;
    if (error) throw yamlError(source, lines.linePos(error.pos[0]), error.message);
    const value = guard(source, () =>
      exactValue(text, document.toJS({ maxAliasCount: MAX_ALIASES })),
    );
    if (isDeeper(value, MAX_DEPTH)) throw badRequestError(`${source}: exceeded max depth`);
    refusePrototypeKeys(text, value);
    return {
      value: wellFormed(text, value),
      line: lineOf(document.contents, lines),
      duplicates: duplicatesOf(document.contents, '', lines),
      positionOf: (path) => find(document.contents, path, lines),
    };
  });
}

/**
 * The first document of a body, as upstream takes it; an empty text is null. Throws StatusError 400
 * with the kind in it.
 */
export function yamlToJson(
  text: string,
  { kind, findDuplicates = false }: { kind?: string; findDuplicates?: boolean } = {},
): ParsedJson {
  let document: YamlDocument | undefined;
  try {
    [document] = parseYaml(text);
  } catch (error) {
    if (kind === undefined) throw error;
    throw unrecognizedError(kind, `couldn't get version/kind; ${(error as Error).message}`, text);
  }
  return {
    value: document?.value ?? null,
    duplicates: findDuplicates ? (document?.duplicates ?? []).map(({ path }) => path) : [],
  };
}

function parseAll(text: string, lineCounter: LineCounter): Document.Parsed[] {
  const documents = yaml().parseAllDocuments(text, {
    version: '1.1',
    uniqueKeys: false,
    intAsBigInt: hasLongNumber(text),
    prettyErrors: false,
    lineCounter,
    customTags: (tags) =>
      tags.filter(
        (tag) =>
          typeof tag === 'string' ||
          !(tag.tag === 'tag:yaml.org,2002:timestamp' || tag.format === 'TIME'),
      ),
  });
  return Array.isArray(documents) ? documents : [];
}

/** Integers as the library reads them where some may be long: all as bigint. */
function exactValue(text: string, value: unknown): unknown {
  return hasLongNumber(text) ? withExactIntegers(value) : value;
}

function withExactIntegers(value: unknown): unknown {
  if (typeof value === 'bigint') return exactInteger(value);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(withExactIntegers);
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [key, withExactIntegers(inner)]),
  );
}

/**
 * The library throws plain errors for alias bombs and for merges of what is no map, and runs out
 * of stack on deep nesting.
 */
function guard<T>(source: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof Error) || error instanceof TypeError) throw error;
    throw badRequestError(`${source}: ${error.message}`);
  }
}

function yamlError(source: string, place: { line: number; col: number }, message: string): Error {
  return badRequestError(`${source}:${place.line}:${place.col}: ${message}`);
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (levels === 0) return true;
  return Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

const lineOf = (node: Node | null, lines: LineCounter): number =>
  node?.range ? lines.linePos(node.range[0]).line : 1;

const positionAt = (node: unknown, lines: LineCounter): YamlPosition | undefined => {
  const range = (node as Node | null | undefined)?.range;
  if (!range) return undefined;
  const { line, col } = lines.linePos(range[0]);
  return { line, column: col };
};

const keyText = (pair: Pair): string => {
  const key: unknown = yaml().isScalar(pair.key) ? pair.key.value : pair.key;
  return String(key);
};

function duplicatesOf(
  node: unknown,
  path: string,
  lines: LineCounter,
): { path: string; line: number; column: number }[] {
  if (yaml().isSeq(node)) {
    return node.items.flatMap((item, i) => duplicatesOf(item, `${path}[${i}]`, lines));
  }
  if (!yaml().isMap(node)) return [];
  const seen = new Set<string>();
  const found: { path: string; line: number; column: number }[] = [];
  for (const pair of node.items) {
    const key = keyText(pair);
    const name = path === '' ? key : `${path}.${key}`;
    const { line = 1, column = 1 } = positionAt(pair.key, lines) ?? {};
    if (seen.has(key)) found.push({ path: name, line, column });
    seen.add(key);
    found.push(...duplicatesOf(pair.value, name, lines));
  }
  return found;
}

function find(
  root: Node | null,
  path: readonly (string | number)[],
  lines: LineCounter,
): YamlPosition | undefined {
  let node: unknown = root;
  let place = positionAt(root, lines);
  for (const step of path) {
    if (yaml().isAlias(node)) return place;
    if (yaml().isSeq(node)) {
      node = node.items[Number(step)];
      place = positionAt(node, lines);
    } else if (yaml().isMap(node)) {
      const pair = lastPair(node, String(step));
      node = pair?.value;
      place = positionAt(pair?.key, lines);
    } else {
      return undefined;
    }
  }
  return place;
}

/** The last one of duplicate keys is the one that counts. */
function lastPair(map: YAMLMap, key: string): Pair | undefined {
  return map.items.findLast((pair) => keyText(pair) === key);
}
