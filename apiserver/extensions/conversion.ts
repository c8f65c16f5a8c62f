import { randomUUID } from 'node:crypto';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { cloneJson, isPlainObject } from '#api/json.ts';
import { apiVersionOf } from '#api/kind.ts';
import type { Kind } from '#api/kind.ts';
import { internalError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import { errorText } from '#base/log.ts';
import type { WebhookWorld } from '#apiserver/webhook-client.ts';
import { callWebhook } from '#apiserver/webhook-client.ts';
import type { CacheEntry } from '#apiserver/watch-cache-entry.ts';

/**
 * Objects of definitions whose versions a webhook turns into each other. What it said about a
 * stored object is kept with it, so that each is asked about once for each version.
 * Source: Kubernetes "Webhook conversion", apiextensions.k8s.io/v1 ConversionReview.
 */
export type Conversion = {
  /** Undefined when nothing has to be asked. Rejects with StatusError 500. */
  prepare(kind: Kind, entries: readonly CacheEntry[]): Promise<void> | undefined;
  /** The same object in the version that is stored, or in `to`. */
  convert(object: KubeObject, from: Kind, to: Kind): Promise<KubeObject> | undefined;
};

/** Posts a review to a definition's webhook and returns what it answers. */
export type AskWebhook = (
  definition: CustomResourceDefinition,
  review: unknown,
) => Promise<unknown>;

/** Source: upstream's timeout of conversions. */
const TIMEOUT_SECONDS = 30;

/** Asks over HTTPS. */
export const conversionWebhook =
  (world: WebhookWorld, signal: AbortSignal): AskWebhook =>
  ({ spec }, body) =>
    callWebhook(
      {
        address: spec.conversion?.webhook?.clientConfig ?? {},
        timeoutSeconds: TIMEOUT_SECONDS,
        body,
        signal,
      },
      world,
    );

const converted = new WeakMap<CacheEntry, Map<string, KubeObject>>();

/** What a webhook made of a stored object; the caller's own. Undefined = it was not asked. */
export function convertedEntry(kind: Kind, entry: CacheEntry): KubeObject | undefined {
  const object = converted.get(entry)?.get(apiVersionOf(kind));
  if (!object) return undefined;
  const copy = cloneJson(object);
  copy.metadata.resourceVersion = String(entry.revision);
  return copy;
}

/** `to` is the same object at another revision: that of its removal. */
export function keepConverted(from: CacheEntry, to: CacheEntry): void {
  const known = converted.get(from);
  if (known) converted.set(to, known);
}

/** A webhook is asked about so many objects at once. */
const BATCH = 500;

export function createConversion(
  definitionOf: (kind: Kind) => CustomResourceDefinition | undefined,
  ask: AskWebhook,
): Conversion {
  const asked = (kind: Kind): CustomResourceDefinition | undefined =>
    kind.storedAs?.byWebhook ? definitionOf(kind) : undefined;
  return {
    prepare(kind, entries) {
      if (!kind.storedAs?.byWebhook) return undefined;
      const version = apiVersionOf(kind);
      const missing = entries.filter(
        (entry) => entry.object.apiVersion !== version && !converted.get(entry)?.has(version),
      );
      const definition = missing.length > 0 ? asked(kind) : undefined;
      if (!definition) return undefined;
      return convertEntries(definition, version, missing, ask);
    },
    convert(object, from, to) {
      const definition = from.version === to.version ? undefined : asked(from);
      if (!definition) return undefined;
      return convertAll(definition, apiVersionOf(to), [object], ask).then(
        ([result]) => result as KubeObject,
      );
    },
  };
}

async function convertEntries(
  definition: CustomResourceDefinition,
  version: string,
  entries: readonly CacheEntry[],
  ask: AskWebhook,
): Promise<void> {
  for (let at = 0; at < entries.length; at += BATCH) {
    const batch = entries.slice(at, at + BATCH);
    const objects = batch.map((entry) => entry.object);
    const results = await convertAll(definition, version, objects, ask);
    for (const [i, entry] of batch.entries()) {
      const known = converted.get(entry) ?? new Map<string, KubeObject>();
      converted.set(entry, known.set(version, results[i] as KubeObject));
    }
  }
}

async function convertAll(
  definition: CustomResourceDefinition,
  version: string,
  objects: readonly KubeObject[],
  ask: AskWebhook,
): Promise<KubeObject[]> {
  const from = objects[0]?.apiVersion ?? '';
  const fail = (why: string): Error =>
    internalError(
      `conversion webhook for ${from}, Kind=${definition.spec.names.kind} failed: ${why}`,
    );
  const uid = randomUUID();
  const versions = definition.spec.conversion?.webhook?.conversionReviewVersions ?? [];
  const reviewVersion = versions.find((one) => one === 'v1' || one === 'v1beta1') ?? 'v1';
  let answer: unknown;
  try {
    answer = await ask(definition, {
      kind: 'ConversionReview',
      apiVersion: `apiextensions.k8s.io/${reviewVersion}`,
      request: { uid, desiredAPIVersion: version, objects },
    });
  } catch (error) {
    throw fail(errorText(error));
  }
  const response = isPlainObject(answer) ? answer['response'] : undefined;
  if (!isPlainObject(response)) throw fail('the answer has no response');
  if (response['uid'] !== uid) {
    throw fail(`expected response.uid="${uid}", got "${String(response['uid'] ?? '')}"`);
  }
  const result = response['result'];
  if (!isPlainObject(result) || result['status'] !== 'Success') {
    throw fail(String((isPlainObject(result) && result['message']) || 'unknown reason'));
  }
  const made = response['convertedObjects'];
  if (!Array.isArray(made) || made.length !== objects.length) {
    const count = Array.isArray(made) ? made.length : 0;
    throw fail(`webhook returned ${count} objects, expected ${objects.length}`);
  }
  return made.map((object, i) => settled(object, objects[i] as KubeObject, version, fail));
}

/** A webhook changes the body, and of metadata nothing but labels and annotations. */
function settled(
  object: unknown,
  original: KubeObject,
  version: string,
  fail: (why: string) => Error,
): KubeObject {
  if (!isPlainObject(object)) throw fail('invalid converted object: it is no object');
  if (object['apiVersion'] !== version) {
    throw fail(
      `invalid converted object: invalid apiVersion ${JSON.stringify(object['apiVersion'])}, expected ${JSON.stringify(version)}`,
    );
  }
  if (object['kind'] !== original.kind) {
    throw fail(`invalid converted object: invalid kind ${JSON.stringify(object['kind'])}`);
  }
  const given = object['metadata'];
  if (!isPlainObject(given)) throw fail('invalid metadata: it is no object');
  for (const field of ['name', 'namespace', 'uid'] as const) {
    if ((given[field] ?? '') === (original.metadata[field] ?? '')) continue;
    throw fail(`invalid metadata of converted object: ${field} must not be changed`);
  }
  const { labels: _, annotations: __, ...kept } = original.metadata;
  const { labels, annotations } = given as KubeObject['metadata'];
  const metadata = {
    ...cloneJson(kept),
    ...(labels ? { labels } : {}),
    ...(annotations ? { annotations } : {}),
  };
  return { ...object, metadata } as KubeObject;
}
