import type { Catalog } from '#apiserver/aggregation/catalog.ts';
import { localPriority } from '#apiserver/aggregation/local-services.ts';
import type { RemoteService } from '#apiserver/aggregation/remote-services.ts';
import type { AggregatedGroup } from '#apiserver/discovery.ts';

type PlainVersion = { groupVersion: string; version: string };
export type PlainGroup = {
  name: string;
  versions: PlainVersion[];
  preferredVersion?: PlainVersion | undefined;
};

/** Groups of other servers, each with its versions in order, by name. */
function byGroup(remotes: readonly RemoteService[]): Map<string, RemoteService[]> {
  const groups = new Map<string, RemoteService[]>();
  for (const remote of remotes) {
    groups.set(remote.group, [...(groups.get(remote.group) ?? []), remote]);
  }
  for (const versions of groups.values()) {
    versions.sort(
      (a, b) => b.versionPriority - a.versionPriority || (a.version < b.version ? 1 : -1),
    );
  }
  return groups;
}

/** Puts what other servers serve among the groups of this one, by rank and name. */
function merge<Group, Version>(
  own: readonly Group[],
  remotes: readonly RemoteService[],
  how: {
    nameOf(group: Group): string;
    join(name: string, own: Group | undefined, versions: readonly Version[]): Group;
    version(remote: RemoteService): Version;
  },
): Group[] {
  const groups = [...own];
  const rank = new Map<string, number>();
  for (const [name, versions] of byGroup(remotes)) {
    const at = groups.findIndex((group) => how.nameOf(group) === name);
    const joined = how.join(
      name,
      groups[at],
      versions.map((one) => how.version(one)),
    );
    if (at >= 0) {
      groups[at] = joined;
      continue;
    }
    const priority = Math.max(...versions.map(({ groupPriority }) => groupPriority));
    rank.set(name, priority);
    const place = groups.findIndex((group) => {
      const other = how.nameOf(group);
      const theirs = rank.get(other) ?? localPriority(other);
      return theirs < priority || (theirs === priority && other > name);
    });
    groups.splice(place < 0 ? groups.length : place, 0, joined);
  }
  return groups;
}

/** For `/apis` in the aggregated form. */
export const mergeAggregated = (
  own: readonly AggregatedGroup[],
  remotes: readonly RemoteService[],
  catalog: Catalog,
): AggregatedGroup[] =>
  merge(own, remotes, {
    nameOf: (group) => group.metadata.name ?? '',
    version: (remote) => catalog.describe(remote),
    join: (name, group, versions) => ({
      metadata: group?.metadata ?? { name },
      versions: [...versions, ...(group?.versions ?? []).filter(notIn(versions))],
    }),
  });

/** For `/apis` and `/apis/GROUP`. */
export const mergeGroups = (
  own: readonly PlainGroup[],
  remotes: readonly RemoteService[],
): PlainGroup[] =>
  merge(own, remotes, {
    nameOf: (group) => group.name,
    version: ({ group, version }): PlainVersion => ({
      groupVersion: `${group}/${version}`,
      version,
    }),
    join: (name, group, versions) => {
      const all = [...versions, ...(group?.versions ?? []).filter(notIn(versions))];
      return { name, versions: all, preferredVersion: group?.preferredVersion ?? all[0] };
    },
  });

const notIn =
  (versions: readonly { version: string }[]) =>
  ({ version }: { version: string }): boolean =>
    !versions.some((one) => one.version === version);
