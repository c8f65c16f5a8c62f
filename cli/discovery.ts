import { X509Certificate } from 'node:crypto';
import { sha256 } from '#base/sha256.ts';
import { parse } from 'yaml';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import {
  type BootstrapToken,
  CLUSTER_INFO,
  CLUSTER_INFO_KEY,
  SIGNATURE_PREFIX,
  verifyDetached,
} from '#api/bootstrap-token.ts';
import { StatusError } from '#api/status.ts';
import type { ConfigMap } from '#api/types.ts';
import { createApi } from '#client/http-api.ts';
import { type Connection, httpsTransport } from '#client/https-transport.ts';
import { configMaps } from '#client/resources.ts';
import { UserError } from '#cli/verb.ts';

export type Discovery = {
  /** `https://host:port` of the API server, as the user gave it. */
  server: string;
  token: BootstrapToken;
  /** `sha256:<hex>` of the authority's public key; without, the token alone vouches for it. */
  caCertHash?: string | undefined;
};

const ANSWER_MS = 10_000;
/** A token made a moment ago has its signature a moment later. */
const SIGNATURE_TRIES = 10;
const SIGNATURE_WAIT_MS = 500;
const HASH = /^sha256:[0-9a-f]{64}$/;

/** `sha256:<hex>` of a certificate's public key. Source: RFC 7469; kubeadm's --discovery-token-ca-cert-hash. */
export function publicKeyHash(certPem: string): string {
  const der = new X509Certificate(certPem).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${sha256(der)}`;
}

/** A URL of an API server: `https` and 6443 are added. Throws UserError for what is none. */
export function serverAddress(text: string): string {
  const full = /^[a-z]+:\/\//.test(text) ? text : `https://${text}`;
  const bad = new UserError(`--server takes the API server's https://HOST:PORT, not "${text}"`);
  if (!URL.canParse(full)) throw bad;
  const url = new URL(full);
  if (url.protocol !== 'https:' || url.hostname === '') throw bad;
  // The URL parser drops 443 where it is written, so it is looked for in the text.
  const port = url.port || (/:443(\/|$)/.test(full) ? '443' : '6443');
  return `https://${url.hostname}:${port}`;
}

/**
 * The authority (PEM) of the cluster at `server`, which both the token and the hash (if given) vouch
 * for. Throws UserErrors that say what is wrong: address, token, hash, or somebody in between.
 * Source: Kubernetes design "bootstrap-discovery"; kubeadm join.
 */
export async function discoverCluster(
  { server, token, caCertHash }: Discovery,
  { clock }: { clock: Clock },
): Promise<string> {
  if (caCertHash !== undefined && !HASH.test(caCertHash))
    throw new UserError(`--ca-cert-hash takes sha256: and 64 hex digits, not "${caCertHash}"`);
  const kubeconfig = await signedKubeconfig(server, token, clock);
  const ca = authorityOf(kubeconfig);
  const hashes = certificatesIn(ca).map(publicKeyHash);
  if (caCertHash !== undefined && !hashes.includes(caCertHash)) {
    throw new UserError(
      `the authority of the cluster at ${server} has the hash ${hashes.join(', ')}, not the ` +
        `${caCertHash} given with --ca-cert-hash: this is another cluster, or its authority was ` +
        'replaced since the command was printed',
    );
  }
  const seen = await readInfo({ server, ca });
  if (seen.data?.[CLUSTER_INFO_KEY] !== kubeconfig) {
    throw new UserError(
      `${server} says different things with and without a verified connection: somebody may be ` +
        'in between. Try again; if it stays so, do not join',
    );
  }
  return ca;
}

/** The public kubeconfig, once its signature by our token is right. */
async function signedKubeconfig(
  server: string,
  token: BootstrapToken,
  clock: Clock,
): Promise<string> {
  for (let tries = 1; ; tries++) {
    const { data = {} } = await readInfo({ server, insecureSkipTlsVerify: true });
    const kubeconfig = data[CLUSTER_INFO_KEY] ?? '';
    const signature = data[`${SIGNATURE_PREFIX}${token.id}`];
    if (signature !== undefined && verifyDetached(signature, kubeconfig, token)) return kubeconfig;
    if (tries >= SIGNATURE_TRIES) {
      throw new UserError(
        signature === undefined
          ? `the cluster at ${server} knows no token ${token.id}, or it has expired; make another ` +
              'with "gantry token create" where the cluster runs'
          : `the secret of token ${token.id} is not the one that the cluster at ${server} has: ` +
              'the token is mistyped, or this is another cluster',
      );
    }
    await clock.sleep(SIGNATURE_WAIT_MS);
  }
}

async function readInfo(connection: Connection): Promise<ConfigMap> {
  const transport = httpsTransport(connection);
  try {
    const api = createApi(transport, { userAgent: 'gantry' });
    return await api.get(configMaps, CLUSTER_INFO, { signal: AbortSignal.timeout(ANSWER_MS) });
  } catch (error) {
    throw explained(error, connection);
  } finally {
    await transport.close();
  }
}

function explained(error: unknown, { server, ca }: Connection): UserError {
  if (error instanceof StatusError && [401, 403, 404].includes(error.code)) {
    return new UserError(
      `the cluster at ${server} takes no machines yet (${error.message}); ` +
        'run "gantry token create" where it runs',
      { cause: error },
    );
  }
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  if (ca !== undefined && code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return new UserError(
      `the API server's certificate is not for this address (${errorText(cause)}); ` +
        'give --server one of the names in it',
      { cause: error },
    );
  }
  if (ca !== undefined && /CERT|SIGNATURE/.test(code)) {
    return new UserError(
      `what answers at ${server} is not vouched for by the cluster's authority (${code}): ` +
        'somebody may be in between. Do not join',
      { cause: error },
    );
  }
  return new UserError(
    `no API server answers at ${server} (${errorText(cause)}); is the address right, ` +
      'and does a firewall let it pass?',
    { cause: error },
  );
}

/** The authority (PEM) that the public kubeconfig names. */
function authorityOf(kubeconfig: string): string {
  type Named = { cluster?: { 'certificate-authority-data'?: string } };
  const { clusters } = (parse(kubeconfig) ?? {}) as { clusters?: Named[] };
  const data = clusters?.[0]?.cluster?.['certificate-authority-data'] ?? '';
  return Buffer.from(data, 'base64').toString('utf8');
}

const certificatesIn = (pem: string): string[] =>
  pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
