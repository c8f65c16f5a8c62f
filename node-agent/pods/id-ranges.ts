import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { writeAtomic } from '#base/files.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { podDir, type PodPaths } from '#node-agent/pods/pod-files.ts';
import type { UserNamespace } from '#node-agent/runtime/service.ts';

/**
 * Host ids of one pod, and where the first pod's begin: what a pod has is never the host's own.
 * Source: Kubernetes documentation, "User Namespaces".
 */
export const RANGE_LENGTH = 65_536;
/** Ranges that fit into ids of 32 bits beside the host's own. */
const MAX_RANGES = 2 ** 32 / RANGE_LENGTH - 1;
/** Below the directory of a pod; the kubelet's name and format. */
const FILE = 'userns';

/** Host ids that pods may have. */
export type IdSpace = { first: number; count: number };

/**
 * The ids for `maxPods` pods, by the texts of /etc/subuid and /etc/subgid: those of user `kubelet`
 * where it is listed. Throws when these are not the same whole ranges, or too few.
 * Source: Kubernetes documentation, "Use a User Namespace With a Pod".
 */
export function idSpace(maxPods: number, subuid: string, subgid: string): IdSpace {
  const [uids, gids] = [subuid, subgid].map((text) =>
    text.split('\n').filter((line) => line.startsWith('kubelet:')),
  );
  if (!uids?.length && !gids?.length)
    return { first: RANGE_LENGTH, count: Math.min(maxPods, MAX_RANGES) };
  const [first = Number.NaN, length = Number.NaN] = (uids?.[0] ?? '')
    .split(':')
    .slice(1)
    .map(Number);
  const bad =
    uids?.length !== 1 || uids.join() !== gids?.join()
      ? 'the same one line of user kubelet must be in both'
      : first < RANGE_LENGTH || first % RANGE_LENGTH !== 0 || length % RANGE_LENGTH !== 0
        ? `first id and count of user kubelet must be multiples of ${RANGE_LENGTH}`
        : length / RANGE_LENGTH >= maxPods && first + length <= 2 ** 32
          ? undefined
          : `user kubelet must have ${maxPods} (--max-pods) times ${RANGE_LENGTH} ids`;
  if (bad) throw new Error(`/etc/subuid and /etc/subgid: ${bad}; or remove user kubelet`);
  return { first, count: maxPods };
}

/** First id of the lowest range that nobody has; undefined when all are used up. */
export function freeRange(
  used: ReadonlySet<number>,
  { first, count }: IdSpace,
): number | undefined {
  for (let index = 0; index < count; index++) {
    const start = first + index * RANGE_LENGTH;
    if (!used.has(start)) return start;
  }
  return undefined;
}

/** What is kept of a range, as the kubelet writes it. */
export function rangeText(first: number): string {
  const mappings = [{ hostId: first, containerId: 0, length: RANGE_LENGTH }];
  return JSON.stringify({ uidMappings: mappings, gidMappings: mappings });
}

/** First id of a kept range. Throws for anything but one range as `freeRange` gives them out. */
export function parseRange(text: string): number {
  const { uidMappings } = JSON.parse(text) as { uidMappings?: { hostId?: unknown }[] };
  const first = uidMappings?.[0]?.hostId;
  const isRange =
    typeof first === 'number' &&
    first > 0 &&
    first % RANGE_LENGTH === 0 &&
    first / RANGE_LENGTH <= MAX_RANGES;
  if (!isRange || !sameJson(text, rangeText(first)))
    throw new Error(`it is not one range of ${RANGE_LENGTH} ids, the same for users and groups`);
  return first;
}

/** Whatever the order of keys. */
function sameJson(a: string, b: string): boolean {
  const sorted = (_key: string, value: unknown): unknown =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([x], [y]) => (x < y ? -1 : 1)))
      : value;
  return JSON.stringify(JSON.parse(a), sorted) === JSON.stringify(JSON.parse(b), sorted);
}

export function userNamespace(first: number): UserNamespace {
  const ids = [{ hostId: first, containerId: 0, length: RANGE_LENGTH }];
  return { mode: 'POD', uids: ids, gids: ids };
}

/**
 * The ranges of a node's pods with `hostUsers: false`, kept in their directories over restarts of the
 * agent. No range belongs to two pods. All calls are synchronous, so that two pods cannot meet.
 */
export class IdRanges {
  readonly #paths: PodPaths;
  readonly #space: IdSpace;
  readonly #byUid = new Map<string, number>();

  /** Throws for a kept range that cannot be read: it may be in use. */
  constructor(paths: PodPaths, space: IdSpace) {
    this.#paths = paths;
    this.#space = space;
    for (const uid of existsSync(paths.podsDir) ? readdirSync(paths.podsDir) : []) {
      const first = this.#read(uid);
      if (first !== undefined) this.#byUid.set(uid, first);
    }
  }

  /** The range of a pod, a new one when it has none. Throws ConfigError when there is none left. */
  claim(uid: string): UserNamespace {
    const known = this.#byUid.get(uid);
    if (known !== undefined) return userNamespace(known);
    const first = freeRange(new Set(this.#byUid.values()), this.#space);
    if (first === undefined)
      throw new ConfigError(
        `hostUsers: false: all ${this.#space.count} ranges of user ids of this node are in use`,
      );
    mkdirSync(podDir(this.#paths, uid), { recursive: true, mode: 0o750 });
    // Not synced: what runs with the range ends with the machine too.
    writeAtomic(this.#file(uid), rangeText(first));
    this.#byUid.set(uid, first);
    return userNamespace(first);
  }

  /** For a pod that has ended for good. */
  release(uid: string): void {
    if (!this.#byUid.has(uid)) return;
    rmSync(this.#file(uid), { force: true });
    this.#byUid.delete(uid);
  }

  #file(uid: string): string {
    return join(podDir(this.#paths, uid), FILE);
  }

  #read(uid: string): number | undefined {
    const file = this.#file(uid);
    if (!existsSync(file)) return undefined;
    const text = readFileSync(file, 'utf8');
    if (text === '') return undefined; // cut off with the machine, so nothing runs with it
    try {
      return parseRange(text);
    } catch (cause) {
      const fix = 'remove it when no container of the pod runs';
      throw new Error(`${file}: ${cause instanceof Error ? cause.message : ''}; ${fix}`, { cause });
    }
  }
}
