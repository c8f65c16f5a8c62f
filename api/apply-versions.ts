import { fits } from '#api/apply-config.ts';
import { compareFields } from '#api/field-compare.ts';
import type { Comparison } from '#api/field-compare.ts';
import { recursiveDifference } from '#api/field-set.ts';
import type { MaybeFields } from '#api/field-set.ts';
import type { Shape } from '#api/field-shape.ts';
import type { KubeObject } from '#api/types.ts';

/** How objects look in another version than the one that a request speaks. */
export type VersionView = { shape: Shape; of(object: KubeObject): KubeObject };

/**
 * Versions in which somebody may own fields: their fields may have other names there. 'same': they
 * have the same ones. Undefined: nobody serves that version (any more).
 */
export type Versions = (apiVersion: string) => VersionView | 'same' | undefined;

/**
 * What a write changes, as the owners of a version see it. 'gone': nobody serves the version, so
 * whoever wrote in it owns nothing. 'misfit': the objects are none of that version.
 */
export type Seen = Comparison | 'gone' | 'misfit';

/** Compares once for each version. `own` is the comparison in the version of the request. */
export function seenBy(options: {
  apiVersion: string;
  own: Comparison;
  before: KubeObject | null;
  after: KubeObject;
  versions: Versions | undefined;
  ignored: MaybeFields;
}): (apiVersion: string) => Seen {
  const { apiVersion, own, before, after, versions, ignored } = options;
  const known = new Map<string, Seen>([[apiVersion, own]]);
  const compare = (version: string): Seen => {
    const view = versions ? versions(version) : 'same';
    if (view === 'same') return own;
    if (view === undefined) return 'gone';
    const then = before ? view.of(before) : {};
    const now = view.of(after);
    if (!fits(then, view.shape) || !fits(now, view.shape)) return 'misfit';
    const { changed, removed } = compareFields(then, now, view.shape);
    return {
      changed: recursiveDifference(changed, ignored),
      removed: recursiveDifference(removed, ignored),
    };
  };
  return (version) => {
    const seen = known.get(version) ?? compare(version);
    known.set(version, seen);
    return seen;
  };
}
