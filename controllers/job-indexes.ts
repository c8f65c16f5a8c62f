import type { Job, Pod } from '#api/types.ts';

/** Completion indexes of Indexed jobs, and their short form (`1,3-5,7`). Pure. */

export const INDEX_ANNOTATION = 'batch.kubernetes.io/job-completion-index';

export const isIndexed = (job: Job): boolean => job.spec?.completionMode === 'Indexed';

/** The pod's index; -1 when it has none. */
export function indexOf(pod: Pod): number {
  const text = pod.metadata.annotations?.[INDEX_ANNOTATION] ?? '';
  return /^\d+$/.test(text) ? Number(text) : -1;
}

/** The pod's index if the job has a place for it. */
export function validIndexOf(job: Job, pod: Pod): number {
  const index = indexOf(pod);
  return index < (job.spec?.completions ?? 0) ? index : -1;
}

/** Reads `1,3-5,7`, without indexes from `completions` on (of a job that was made smaller). */
export function parseIndexes(text: string | undefined, completions: number): Set<number> {
  const indexes = new Set<number>();
  for (const part of (text ?? '').split(',')) {
    if (part === '') continue;
    const [from = '', to = from] = part.split('-');
    const last = Math.min(Number(to), completions - 1);
    for (let index = Number(from); index <= last; index++) indexes.add(index);
  }
  return indexes;
}

/** Writes `1,3-5,7`: runs of three and more as ranges. */
export function formatIndexes(indexes: Iterable<number>): string {
  const sorted = [...indexes].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let start = 0; start < sorted.length; ) {
    let end = start;
    while (sorted[end + 1] === (sorted[end] ?? 0) + 1) end += 1;
    if (end === start) parts.push(`${sorted[start]}`);
    else parts.push([sorted[start], sorted[end]].join(end === start + 1 ? ',' : '-'));
    start = end + 1;
  }
  return parts.join(',');
}

/** Why the success policy is met by these indexes; undefined when it is not. Source: KEP-3998. */
export function matchSuccessPolicy(job: Job, succeeded: ReadonlySet<number>): string | undefined {
  const { successPolicy, completions = 0 } = job.spec ?? {};
  for (const [at, rule] of (successPolicy?.rules ?? []).entries()) {
    const { succeededIndexes, succeededCount } = rule;
    const named = succeededIndexes ? parseIndexes(succeededIndexes, completions) : undefined;
    const met = named ? [...named].filter((index) => succeeded.has(index)).length : succeeded.size;
    const wanted = succeededCount ?? named?.size;
    if (wanted !== undefined && met >= wanted) return `Matched rules at index ${at}`;
  }
  return undefined;
}
