import type { RequestFacts } from '#base/x509-request.ts';

export const KUBE_CLIENT = 'kubernetes.io/kube-apiserver-client';
export const KUBELET_CLIENT = 'kubernetes.io/kube-apiserver-client-kubelet';
export const KUBELET_SERVING = 'kubernetes.io/kubelet-serving';
export const LEGACY = 'kubernetes.io/legacy-unknown';

/** Why a signer does not sign a request; '' when it does. */
type Check = (facts: RequestFacts, usages: readonly string[]) => string;

/**
 * The signers that this cluster's authority stands behind, each with what it refuses.
 * Source: Kubernetes "Certificates and Certificate Signing Requests", Kubernetes signers.
 */
export const SIGNERS: Readonly<Record<string, Check>> = {
  [KUBE_CLIENT]: (_, usages) => clientUsageProblem(usages),
  [KUBELET_CLIENT]: (facts, usages) =>
    nodeProblem(facts) || kubeletClientProblem(facts) || usageProblem(usages, 'client auth'),
  [KUBELET_SERVING]: (facts, usages) =>
    nodeProblem(facts) || servingProblem(facts) || usageProblem(usages, 'server auth'),
  [LEGACY]: () => '',
};

const OPTIONAL = new Set(['digital signature', 'key encipherment']);

function clientUsageProblem(usages: readonly string[]): string {
  const other = usages.find((usage) => usage !== 'client auth' && !OPTIONAL.has(usage));
  if (other !== undefined) return `invalid usage for client certificate: ${other}`;
  if (usages.includes('client auth')) return '';
  return 'missing required usage for client certificate: client auth';
}

function nodeProblem({ organizations, commonName }: RequestFacts): string {
  if (organizations.length !== 1 || organizations[0] !== 'system:nodes') {
    return 'subject organization is not system:nodes';
  }
  if (commonName.startsWith('system:node:')) return '';
  return 'subject common name does not begin with system:node:';
}

function kubeletClientProblem(facts: RequestFacts): string {
  if (facts.dnsNames.length > 0) return 'DNS subjectAltNames are not allowed';
  if (facts.ipAddresses.length > 0) return 'IP subjectAltNames are not allowed';
  return strangeNames(facts);
}

function servingProblem(facts: RequestFacts): string {
  if (facts.dnsNames.length === 0 && facts.ipAddresses.length === 0) {
    return 'DNS or IP subjectAltName is required';
  }
  return strangeNames(facts);
}

function strangeNames({ emailAddresses, uris }: RequestFacts): string {
  if (emailAddresses.length > 0) return 'Email subjectAltNames are not allowed';
  return uris.length > 0 ? 'URI subjectAltNames are not allowed' : '';
}

/** The usage itself and digital signature; key encipherment where the key is RSA's. */
function usageProblem(usages: readonly string[], wanted: string): string {
  const left = new Set(usages);
  left.delete('key encipherment');
  const fits = left.size === 2 && left.has('digital signature') && left.has(wanted);
  const list = ['client auth', 'digital signature', 'key encipherment', 'server auth'].filter(
    (usage) => usage === wanted || OPTIONAL.has(usage),
  );
  return fits ? '' : `usages did not match [${list.join(' ')}]`;
}
