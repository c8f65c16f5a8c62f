import { X509Certificate } from 'node:crypto';
import { isStatusError } from '#api/status.ts';
import type { CertificateSigningRequest, Node } from '#api/types.ts';
import type { Clock } from '#base/clock.ts';
import { errorText } from '#base/log.ts';
import { canonicalHost, type KeyPair } from '#base/x509.ts';
import { readRequest, type RequestFacts, signRequest } from '#base/x509-request.ts';
import type { Attributes, Authorizer } from '#apiserver/authz/authorizer.ts';
import { type BootstrapContext, kindOf, writeAsServer } from '#apiserver/bootstrap-context.ts';
import { KUBELET_CLIENT, KUBELET_SERVING, SIGNERS } from '#apiserver/certificates/signers.ts';
import { timestamp } from '#apiserver/resource/server-context.ts';
import type { WatchCache } from '#apiserver/watch-cache.ts';

const GROUP = 'certificates.k8s.io';
const PLURAL = 'certificatesigningrequests';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
/** Default of --cluster-signing-duration. */
const LONGEST_MS = 365 * 24 * HOUR_MS;
/** For clients whose clock is behind; short lives are not backdated, or renewal would come at once. */
const BACKDATE_MS = 5 * MINUTE_MS;
const SHORT_MS = 8 * HOUR_MS;
/** Requests that are done, and those that nobody has cared for, go after this. */
const DONE_LIFE_MS = HOUR_MS;
const PENDING_LIFE_MS = 24 * HOUR_MS;
/** Old requests are looked for this often; upstream's period. */
const CLEAN_PERIOD_MS = HOUR_MS;
/** Failures, such as a store that is away, are tried again after this. */
const RETRY_MS = 5_000;

type Request = CertificateSigningRequest;
type Condition = NonNullable<NonNullable<Request['status']>['conditions']>[number];

export type CertificatesContext = BootstrapContext & {
  clock: Clock;
  cache: WatchCache;
  authorizer: Authorizer;
  /** A function because the authority is renewed. */
  ca: () => KeyPair;
  /** Longest life of what is signed; a year when absent. */
  signingDurationMs?: number | undefined;
};

/**
 * Approves node agents' requests for credentials, signs what is approved, and removes old requests,
 * for as long as the server runs. Upstream's controller manager does this; here the authority's key
 * lives with the API server and leaves it for nobody, so that controllers may run elsewhere.
 * Source: Kubernetes "Certificates and Certificate Signing Requests"; "TLS bootstrapping".
 */
export async function keepCertificates(context: CertificatesContext): Promise<void> {
  const { cache, clock, signal, log } = context;
  let changed = Promise.withResolvers<void>();
  const seen = new Map<string, string>();
  let cleanAtMs = clock.now() + CLEAN_PERIOD_MS;
  const stops = [
    cache.at(GROUP, PLURAL).listen(() => changed.resolve()),
    // What nobody had the right to may be approved now.
    cache.at('rbac.authorization.k8s.io', 'clusterrolebindings').listen(() => {
      seen.clear();
      changed.resolve();
    }),
  ];
  const ended = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  try {
    for (;;) {
      changed = Promise.withResolvers<void>();
      let waitMs = CLEAN_PERIOD_MS;
      if (clock.now() >= cleanAtMs) {
        seen.clear();
        cleanAtMs = clock.now() + CLEAN_PERIOD_MS;
      }
      for (const request of context.reader.list<Request>(GROUP, PLURAL)) {
        const { uid = '', resourceVersion = '' } = request.metadata;
        // What waits for a person is not read again whenever another request comes.
        if (seen.get(uid) === resourceVersion) continue;
        try {
          await handle(context, request);
          seen.set(uid, resourceVersion);
        } catch (error) {
          signal.throwIfAborted();
          waitMs = RETRY_MS;
          const { name } = request.metadata;
          log.warn('certificate request not handled', { name, error: errorText(error) });
        }
      }
      const over = new AbortController();
      const sleep = clock.sleep(waitMs, { signal: over.signal }).catch(() => {});
      await Promise.race([changed.promise, sleep, ended]);
      over.abort();
      signal.throwIfAborted();
    }
  } finally {
    for (const stop of stops) stop();
  }
}

async function handle(context: CertificatesContext, request: Request): Promise<void> {
  const kind = kindOf(context, GROUP, 'v1', PLURAL);
  const { name = '' } = request.metadata;
  if (isOld(request, context.clock.now())) {
    await context.resources.delete(kind, { name }, {}, writeAsServer(context)).catch(ignoreGone);
    return;
  }
  const types = new Set((request.status?.conditions ?? []).map(({ type }) => type));
  if (request.status?.certificate || types.has('Denied') || types.has('Failed')) return;
  const change = types.has('Approved')
    ? await sign(context, request)
    : await approve(context, request);
  if (!change) return;
  const subresource = types.has('Approved') ? 'status' : 'approval';
  const as = { ...writeAsServer(context), subresource };
  await context.resources.modify<Request>(kind, { name }, change, as).catch(ignoreGone);
}

function ignoreGone(error: unknown): undefined {
  if (!isStatusError(error, 'NotFound')) throw error;
}

type Change = (current: Request) => void;

const withCondition =
  (context: CertificatesContext, fields: Pick<Condition, 'type' | 'reason' | 'message'>): Change =>
  (current) => {
    // Another server on the same store may have been faster.
    if (current.status?.conditions?.some(({ type }) => type === fields.type)) return;
    const now = timestamp(context.clock.now());
    const condition = { ...fields, status: 'True', lastUpdateTime: now, lastTransitionTime: now };
    const conditions = [...(current.status?.conditions ?? []), condition];
    current.status = { ...current.status, conditions: conditions as Condition[] };
  };

const textOf = ({ spec }: Request): string => Buffer.from(spec.request, 'base64').toString('utf8');

/** The rights by which a node agent's request is approved without a person. */
const NODE_RIGHTS = [
  {
    subresource: 'selfnodeclient',
    message: 'Auto approving self kubelet client certificate after SubjectAccessReview.',
  },
  {
    subresource: 'nodeclient',
    message: 'Auto approving kubelet client certificate after SubjectAccessReview.',
  },
] as const;

async function approve(
  context: CertificatesContext,
  request: Request,
): Promise<Change | undefined> {
  const { signerName, usages = [], username = '' } = request.spec;
  if (signerName !== KUBELET_CLIENT && signerName !== KUBELET_SERVING) return undefined;
  const facts = await readRequest(textOf(request));
  if (SIGNERS[signerName]?.(facts, usages) !== '') return undefined;
  if (signerName === KUBELET_SERVING) {
    if (!asksForItself(context, request, facts)) return undefined;
    const message = 'Auto approving kubelet serving certificate for the addresses of its own node.';
    return withCondition(context, { type: 'Approved', reason: 'AutoApproved', message });
  }
  for (const { subresource, message } of NODE_RIGHTS) {
    if (subresource === 'selfnodeclient' && username !== facts.commonName) continue;
    const { decision } = context.authorizer.authorize(rightOf(request, subresource));
    if (decision !== 'allow') continue;
    return withCondition(context, { type: 'Approved', reason: 'AutoApproved', message });
  }
  return undefined;
}

/** A node gets a serving certificate for its own name and the addresses it has said are its own. */
function asksForItself(
  { reader }: CertificatesContext,
  { spec }: Request,
  facts: RequestFacts,
): boolean {
  const { username = '', groups = [] } = spec;
  if (username !== facts.commonName || !groups.includes('system:nodes')) return false;
  const name = username.slice('system:node:'.length);
  const node = reader.get<Node>('', 'nodes', { name });
  const own = new Set(node?.status?.addresses?.map(({ address }) => canonicalHost(address)));
  own.add(name);
  const asked = [...facts.dnsNames, ...facts.ipAddresses];
  return node !== undefined && asked.every((host) => own.has(canonicalHost(host)));
}

function rightOf({ spec }: Request, subresource: string): Attributes {
  const { username = '', uid, groups = [], extra } = spec;
  return {
    user: { name: username, groups, ...(uid ? { uid } : {}), ...(extra ? { extra } : {}) },
    verb: 'create',
    group: GROUP,
    version: 'v1',
    resource: PLURAL,
    subresource,
    namespace: '',
    name: '',
    isResource: true,
    path: '',
  };
}

async function sign(context: CertificatesContext, request: Request): Promise<Change | undefined> {
  const { signerName, usages = [], expirationSeconds } = request.spec;
  const check = SIGNERS[signerName];
  if (!check) return undefined;
  let problem: string;
  try {
    problem = check(await readRequest(textOf(request)), usages);
  } catch (error) {
    problem = `unable to parse csr: ${errorText(error)}`;
  }
  if (problem) {
    const reason = 'SignerValidationFailed';
    return withCondition(context, { type: 'Failed', reason, message: problem });
  }
  const now = context.clock.now();
  const longestMs = context.signingDurationMs ?? LONGEST_MS;
  const lifeMs = Math.min(longestMs, (expirationSeconds ?? Number.POSITIVE_INFINITY) * 1000);
  const backdateMs = lifeMs < SHORT_MS ? 0 : BACKDATE_MS;
  const certificate = await signRequest(context.ca(), textOf(request), {
    usages,
    validity: { notBeforeMs: now - backdateMs, notAfterMs: now + lifeMs },
  });
  return (current) => {
    if (current.status?.certificate) return;
    current.status = {
      ...current.status,
      certificate: Buffer.from(certificate).toString('base64'),
    };
  };
}

/** Whether a request is done for long enough, or has waited for too long. */
export function isOld({ metadata, status = {} }: Request, nowMs: number): boolean {
  const olderThan = (time: string | undefined, lifeMs: number): boolean =>
    time !== undefined && nowMs - Date.parse(time) > lifeMs;
  const { conditions = [], certificate } = status;
  if (conditions.length === 0) return olderThan(metadata.creationTimestamp, PENDING_LIFE_MS);
  return conditions.some(({ type, lastUpdateTime }) => {
    if (type === 'Denied' || type === 'Failed') return olderThan(lastUpdateTime, DONE_LIFE_MS);
    if (type !== 'Approved') return false;
    if (!certificate) return olderThan(lastUpdateTime, PENDING_LIFE_MS);
    return olderThan(lastUpdateTime, DONE_LIFE_MS) || isExpired(certificate, nowMs);
  });
}

function isExpired(certificate: string, nowMs: number): boolean {
  try {
    return new X509Certificate(Buffer.from(certificate, 'base64')).validToDate.getTime() < nowMs;
  } catch {
    // Another signer's own matter: its age decides.
    return false;
  }
}
