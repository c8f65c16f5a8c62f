import { backoffMs } from '#base/backoff.ts';
import type { Clock } from '#base/clock.ts';
import { errorText, type Log } from '#base/log.ts';
import { isStatusError } from '#api/status.ts';
import { formatMicroTime } from '#api/time.ts';
import type { Lease, Node } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { leases } from '#client/resources.ts';

const NAMESPACE = 'kube-node-lease';
/** Source: kubelet's nodeLeaseDurationSeconds; renewed at a quarter of it. */
const DURATION_S = 40;
const RENEW_MS = 10_000;
const RETRY = { initialMs: 200, maxMs: 7_000 };

export type LeaseOptions = {
  api: Api;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
  node: Node;
};

/** Tells every 10 s that the node lives. Source: Kubernetes documentation, "Node heartbeats". */
export async function renewNodeLease(options: LeaseOptions): Promise<void> {
  const { clock, log, signal, node } = options;
  let lease: Lease | undefined;
  let failures = 0;
  while (!signal.aborted) {
    try {
      lease = await renew(options, lease);
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      lease = undefined;
      failures++;
      log.warn('could not renew the node lease', {
        node: node.metadata.name,
        error: errorText(error),
      });
    }
    const ms = failures > 0 ? backoffMs(failures, RETRY) : RENEW_MS;
    await clock.sleep(ms, { signal }).catch(() => undefined);
  }
}

async function renew(
  { api, clock, node, signal }: LeaseOptions,
  known: Lease | undefined,
): Promise<Lease> {
  const name = node.metadata.name ?? '';
  const lease = known ?? (await read(api, name));
  const spec = {
    holderIdentity: name,
    leaseDurationSeconds: DURATION_S,
    renewTime: formatMicroTime(clock.now()),
  };
  if (lease) {
    const update: Lease = { ...lease, spec: { ...lease.spec, ...spec } };
    return api.update(leases, update, { signal });
  }
  const fresh: Lease = {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: {
      name,
      namespace: NAMESPACE,
      ownerReferences: [{ apiVersion: 'v1', kind: 'Node', name, uid: node.metadata.uid ?? '' }],
    },
    spec,
  };
  return api.create(leases, fresh, { signal });
}

async function read(api: Api, name: string): Promise<Lease | undefined> {
  try {
    return await api.get(leases, { namespace: NAMESPACE, name });
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return undefined;
    throw error;
  }
}
