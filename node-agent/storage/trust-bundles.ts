import { matchesLabels } from '#api/labels.ts';
import { isStatusError } from '#api/status.ts';
import type { KubeObject, LabelSelector } from '#api/types.ts';
import type { Api, Resource } from '#client/api.ts';
import { ConfigError } from '#node-agent/config-error.ts';

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

type Bundle = KubeObject & { spec: { signerName?: string; trustBundle: string } };

const clusterTrustBundles: Resource<Bundle> = {
  group: 'certificates.k8s.io',
  version: 'v1beta1',
  resource: 'clustertrustbundles',
  kind: 'ClusterTrustBundle',
  namespaced: false,
};

export type WantedTrust = {
  name?: string | undefined;
  signerName?: string | undefined;
  labelSelector?: LabelSelector | undefined;
  optional?: boolean | undefined;
};

/** Certificates that a pod shall trust, PEM; '' when there are none and that is allowed. */
export type TrustBundles = (wanted: WantedTrust) => Promise<string>;

/**
 * Reads ClusterTrustBundles, by name or by signer and labels. Throws ConfigError when what is asked
 * for is not there, or when the cluster does not serve them. Source: KEP-3257.
 */
export function trustBundles(api: Api): TrustBundles {
  return async (wanted) => {
    const found = wanted.name ? await byName(api, wanted.name) : await bySigner(api, wanted);
    if (found.length === 0 && !wanted.optional) throw new ConfigError(missingText(wanted));
    const pems = found.flatMap(({ spec }) => spec.trustBundle.match(CERTIFICATE) ?? []);
    return [...new Set(pems)].map((pem) => `${pem}\n`).join('');
  };
}

async function byName(api: Api, name: string): Promise<Bundle[]> {
  try {
    return [await api.get(clusterTrustBundles, { name })];
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return [];
    throw error;
  }
}

async function bySigner(
  api: Api,
  { signerName, labelSelector, optional }: WantedTrust,
): Promise<Bundle[]> {
  if (!labelSelector) return []; // no selector picks nothing, an empty one picks all
  try {
    const { items } = await api.list(clusterTrustBundles);
    return items.filter(
      ({ metadata, spec }) =>
        spec.signerName === signerName && matchesLabels(labelSelector, metadata.labels ?? {}),
    );
  } catch (error) {
    if (!isStatusError(error, 'NotFound')) throw error;
    if (optional) return [];
    throw new ConfigError('this cluster does not serve ClusterTrustBundles');
  }
}

const missingText = ({ name }: WantedTrust): string =>
  name
    ? `ClusterTrustBundle "${name}" not found`
    : 'combination of signerName and labelSelector matched zero ClusterTrustBundles';
