import { urlHost } from '#base/default-address.ts';
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parse, YAMLParseError } from 'yaml';
import type { Connection } from '#client/https-transport.ts';

type Named<Name extends string, T> = { name?: string } & { [K in Name]?: T };

type Kubeconfig = {
  'current-context'?: string;
  clusters?: Named<'cluster', Cluster>[];
  users?: Named<'user', User>[];
  contexts?: Named<'context', { cluster?: string; user?: string; namespace?: string }>[];
};

type Cluster = {
  server?: string;
  'certificate-authority'?: string;
  'certificate-authority-data'?: string;
  'insecure-skip-tls-verify'?: boolean;
  'tls-server-name'?: string;
};

type User = {
  'client-certificate'?: string;
  'client-certificate-data'?: string;
  'client-key'?: string;
  'client-key-data'?: string;
  token?: string;
  tokenFile?: string;
  username?: string;
  password?: string;
  exec?: unknown;
};

/**
 * Reads a kubeconfig (a path, or the text itself) into what a transport needs. Relative file names
 * count from the kubeconfig's own directory. Throws an Error that names the file and the entry.
 */
export function loadKubeconfig(
  pathOrText: string,
  options: { context?: string | undefined } = {},
): Connection {
  const isText = pathOrText.includes('\n') || pathOrText.trimStart().startsWith('{');
  const where = isText ? 'kubeconfig' : pathOrText;
  const config = parseConfig(isText ? pathOrText : readText(pathOrText), where);
  const directory = isText ? process.cwd() : dirname(resolve(pathOrText));
  const name = options.context ?? config['current-context'];
  if (!name) throw new Error(`${where}: no current-context; set it or choose a context`);
  const context = entry(config.contexts, name, where, 'context').context ?? {};
  const cluster =
    entry(config.clusters, context.cluster ?? '', where, 'cluster').cluster ?? ({} as Cluster);
  const user = context.user
    ? (entry(config.users, context.user, where, 'user').user ?? {})
    : ({} as User);
  if (!cluster.server) throw new Error(`${where}: cluster "${context.cluster}" has no server`);
  if (user.exec) {
    throw new Error(`${where}: user "${context.user}" uses an exec plugin, which is not supported`);
  }
  const pem = (data: string | undefined, file: string | undefined): string | undefined => {
    if (data) return Buffer.from(data, 'base64').toString('utf8');
    return file ? readText(resolve(directory, file)) : undefined;
  };
  return {
    server: cluster.server,
    ca: pem(cluster['certificate-authority-data'], cluster['certificate-authority']),
    insecureSkipTlsVerify: cluster['insecure-skip-tls-verify'],
    tlsServerName: cluster['tls-server-name'],
    cert: pem(user['client-certificate-data'], user['client-certificate']),
    key: pem(user['client-key-data'], user['client-key']),
    ...(user['client-certificate-data'] || !user['client-certificate'] || !user['client-key']
      ? {}
      : {
          certFile: resolve(directory, user['client-certificate']),
          keyFile: resolve(directory, user['client-key']),
        }),
    token: user.token,
    tokenFile: user.tokenFile ? resolve(directory, user.tokenFile) : undefined,
    username: user.username,
    password: user.password,
    namespace: context.namespace,
  };
}

const IN_POD = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The connection of a program that runs in a pod. Source: "Accessing the API from a Pod". */
export function inClusterConnection(env: Readonly<Record<string, string | undefined>>): Connection {
  const host = env.KUBERNETES_SERVICE_HOST;
  const port = env.KUBERNETES_SERVICE_PORT;
  if (!host || !port)
    throw new Error('not in a pod: KUBERNETES_SERVICE_HOST and _PORT are not set');
  return {
    server: `https://${urlHost(host)}:${port}`,
    ca: readText(`${IN_POD}/ca.crt`),
    tokenFile: `${IN_POD}/token`,
    namespace: readText(`${IN_POD}/namespace`).trim(),
  };
}

function parseConfig(text: string, where: string): Kubeconfig {
  try {
    const config = parse(text) as Kubeconfig | null;
    if (typeof config === 'object' && config !== null) return config;
  } catch (error) {
    if (!(error instanceof YAMLParseError)) throw error;
    throw new Error(`${where}: ${error.message}`, { cause: error });
  }
  throw new Error(`${where}: not a kubeconfig`);
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`cannot read ${path}`, { cause: error });
  }
}

function entry<T extends { name?: string }>(
  list: readonly T[] | undefined,
  name: string,
  where: string,
  what: string,
): T {
  const found = list?.find((item) => item.name === name);
  if (!found) {
    const known = (list ?? []).map((item) => item.name).join(', ') || 'none';
    throw new Error(`${where}: ${what} "${name}" is not there (known: ${known})`);
  }
  return found;
}
