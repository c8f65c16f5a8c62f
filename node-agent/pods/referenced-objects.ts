import type { Clock } from '#base/clock.ts';
import { isStatusError } from '#api/status.ts';
import type {
  ConfigMap,
  KubeObject,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  Secret,
} from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import {
  configMaps,
  persistentVolumeClaims,
  persistentVolumes,
  secrets,
  serviceAccounts,
} from '#client/resources.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import type { PodTokens, ReferencedObjects } from '#node-agent/storage/volume-type.ts';

/** One read serves all pods that start, or are refreshed, within this time. */
const FRESH_MS = 1_000;
const MAX_CACHED = 2_000;

/** Reads ConfigMaps and Secrets one by one, as a node may; what is immutable is read once. */
export function referencedObjects(api: Api, clock: Clock): ReferencedObjects {
  type Entry = { atMs: number; immutable: boolean; value: Promise<KubeObject | undefined> };
  const cache = new Map<string, Entry>();

  async function get<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string,
    name: string,
  ): Promise<T | undefined> {
    const key = `${resource.resource}/${namespace}/${name}`;
    const known = cache.get(key);
    if (known && (known.immutable || clock.now() - known.atMs < FRESH_MS))
      return (await known.value) as T | undefined;
    if (cache.size >= MAX_CACHED) cache.clear();
    const value = read(resource, namespace, name);
    const entry: Entry = { atMs: clock.now(), immutable: false, value };
    cache.set(key, entry);
    try {
      const object = await value;
      entry.immutable = object?.['immutable'] === true;
      if (!object) cache.delete(key); // it may appear at any moment
      return object;
    } catch (error) {
      cache.delete(key);
      throw error;
    }
  }

  async function read<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | undefined,
    name: string,
  ): Promise<T | undefined> {
    try {
      return await api.get(resource, { ...(namespace ? { namespace } : {}), name });
    } catch (error) {
      if (isStatusError(error, 'NotFound')) return undefined;
      throw new ConfigError(
        `could not read ${resource.resource} ${namespace ? `${namespace}/` : ''}${name}: ${error instanceof Error ? error.message : error}`,
      );
    }
  }

  return {
    configMap: (namespace, name) => get<ConfigMap>(configMaps, namespace, name),
    secret: (namespace, name) => get<Secret>(secrets, namespace, name),
    // Bindings change under a pod that waits for them: always read anew.
    claim: (namespace, name) =>
      read<PersistentVolumeClaim>(persistentVolumeClaims, namespace, name),
    persistentVolume: (name) => read<PersistentVolume>(persistentVolumes, '', name),
  };
}

/** A token is replaced when this share of its life is over, or after a day. */
const RENEW_AT = 0.8;
const RENEW_AFTER_MS = 24 * 3600_000;

/** Asks the API for tokens bound to their pod. Source: KEP-1205 bound service account tokens. */
export function podTokens(api: Api, clock: Clock): PodTokens & { forget(uid: string): void } {
  type Entry = { token: string; renewAtMs: number };
  const byPod = new Map<string, Map<string, Entry>>();
  return {
    async token(pod, audience, expirationSeconds) {
      const { uid = '', name = '', namespace = '' } = pod.metadata;
      const tokens = byPod.get(uid) ?? new Map<string, Entry>();
      byPod.set(uid, tokens);
      const key = `${audience ?? ''} ${expirationSeconds}`;
      const known = tokens.get(key);
      if (known && clock.now() < known.renewAtMs) return known.token;
      const body = {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: {
          ...(audience ? { audiences: [audience] } : {}),
          expirationSeconds,
          boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
        },
      };
      const account = pod.spec.serviceAccountName ?? 'default';
      const answer = (await api.post(
        serviceAccounts,
        { namespace, name: account },
        'token',
        body,
      )) as { status?: { token?: string; expirationTimestamp?: string } };
      const { token, expirationTimestamp } = answer.status ?? {};
      if (!token) throw new ConfigError(`no token for service account ${namespace}/${account}`);
      const nowMs = clock.now();
      const lifeMs = (expirationTimestamp ? Date.parse(expirationTimestamp) : nowMs) - nowMs;
      const renewAtMs = nowMs + Math.min(lifeMs * RENEW_AT, RENEW_AFTER_MS);
      tokens.set(key, { token, renewAtMs });
      return token;
    },
    forget: (uid) => void byPod.delete(uid),
  };
}

/** Names of the Secrets with registry credentials that a pod lists. */
export const pullSecretNames = ({ spec }: Pod): string[] =>
  (spec.imagePullSecrets ?? []).flatMap(({ name }) => (name ? [name] : []));
