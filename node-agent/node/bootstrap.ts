import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { readCertificate } from '#base/x509.ts';
import { isStatusError } from '#api/status.ts';
import { createApi } from '#client/http-api.ts';
import { httpsTransport } from '#client/https-transport.ts';
import { loadKubeconfig } from '#client/kubeconfig.ts';
import { requestCertificate } from '#node-agent/node/certificate-request.ts';
import { certificateFile, readPair, writePair } from '#node-agent/node/certificates.ts';
import { ConfigError } from '#node-agent/config-error.ts';

export type BootstrapConfig = {
  nodeName: string;
  /** Names the cluster and holds a credential that may ask for a node's certificate. */
  bootstrapKubeconfig: string;
  /** Written when the node has its own certificate. */
  kubeconfig: string;
  certDir: string;
};

/**
 * Gets this node a client certificate of its own, unless it has one that still holds, and writes the
 * kubeconfig that names it. Source: Kubernetes "TLS bootstrapping".
 */
export async function bootstrapNode(
  config: BootstrapConfig,
  { signal, clock, log }: { signal: AbortSignal; clock: Clock; log: Log },
): Promise<void> {
  const { nodeName, bootstrapKubeconfig, kubeconfig, certDir } = config;
  const held = readPair(certDir, 'client');
  const holds = held && readCertificate(held.certPem).notAfterMs > clock.now();
  if (holds && existsSync(kubeconfig)) return;
  if (!existsSync(bootstrapKubeconfig)) {
    throw new ConfigError(
      held
        ? `the certificate of node ${nodeName} has expired, and there is no token to ask for ` +
            'another: join again with --server and --token'
        : `node ${nodeName} has no certificate and no ${bootstrapKubeconfig} to ask for one`,
    );
  }
  const connection = loadKubeconfig(bootstrapKubeconfig);
  const transport = httpsTransport(connection);
  try {
    const api = createApi(transport, { userAgent: 'gantry-node-agent' });
    const wish = { use: 'client', nodeName } as const;
    writePair(certDir, 'client', await requestCertificate(api, wish, { signal, clock, log }));
  } catch (error) {
    throw explained(error);
  } finally {
    await transport.close();
  }
  writeNodeKubeconfig(config, { server: connection.server, ca: connection.ca ?? '' });
  log.info('the node has its own certificate', { node: nodeName });
}

function explained(error: unknown): unknown {
  if (isStatusError(error, 'Unauthorized'))
    return new ConfigError(
      'the API server does not know the bootstrap token, or it has expired: make another with ' +
        '"gantry token create" where the cluster runs',
    );
  if (isStatusError(error, 'Forbidden'))
    return new ConfigError(
      `the bootstrap token may not ask for certificates (${error.message}); ` +
        '"gantry token create" gives the right groups',
    );
  return error;
}

function writeNodeKubeconfig(
  { nodeName, kubeconfig, certDir }: BootstrapConfig,
  { server, ca }: { server: string; ca: string },
): void {
  const user = `system:node:${nodeName}`;
  const file = certificateFile(certDir, 'client');
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      {
        name: 'gantry',
        cluster: { server, 'certificate-authority-data': Buffer.from(ca).toString('base64') },
      },
    ],
    users: [{ name: user, user: { 'client-certificate': file, 'client-key': file } }],
    contexts: [{ name: user, context: { cluster: 'gantry', user } }],
    'current-context': user,
  };
  mkdirSync(dirname(kubeconfig), { recursive: true, mode: 0o700 });
  writeFileSync(kubeconfig, `${JSON.stringify(config, null, 2)}\n`, { mode: 0o600 });
}
