import { isDeepStrictEqual } from 'node:util';
import type { Deployment, PodTemplateSpec, ReplicaSet } from '#api/types.ts';
import {
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  newReplicaSetSize,
  olderFirst,
  rollingBounds,
  wantedReplicas,
} from '#controllers/deployment-sizes.ts';
import { controllerReference } from '#controllers/ownership.ts';

/** Which ReplicaSet holds which revision of a Deployment's template. Pure. */

export const REVISION = 'deployment.kubernetes.io/revision';
const REVISION_HISTORY = 'deployment.kubernetes.io/revision-history';
export const HASH_LABEL = 'pod-template-hash';
/** Longest revision history, characters. */
const MAX_HISTORY = 2000;

/** Annotations that belong to the Deployment alone. */
const NOT_COPIED = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  REVISION_HISTORY,
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  'deprecated.deployment.rollback.to',
]);

/** Separates the ReplicaSet of the current template, if there is one, from all others. */
export function splitSets(
  deployment: Deployment,
  sets: readonly ReplicaSet[],
): { newSet: ReplicaSet | undefined; old: ReplicaSet[] } {
  const template = deployment.spec?.template;
  const newSet = sets
    .toSorted(olderFirst)
    .find((set) => template && isSameTemplate(set.spec?.template, template));
  return { newSet, old: sets.filter((set) => set !== newSet) };
}

/** Equal but for the hash label that we added ourselves. */
export function isSameTemplate(a: PodTemplateSpec | undefined, b: PodTemplateSpec): boolean {
  return isDeepStrictEqual(withoutHash(a ?? {}), withoutHash(b));
}

function withoutHash(template: PodTemplateSpec): unknown {
  const { labels = {}, annotations = {}, creationTimestamp: _, ...meta } = template.metadata ?? {};
  const { [HASH_LABEL]: __, ...rest } = labels;
  return { ...template, metadata: { ...meta, annotations, labels: rest } };
}

/** 0 where there is none. Adopted sets may bring any 64-bit number, hence bigint. */
export function revisionOf({ metadata }: Pick<ReplicaSet | Deployment, 'metadata'>): bigint {
  const text = metadata.annotations?.[REVISION] ?? '';
  return /^\d{1,19}$/.test(text) ? BigInt(text) : 0n;
}

/** The number that the current template's revision gets (or has). */
export const nextRevision = (old: readonly ReplicaSet[]): bigint =>
  old.map(revisionOf).reduce((most, one) => (one > most ? one : most), 0n) + 1n;

/**
 * Annotations that the ReplicaSet of the current template should have: those of the Deployment,
 * and a revision above all others (a rolled-back one keeps its former numbers as history).
 */
export function annotationsFor(
  deployment: Deployment,
  existing: Readonly<Record<string, string>>,
  revision: bigint,
): Record<string, string> {
  const annotations: Record<string, string> = { ...existing };
  for (const [name, value] of Object.entries(deployment.metadata.annotations ?? {})) {
    if (!NOT_COPIED.has(name)) annotations[name] = value;
  }
  const before = existing[REVISION];
  if (revisionOf({ metadata: { annotations: existing } }) < revision) {
    annotations[REVISION] = String(revision);
    if (before !== undefined) {
      annotations[REVISION_HISTORY] = appendHistory(existing[REVISION_HISTORY] ?? '', before);
    }
  }
  return annotations;
}

/** Comma-separated, oldest first; the oldest fall off when it grows too long. */
function appendHistory(history: string, revision: string): string {
  const parts = history ? history.split(',') : [];
  parts.push(revision);
  while (parts.join(',').length > MAX_HISTORY) parts.shift();
  return parts.join(',');
}

/** Annotations by which a later scaling knows the sizes of this one. */
export function sizeAnnotations(deployment: Deployment): Record<string, string> {
  const wanted = wantedReplicas(deployment);
  return {
    [DESIRED_REPLICAS]: String(wanted),
    [MAX_REPLICAS]: String(wanted + rollingBounds(deployment).surge),
  };
}

/** The ReplicaSet for the current template, to be created. */
export function newReplicaSet(deployment: Deployment, old: readonly ReplicaSet[]): ReplicaSet {
  const template = deployment.spec?.template ?? {};
  const hash = templateHash(template, deployment.status?.collisionCount ?? 0);
  const labels = { ...template.metadata?.labels, [HASH_LABEL]: hash };
  const selector = deployment.spec?.selector ?? {};
  const { minReadySeconds } = deployment.spec ?? {};
  const revisions = annotationsFor(deployment, {}, nextRevision(old));
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${deployment.metadata.name}-${hash}`,
      namespace: deployment.metadata.namespace ?? '',
      labels,
      annotations: { ...revisions, ...sizeAnnotations(deployment) },
      ownerReferences: [controllerReference(deployment)],
    },
    spec: {
      replicas: newReplicaSetSize(deployment, old, 0),
      ...(minReadySeconds ? { minReadySeconds } : {}),
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [HASH_LABEL]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } },
    },
  };
}

/** Letters and digits that cannot spell a word, as upstream uses for generated names. */
const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

/**
 * A short name for a template's content: FNV-1a of its canonical JSON and the collision count.
 * Only its look is upstream's; the value depends on how a server prints templates.
 */
export function templateHash(template: PodTemplateSpec, collisionCount: number): string {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(canonical(template) + (collisionCount || ''))) {
    hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  }
  const letter = (digit: string): string => ALPHABET[digit.charCodeAt(0) % ALPHABET.length] ?? '';
  return Array.from(String(hash), letter).join('');
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort(([a], [b]) => (a < b ? -1 : 1)))
      : item,
  );
}
