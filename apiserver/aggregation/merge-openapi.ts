import { equalJson, isPlainObject } from '#api/json.ts';

/** What counts of an OpenAPI 2.0 document when two are put together. */
export type OpenApi2 = {
  paths: Record<string, unknown>;
  definitions: Record<string, unknown>;
};

const REF = '#/definitions/';

/**
 * What another server's document says about one group version: its paths, and the definitions that
 * they reach. Undefined for what is no such document, or says nothing about it.
 */
export function openApiOf(text: string, prefix: string): OpenApi2 | undefined {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    // Documentation of a server that cannot give it is left out, as upstream does.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  if (!isPlainObject(document) || !isPlainObject(document['paths'])) return undefined;
  const all = isPlainObject(document['definitions']) ? document['definitions'] : {};
  const paths = Object.fromEntries(
    Object.entries(document['paths']).filter(
      ([path]) => path.startsWith(`${prefix}/`) || path === prefix,
    ),
  );
  if (Object.keys(paths).length === 0) return undefined;
  const definitions: Record<string, unknown> = {};
  const pending: unknown[] = [paths];
  while (pending.length > 0) {
    for (const name of refsIn(pending.pop())) {
      if (Object.hasOwn(definitions, name) || !Object.hasOwn(all, name)) continue;
      definitions[name] = all[name];
      pending.push(all[name]);
    }
  }
  return { paths, definitions };
}

function refsIn(value: unknown, found = new Set<string>()): Set<string> {
  if (typeof value !== 'object' || value === null) return found;
  for (const [key, inner] of Object.entries(value)) {
    if (key === '$ref' && typeof inner === 'string' && inner.startsWith(REF)) {
      found.add(inner.slice(REF.length));
    } else refsIn(inner, found);
  }
  return found;
}

/**
 * Adds documents to the server's own, in place. A path keeps its first meaning; a definition that
 * means something else elsewhere gets a number: `Foo_v2`. Source: kube-openapi, aggregator.
 */
export function mergeOpenApi2(own: OpenApi2, others: readonly OpenApi2[]): void {
  for (const other of others) {
    const names = new Map<string, string>();
    for (const [name, definition] of Object.entries(other.definitions)) {
      const free = nameFor(own.definitions, name, definition);
      if (free !== name) names.set(name, free);
    }
    for (const [name, definition] of Object.entries(other.definitions)) {
      own.definitions[names.get(name) ?? name] ??= renamed(definition, names);
    }
    for (const [path, item] of Object.entries(other.paths)) {
      if (!Object.hasOwn(own.paths, path)) own.paths[path] = renamed(item, names);
    }
  }
}

function nameFor(taken: Record<string, unknown>, name: string, definition: unknown): string {
  let candidate = name;
  for (let n = 2; Object.hasOwn(taken, candidate); n++) {
    if (equalJson(taken[candidate], definition)) return candidate;
    candidate = `${name}_v${n}`;
  }
  return candidate;
}

function renamed(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (names.size === 0 || typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => renamed(item, names));
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => {
      const isRef = key === '$ref' && typeof inner === 'string' && inner.startsWith(REF);
      const name = isRef ? names.get(inner.slice(REF.length)) : undefined;
      return [key, name === undefined ? renamed(inner, names) : REF + name];
    }),
  );
}
