import { type Clock, systemClock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { type Random, systemRandom } from '#base/random.ts';
import { isStatusError } from '#api/status.ts';
import type { Lease } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { leases } from '#client/resources.ts';

export type LeaderOptions = {
  /** The Lease's name and namespace, such as kube-system/kube-controller-manager. */
  name: string;
  namespace: string;
  /** Distinguishes this process from all others. */
  identity: string;
  signal: AbortSignal;
  log: Log;
  clock?: Clock;
  random?: Random;
};

/** Upstream's defaults: --leader-elect-lease-duration, -renew-deadline, -retry-period. */
const LEASE_DURATION_MS = 15_000;
const RENEW_DEADLINE_MS = 10_000;
const RETRY_PERIOD_MS = 2_000;
const JITTER = 1.2;

/** The lease as last seen, and when we saw it change: clocks of other machines are not trusted. */
type Observed = { lease: Lease | null; text: string; atMs: number };

/**
 * Waits until this process holds the Lease, then runs `lead` until the lease is lost (throws) or
 * the signal aborts. On a clean end the lease is given up, so that the next need not wait.
 */
export async function runAsLeader(
  api: Api,
  options: LeaderOptions,
  lead: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { signal, log, identity, clock = systemClock, random = systemRandom } = options;
  const election = {
    api,
    options,
    clock,
    observed: { lease: null, text: '', atMs: 0 } as Observed,
  };
  while (!(await tryToHold(election))) {
    await clock.sleep(RETRY_PERIOD_MS * (1 + JITTER * random()), { signal });
  }
  log.info('leading', { lease: `${options.namespace}/${options.name}`, identity });
  const lost = new AbortController();
  const leading = AbortSignal.any([signal, lost.signal]);
  const renewing = renew(election, leading).catch((error: unknown) => {
    if (!leading.aborted) lost.abort(error);
  });
  try {
    await lead(leading);
    if (lost.signal.aborted) throw lost.signal.reason;
  } finally {
    const wasLost = lost.signal.aborted;
    lost.abort(new Error('no longer leading'));
    await renewing;
    if (!wasLost) await release(election);
  }
}

type Election = { api: Api; options: LeaderOptions; clock: Clock; observed: Observed };

/** Renews until aborted; throws when the lease could not be renewed in time. */
async function renew(election: Election, signal: AbortSignal): Promise<void> {
  const { clock, options } = election;
  let renewedMs = clock.now();
  for (;;) {
    await clock.sleep(RETRY_PERIOD_MS, { signal });
    if (await tryToHold(election)) renewedMs = clock.now();
    else if (clock.now() - renewedMs >= RENEW_DEADLINE_MS) {
      throw new Error(`lost the lease ${options.namespace}/${options.name}`);
    }
  }
}

/** Takes or renews the lease; false when another holds it or the write did not go through. */
async function tryToHold(election: Election): Promise<boolean> {
  const { api, options, clock } = election;
  const { log, identity } = options;
  try {
    const lease = await observe(election);
    const nowMs = clock.now();
    const time = new Date(nowMs).toISOString().replace('Z', '000Z');
    if (!lease) {
      const spec = newSpec(identity, time, time, 0);
      const { name, namespace } = options;
      remember(election, await api.create(leases, { metadata: { name, namespace }, spec }));
      return true;
    }
    const holder = lease.spec?.holderIdentity ?? '';
    const heldMs = (lease.spec?.leaseDurationSeconds ?? 0) * 1000;
    if (holder && holder !== identity && election.observed.atMs + heldMs > nowMs) return false;
    const mine = holder === identity;
    const since = mine ? (lease.spec?.acquireTime ?? time) : time;
    const transitions = (lease.spec?.leaseTransitions ?? 0) + (mine ? 0 : 1);
    const spec = newSpec(identity, since, time, transitions);
    remember(election, await api.update(leases, { ...lease, spec }));
    return true;
  } catch (error) {
    options.signal.throwIfAborted();
    const expected = isStatusError(error, 'Conflict') || isStatusError(error, 'AlreadyExists');
    if (!expected) log.warn('cannot hold the lease', { error: errorText(error) });
    return false;
  }
}

const newSpec = (
  identity: string,
  acquireTime: string,
  renewTime: string,
  leaseTransitions: number,
): NonNullable<Lease['spec']> => ({
  holderIdentity: identity,
  leaseDurationSeconds: LEASE_DURATION_MS / 1000,
  acquireTime,
  renewTime,
  leaseTransitions,
});

async function observe(election: Election): Promise<Lease | null> {
  const { name, namespace } = election.options;
  try {
    const lease = await election.api.get(leases, { name, namespace });
    remember(election, lease);
    return lease;
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return null;
    throw error;
  }
}

function remember(election: Election, lease: Lease): void {
  const text = JSON.stringify(lease.spec);
  if (election.observed.text === text) return;
  election.observed = { lease, text, atMs: election.clock.now() };
}

async function release(election: Election): Promise<void> {
  const { lease } = election.observed;
  const { options } = election;
  if (lease?.spec?.holderIdentity !== options.identity) return;
  try {
    await election.api.update(leases, {
      ...lease,
      spec: { ...lease.spec, holderIdentity: '', leaseDurationSeconds: 1 },
    });
  } catch (error) {
    options.log.debug('lease not released', { error: errorText(error) });
  }
}
