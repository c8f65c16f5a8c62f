import type { Clock } from '#base/clock.ts';
import type { KeyPair } from '#base/x509.ts';
import { createRequest } from '#base/x509-request.ts';
import type { Log } from '#base/log.ts';
import type { Api } from '#client/api.ts';
import { createInformers } from '#client/informer-factory.ts';
import { certificateSigningRequests } from '#client/resources.ts';

/** What a node asks a certificate for; `hosts` are names and addresses to serve under. */
export type CertificateWish =
  | { use: 'client'; nodeName: string }
  | { use: 'serving'; nodeName: string; dnsNames: readonly string[]; ips: readonly string[] };

const SIGNERS = {
  client: 'kubernetes.io/kube-apiserver-client-kubelet',
  serving: 'kubernetes.io/kubelet-serving',
} as const;

/** Nobody has approved by then: a person is asked, or rights are missing. Upstream's time. */
const PATIENCE_MS = 15 * 60_000;

type Surroundings = { signal: AbortSignal; clock: Clock; log: Log };

/**
 * Makes a key, asks the cluster for a certificate of it and waits until it is signed. Rejects when the
 * request is denied, refused by the signer, or not signed in time.
 * Source: Kubernetes "TLS bootstrapping".
 */
export async function requestCertificate(
  api: Api,
  wish: CertificateWish,
  { signal, clock, log }: Surroundings,
): Promise<KeyPair> {
  const { requestPem, keyPem } = await createRequest({
    commonName: `system:node:${wish.nodeName}`,
    organizations: ['system:nodes'],
    ...(wish.use === 'serving' ? { dnsNames: wish.dnsNames, ipAddresses: wish.ips } : {}),
  });
  const made = await api.create(
    certificateSigningRequests,
    {
      metadata: { generateName: wish.use === 'client' ? 'node-csr-' : 'csr-' },
      spec: {
        signerName: SIGNERS[wish.use],
        usages: ['digital signature', wish.use === 'client' ? 'client auth' : 'server auth'],
        request: Buffer.from(requestPem).toString('base64'),
      },
    },
    { signal },
  );
  const name = made.metadata.name ?? '';
  const over = new AbortController();
  const until = AbortSignal.any([signal, over.signal]);
  const tooLate = clock.sleep(PATIENCE_MS, { signal: until }).then(() => {
    throw new Error(
      `certificate request ${name} is not signed after ${PATIENCE_MS / 60_000} minutes; ` +
        `see "kubectl describe csr ${name}", and approve it with "kubectl certificate approve"`,
    );
  });
  try {
    const certPem = await Promise.race([
      answerTo(api, name, { signal: until, clock, log }),
      tooLate,
    ]);
    return { certPem, keyPem };
  } finally {
    tooLate.catch(() => {});
    over.abort(new Error(`certificate request ${name} is answered`));
  }
}

/** The certificate, PEM, as soon as it stands in the request's status. */
function answerTo(api: Api, name: string, around: Surroundings): Promise<string> {
  return new Promise((resolve, reject) => {
    around.signal.addEventListener('abort', () => reject(around.signal.reason), { once: true });
    const requests = createInformers(api, around).of(certificateSigningRequests, {
      fieldSelector: `metadata.name=${name}`,
    });
    requests.onChange(({ type, object }) => {
      const { certificate, conditions = [] } = object.status ?? {};
      const refused = conditions.find((c) => c.type === 'Denied' || c.type === 'Failed');
      if (refused) {
        const why = [refused.reason, refused.message].filter(Boolean).join(': ');
        reject(new Error(`certificate request ${name} is ${refused.type.toLowerCase()}: ${why}`));
      } else if (certificate) resolve(Buffer.from(certificate, 'base64').toString('utf8'));
      else if (type === 'deleted') reject(new Error(`certificate request ${name} is deleted`));
    });
  });
}
