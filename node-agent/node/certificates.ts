import { mkdirSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { writeAtomic } from '#base/files.ts';
import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import {
  canonicalHost,
  createCa,
  issueCertificate,
  type KeyPair,
  readCertificate,
  type Validity,
} from '#base/x509.ts';
import { isStatusError } from '#api/status.ts';
import type { Node } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { nodes } from '#client/resources.ts';
import { type CertificateWish, requestCertificate } from '#node-agent/node/certificate-request.ts';

/** Certificate and key stand in one file, so that readers never see a torn pair. */
const FILES = { client: 'kubelet-client-current.pem', serving: 'kubelet-server-current.pem' };
const RETRY = { initialMs: 2_000, maxMs: 300_000, jitter: 0.1 };
/** How often the node's addresses are compared with those of its certificate. */
const LOOK_MS = 60_000;
/** Until the node has registered and its first serving certificate is there. */
const FIRST_LOOK_MS = 500;
const DAY_MS = 86_400_000;

export const certificateFile = (certDir: string, use: CertificateWish['use']): string =>
  join(certDir, FILES[use]);

/** When to replace a certificate: after 70 to 90 % of its life, so that not all nodes ask at once. */
export function rotationTime({ notBeforeMs, notAfterMs }: Validity, random: Random): number {
  return notBeforeMs + (notAfterMs - notBeforeMs) * (0.7 + 0.2 * random());
}

/** The pair of a file; undefined when it is absent or damaged. */
export function readPair(certDir: string, use: CertificateWish['use']): KeyPair | undefined {
  try {
    const text = readFileSync(certificateFile(certDir, use), 'utf8');
    readCertificate(text);
    return { certPem: text, keyPem: text };
  } catch {
    return undefined; // a new one is asked for, whatever was wrong with it
  }
}

/** Replaces the pair in one step, readable by its owner only. */
export function writePair(certDir: string, use: CertificateWish['use'], pair: KeyPair): void {
  mkdirSync(certDir, { recursive: true, mode: 0o700 });
  const text = pair.certPem + pair.keyPem;
  writeAtomic(certificateFile(certDir, use), text, { mode: 0o600, flush: true });
}

export type CertificateKeeper = {
  api: Api;
  nodeName: string;
  certDir: string;
  signal: AbortSignal;
  clock: Clock;
  random: Random;
  log: Log;
};

/** Replaces the node's client certificate before it expires, for as long as the agent runs. */
export async function keepClientCertificate(keeper: CertificateKeeper): Promise<void> {
  const { certDir, clock, random, signal, nodeName } = keeper;
  for (;;) {
    const current = readPair(certDir, 'client');
    const dueMs = current ? rotationTime(readCertificate(current.certPem), random) : clock.now();
    await clock.sleep(Math.min(Math.max(dueMs - clock.now(), 0), DAY_MS), { signal });
    if (dueMs <= clock.now()) await replace(keeper, () => ({ use: 'client', nodeName }));
  }
}

/**
 * Gets a serving certificate for the addresses of the Node object, and another when they change or
 * its time comes. `onNew` is told when the file has another content.
 */
export async function keepServingCertificate(
  keeper: CertificateKeeper,
  onNew: () => void,
): Promise<void> {
  const { api, certDir, clock, random, signal, nodeName } = keeper;
  let dueMs = Number.NEGATIVE_INFINITY;
  let certPem = '';
  for (;;) {
    const current = readPair(certDir, 'serving');
    if (current && current.certPem !== certPem) {
      certPem = current.certPem;
      dueMs = rotationTime(readCertificate(certPem), random);
    }
    const node = await api.get(nodes, { name: nodeName }, { signal }).catch(ignoreFailure(signal));
    const wish = node && servingWish(node);
    const isDue = wish !== undefined && (dueMs <= clock.now() || !current || !names(current, wish));
    if (isDue) {
      await replace(keeper, async () => {
        const now = await api.get(nodes, { name: nodeName }, { signal });
        return servingWish(now) ?? wish;
      });
      onNew();
      continue;
    }
    const untilDueMs = Math.max(dueMs - clock.now(), FIRST_LOOK_MS);
    await clock.sleep(Math.min(wish ? untilDueMs : FIRST_LOOK_MS, LOOK_MS), { signal });
  }
}

/** Not there yet, or the API server is away: the next look tells. */
const ignoreFailure = (signal: AbortSignal) => (): undefined => {
  signal.throwIfAborted();
};

/** What a node serves under: its addresses. Undefined before it has said any. */
export function servingWish({ metadata, status }: Node): CertificateWish | undefined {
  const { name: nodeName = '' } = metadata;
  const hosts = [...new Set((status?.addresses ?? []).map(({ address }) => address))];
  if (hosts.length === 0) return undefined;
  const ips = hosts.filter((host) => isIP(host));
  return { use: 'serving', nodeName, ips, dnsNames: hosts.filter((host) => !isIP(host)) };
}

function names({ certPem }: KeyPair, wish: CertificateWish): boolean {
  if (wish.use === 'client') return true;
  const has = new Set(readCertificate(certPem).hosts.map(canonicalHost));
  return [...wish.dnsNames, ...wish.ips].every((host) => has.has(canonicalHost(host)));
}

/** Asks until there is one; what is in use stays so meanwhile. */
async function replace(
  { api, certDir, clock, random, signal, log }: CertificateKeeper,
  wishOf: () => CertificateWish | Promise<CertificateWish>,
): Promise<void> {
  for (let failures = 1; ; failures++) {
    try {
      const wish = await wishOf();
      writePair(certDir, wish.use, await requestCertificate(api, wish, { signal, clock, log }));
      log.info('certificate replaced', { use: wish.use });
      return;
    } catch (error) {
      signal.throwIfAborted();
      const level = isStatusError(error, 'Forbidden') || failures > 2 ? 'error' : 'warn';
      log[level]('could not replace a certificate', { error: errorText(error) });
      await clock.sleep(backoffMs(failures, { ...RETRY, random }), { signal });
    }
  }
}

/** Something to serve with until the cluster has signed: nobody trusts it. */
export async function ensureFirstServingPair(
  certDir: string,
  { nodeName, clock }: { nodeName: string; clock: Pick<Clock, 'now'> },
): Promise<void> {
  if (readPair(certDir, 'serving')) return;
  const now = clock.now();
  // Expired from the start, so that the keeper asks at once for one that counts.
  const validity = { notBeforeMs: now - DAY_MS, notAfterMs: now - 1_000 };
  await writeOwnPair(certDir, [nodeName], validity);
}

/** How long a serving certificate of the agent's own lasts, as a kubelet's does. */
const OWN_DAYS = 365;

/** Something to serve with where the cluster signs nothing: for callers that verify no kubelet. */
export async function ensureOwnServingPair(
  certDir: string,
  { hosts, clock }: { hosts: readonly string[]; clock: Pick<Clock, 'now'> },
): Promise<void> {
  const now = clock.now();
  const there = readPair(certDir, 'serving');
  if (there && readCertificate(there.certPem).notAfterMs > now + DAY_MS) return;
  const validity = { notBeforeMs: now - DAY_MS, notAfterMs: now + OWN_DAYS * DAY_MS };
  await writeOwnPair(certDir, hosts, validity);
}

async function writeOwnPair(
  certDir: string,
  hosts: readonly string[],
  validity: Validity,
): Promise<void> {
  const commonName = hosts[0] ?? 'node';
  const ca = await createCa({ commonName: `${commonName}-ca`, validity });
  const wanted = { commonName, hosts, usages: ['server'] as const, validity };
  writePair(certDir, 'serving', await issueCertificate(ca, wanted));
}
