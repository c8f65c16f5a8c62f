import { mkdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { writeAtomic } from '#base/files.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import {
  belongsTogether,
  canonicalHost,
  createCa,
  createSigningKey,
  issueCertificate,
  type KeyPair,
  lifeLeft,
  readCertificate,
  type Validity,
} from '#base/x509.ts';

/**
 * The cluster's own certificates under `<data-dir>/pki`: made at the first start, renewed when less
 * than RENEW_BELOW of their life is left, when their names change or when a file is damaged, and
 * otherwise only read. File names and user names are kubeadm's.
 * Source: Kubernetes "PKI certificates and requirements".
 */
export type Pki = {
  dir: string;
  ca: KeyPair;
  /** Serving certificate of the API server. */
  server: KeyPair;
  /** Client certificates. */
  admin: KeyPair;
  scheduler: KeyPair;
  controllerManager: KeyPair;
  /** The API server as a client of the node agents. */
  kubeletClient: KeyPair;
  frontProxyCa: KeyPair;
  frontProxyClient: KeyPair;
  /** Signs service account tokens. */
  serviceAccount: { privatePem: string; publicPem: string };
  /** Names of the files that this call wrote. */
  written: string[];
};

export type PkiOptions = {
  /** Names and addresses that the API server is reached by; see servingHosts. */
  hosts: readonly string[];
  clock: Pick<Clock, 'now'>;
};

const DAY_MS = 86_400_000;
const CA_LIFE_MS = 3650 * DAY_MS;
const CERTIFICATE_LIFE_MS = 365 * DAY_MS;
/** A certificate is renewed when this part of its life is left. */
const RENEW_BELOW = 0.3;
/** Certificates start this much earlier, for clients whose clock is behind. */
const BACKDATE_MS = 300_000;
/** Expiry is a matter of months: an hour is soon enough, and costs nothing. */
export const RENEW_CHECK_MS = 3_600_000;

export const KUBELET_CLIENT_USER = 'gantry:apiserver-kubelet-client';

/** What the API server's certificate has to name besides the addresses it binds to. */
export function servingHosts(options: {
  clusterDomain: string;
  /** First address of the service network. */
  serviceIp: string;
  addresses: readonly string[];
}): string[] {
  const own = ['localhost', hostname(), '127.0.0.1', options.serviceIp, ...options.addresses];
  const service = ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  return [...new Set([...own, ...service, `kubernetes.default.svc.${options.clusterDomain}`])];
}

/** Reads the PKI and creates or renews what is missing, damaged or old. Safe to repeat. */
export async function ensurePki(dataDir: string, options: PkiOptions): Promise<Pki> {
  const dir = join(dataDir, 'pki');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const files = pkiFiles(dir);
  const nowMs = options.clock.now();
  const authority = (file: string, name: string) => ensureCa(files, file, name, nowMs);
  const ca = await authority('ca', 'kubernetes');
  const frontProxyCa = await authority('front-proxy-ca', 'front-proxy-ca');
  const client = (file: string, commonName: string, organizations: string[] = [], by = ca) =>
    ensureCertificate(files, file, by, { commonName, organizations, usages: ['client'] }, nowMs);
  return {
    dir,
    ca,
    server: await ensureCertificate(
      files,
      'apiserver',
      ca,
      { commonName: 'kube-apiserver', hosts: options.hosts, usages: ['server'] },
      nowMs,
    ),
    admin: await client('admin', 'kubernetes-admin', ['system:masters']),
    scheduler: await client('scheduler', 'system:kube-scheduler'),
    controllerManager: await client('controller-manager', 'system:kube-controller-manager'),
    kubeletClient: await client('apiserver-kubelet-client', KUBELET_CLIENT_USER),
    frontProxyCa,
    frontProxyClient: await client('front-proxy-client', 'front-proxy-client', [], frontProxyCa),
    serviceAccount: await ensureSigningKey(files),
    written: files.written,
  };
}

/** A node's identity: its client certificate for the API server and its agent's serving one. */
export async function ensureNodeCertificates(
  pki: Pki,
  options: { nodeName: string; ips: readonly string[]; clock: Pick<Clock, 'now'> },
): Promise<{ client: KeyPair; server: KeyPair }> {
  const files = pkiFiles(pki.dir);
  const nowMs = options.clock.now();
  const identity = {
    commonName: `system:node:${options.nodeName}`,
    organizations: ['system:nodes'],
  };
  const hosts = [...new Set([options.nodeName, ...options.ips])];
  const file = `node-${options.nodeName}`;
  return {
    client: await ensureCertificate(
      files,
      `${file}-client`,
      pki.ca,
      { ...identity, usages: ['client'] },
      nowMs,
    ),
    server: await ensureCertificate(
      files,
      file,
      pki.ca,
      { ...identity, hosts, usages: ['server'] },
      nowMs,
    ),
  };
}

/**
 * Looks once an hour whether something has to be renewed, until the signal aborts; `onRenewed`
 * gets the new certificates (the server swaps its TLS context, kubeconfigs are rewritten).
 */
export async function renewPki(
  dataDir: string,
  options: PkiOptions & { clock: Clock; signal: AbortSignal; log: Log },
  onRenewed: (pki: Pki) => void | Promise<void>,
): Promise<void> {
  for (;;) {
    await options.clock.sleep(RENEW_CHECK_MS, { signal: options.signal });
    try {
      const pki = await ensurePki(dataDir, options);
      if (pki.written.length > 0) await onRenewed(pki);
    } catch (error) {
      // Months are left when renewal begins: a full disk today must not stop the server.
      options.log.error('certificates could not be renewed', { error: errorText(error) });
    }
  }
}

type PkiFiles = {
  read(name: string): string | undefined;
  write(name: string, text: string): void;
  written: string[];
};

function pkiFiles(dir: string): PkiFiles {
  const written: string[] = [];
  return {
    written,
    read: (name) => readIfThere(join(dir, name)),
    write(name, text) {
      writePrivate(join(dir, name), text);
      written.push(name);
    },
  };
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Replaces a file in one step, readable by its owner only. */
export const writePrivate = (path: string, text: string): void =>
  writeAtomic(path, text, { mode: 0o600, flush: true });

function readPair(files: PkiFiles, name: string): KeyPair | undefined {
  const certPem = files.read(`${name}.crt`);
  const keyPem = files.read(`${name}.key`);
  return certPem !== undefined && keyPem !== undefined ? { certPem, keyPem } : undefined;
}

/** The key first: a certificate without its key is what the next start repairs. */
function writePair(files: PkiFiles, name: string, pair: KeyPair): KeyPair {
  files.write(`${name}.key`, pair.keyPem);
  files.write(`${name}.crt`, pair.certPem);
  return pair;
}

const validFor = (nowMs: number, lifeMs: number): Validity => ({
  notBeforeMs: nowMs - BACKDATE_MS,
  notAfterMs: nowMs + lifeMs,
});

/** An authority is renewed with its own key, so that everything it issued stays valid. */
async function ensureCa(
  files: PkiFiles,
  name: string,
  commonName: string,
  nowMs: number,
): Promise<KeyPair> {
  const stored = readPair(files, name);
  const sound = stored && unlessBroken(() => belongsTogether(stored, stored.certPem));
  if (stored && sound && !isOld(stored, nowMs)) return stored;
  const validity = validFor(nowMs, CA_LIFE_MS);
  const keyPem = sound ? stored?.keyPem : undefined;
  return writePair(files, name, await createCa({ commonName, validity, keyPem }));
}

type Wanted = {
  commonName: string;
  organizations?: readonly string[];
  hosts?: readonly string[];
  usages: readonly ('server' | 'client')[];
};

async function ensureCertificate(
  files: PkiFiles,
  name: string,
  ca: KeyPair,
  wanted: Wanted,
  nowMs: number,
): Promise<KeyPair> {
  const stored = readPair(files, name);
  if (stored && unlessBroken(() => fits(stored, ca, wanted)) && !isOld(stored, nowMs)) {
    return stored;
  }
  const validity = validFor(nowMs, CERTIFICATE_LIFE_MS);
  return writePair(files, name, await issueCertificate(ca, { ...wanted, validity }));
}

function fits(pair: KeyPair, ca: KeyPair, wanted: Wanted): boolean {
  const facts = readCertificate(pair.certPem);
  const hosts = new Set(facts.hosts.map(canonicalHost));
  return (
    facts.commonName === wanted.commonName &&
    facts.organizations.join('\n') === (wanted.organizations ?? []).join('\n') &&
    (wanted.hosts ?? []).every((host) => hosts.has(canonicalHost(host))) &&
    belongsTogether(pair, ca.certPem)
  );
}

const isOld = (pair: KeyPair, nowMs: number): boolean =>
  lifeLeft(readCertificate(pair.certPem), nowMs) < RENEW_BELOW;

async function ensureSigningKey(files: PkiFiles): Promise<Pki['serviceAccount']> {
  const privatePem = files.read('sa.key');
  const publicPem = files.read('sa.pub');
  if (privatePem !== undefined && publicPem !== undefined) return { privatePem, publicPem };
  const key = await createSigningKey();
  files.write('sa.key', key.privatePem);
  files.write('sa.pub', key.publicPem);
  return key;
}

/** A damaged file is not an error here but a reason to make a new one. */
function unlessBroken<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
