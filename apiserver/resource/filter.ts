import type { Kind } from '#api/kind.ts';
import { parseFieldSelector, parseLabelSelector } from '#api/labels.ts';
import { badRequestError } from '#api/status.ts';
import { objectAs } from '#apiserver/resource/views.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';

/** Which objects of a resource a list or watch is about. */
export type Filter = {
  /** '' = all namespaces. */
  namespace: string;
  /** The only name that can match, or ''. */
  name: string;
  /** null: everything in the namespace matches. */
  matches: ((entry: CacheEntry) => boolean) | null;
};

/** Throws StatusError 400 for selectors that cannot be read or that the kind does not offer. */
export function createFilter(
  kind: Kind,
  place: { namespace: string; name: string },
  selectors: { labelSelector: string; fieldSelector: string },
): Filter {
  const tests: ((entry: CacheEntry) => boolean)[] = [];
  let { name } = place;
  const { namespace } = place;
  if (name !== '') {
    const wanted = name;
    tests.push((entry) => entry.name === wanted);
  }
  if (selectors.labelSelector !== '') {
    const matcher = parseLabelSelector(selectors.labelSelector);
    if (matcher.requirements.length > 0) tests.push((entry) => matcher.matches(entry.labels));
  }
  if (selectors.fieldSelector !== '') {
    for (const { field, equal, value } of parseFieldSelector(selectors.fieldSelector).terms) {
      const read = fieldReader(kind, field);
      tests.push((entry) => (read(entry) === value) === equal);
      if (field === 'metadata.name' && equal && name === '') name = value;
    }
  }
  return { namespace, name, matches: combine(tests) };
}

function combine(
  tests: readonly ((entry: CacheEntry) => boolean)[],
): ((entry: CacheEntry) => boolean) | null {
  if (tests.length === 0) return null;
  if (tests.length === 1) return tests[0] ?? null;
  return (entry) => tests.every((test) => test(entry));
}

function fieldReader(kind: Kind, field: string): (entry: CacheEntry) => string {
  if (field === 'metadata.name') return (entry) => entry.name;
  if (field === 'metadata.namespace') return (entry) => entry.namespace;
  const read = kind.selectableFields?.[field];
  if (!read) throw badRequestError(`field label not supported: ${field}`);
  return (entry) => read(objectAs(kind, entry));
}
