import { mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { KeyPair } from '#base/x509.ts';
import {
  ensureNodeCertificates,
  ensurePki,
  type Pki,
  RENEW_CHECK_MS,
  writePrivate,
} from '#apiserver/pki.ts';

/**
 * The kubeconfig files that come with a data directory. Each is rewritten, in one step, only when
 * its content changes. Source: client.authentication, kubeconfig v1 (clientcmd/api).
 */
export type Kubeconfigs = { admin: string; scheduler: string; controllerManager: string };

export const adminKubeconfigPath = (dataDir: string): string => join(dataDir, 'admin.kubeconfig');

/** Writes `<data-dir>/admin.kubeconfig` and those of the components; returns their paths. */
export function ensureKubeconfigs(
  dataDir: string,
  pki: Pki,
  options: {
    /** `https://host:port`, as the users of the files reach the API server. */
    server: string;
  },
): Kubeconfigs {
  const paths = {
    admin: adminKubeconfigPath(dataDir),
    scheduler: join(dataDir, 'kubeconfig', 'scheduler.kubeconfig'),
    controllerManager: join(dataDir, 'kubeconfig', 'controller-manager.kubeconfig'),
  };
  const write = (path: string, user: string, pair: KeyPair) =>
    writeKubeconfig(path, { server: options.server, caPem: pki.ca.certPem, user, pair });
  write(paths.admin, 'kubernetes-admin', pki.admin);
  write(paths.scheduler, 'system:kube-scheduler', pki.scheduler);
  write(paths.controllerManager, 'system:kube-controller-manager', pki.controllerManager);
  return paths;
}

export type NodeCredentials = {
  kubeconfig: string;
  /** Serving certificate of the agent, paths. */
  certFile: string;
  keyFile: string;
  /** Certificate and key that the kubeconfig names, paths: read again when they are renewed. */
  clientCertFile: string;
  clientKeyFile: string;
  /** Authority of the API server's client certificate, path. */
  clientCaFile: string;
};

export type NodeCredentialsOptions = {
  nodeName: string;
  ips: readonly string[];
  server: string;
  clock: Pick<Clock, 'now'>;
  /** Already loaded PKI; read from the data directory when absent. */
  pki?: Pki;
};

/** A node's kubeconfig and certificates, renewed where they are old; safe to repeat. */
export async function issueNodeCredentials(
  dataDir: string,
  options: NodeCredentialsOptions,
): Promise<NodeCredentials> {
  const pki = options.pki ?? (await ensurePki(dataDir, { hosts: [], clock: options.clock }));
  await ensureNodeCertificates(pki, options);
  const file = join(pki.dir, `node-${options.nodeName}`);
  const pair = { certFile: `${file}-client.crt`, keyFile: `${file}-client.key` };
  const kubeconfig = join(dataDir, 'kubeconfig', `node-${options.nodeName}.kubeconfig`);
  writeKubeconfig(kubeconfig, {
    server: options.server,
    caPem: pki.ca.certPem,
    user: `system:node:${options.nodeName}`,
    pair,
  });
  return {
    kubeconfig,
    clientCertFile: pair.certFile,
    clientKeyFile: pair.keyFile,
    certFile: `${file}.crt`,
    keyFile: `${file}.key`,
    clientCaFile: join(pki.dir, 'ca.crt'),
  };
}

/**
 * Renews a node's certificates in their files while its agent runs, which reads them again: looked at
 * once an hour, until the signal aborts.
 */
export async function keepNodeCredentials(
  dataDir: string,
  options: NodeCredentialsOptions & { clock: Clock; signal: AbortSignal; log: Log },
): Promise<void> {
  const { clock, signal, log, nodeName } = options;
  for (;;) {
    await clock.sleep(RENEW_CHECK_MS, { signal });
    try {
      await issueNodeCredentials(dataDir, options);
    } catch (error) {
      // Months are left when renewal begins.
      const text = errorText(error);
      log.error('certificates of a node could not be renewed', { node: nodeName, error: text });
    }
  }
}

type KubeconfigContent = {
  server: string;
  caPem: string;
  user: string;
  pair: KeyPair | { certFile: string; keyFile: string };
};

/** The text of a kubeconfig with one cluster, one user and one context; paths are left as they are. */
export function kubeconfigText(content: KubeconfigContent): string {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const context = `${content.user}@gantry`;
  const { pair } = content;
  const credentials =
    'certFile' in pair
      ? [`    client-certificate: ${pair.certFile}`, `    client-key: ${pair.keyFile}`]
      : [
          `    client-certificate-data: ${base64(pair.certPem)}`,
          `    client-key-data: ${base64(pair.keyPem)}`,
        ];
  return [
    'apiVersion: v1',
    'kind: Config',
    'clusters:',
    '- name: gantry',
    '  cluster:',
    `    server: ${content.server}`,
    `    certificate-authority-data: ${base64(content.caPem)}`,
    'users:',
    `- name: ${content.user}`,
    '  user:',
    ...credentials,
    'contexts:',
    `- name: ${context}`,
    '  context:',
    '    cluster: gantry',
    `    user: ${content.user}`,
    `current-context: ${context}`,
    '',
  ].join('\n');
}

function writeKubeconfig(path: string, content: KubeconfigContent): void {
  const text = kubeconfigText(content);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  if (currentText(path) !== text) writePrivate(path, text);
}

function currentText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
