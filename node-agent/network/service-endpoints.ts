import type { Endpoint, EndpointSlice, ServicePort } from '#api/types.ts';
import type { NodeFacts } from './service-table.ts';

export type Target = { address: string; port: number };

/** Which targets a Service port's traffic may go to, seen from one node. */
export type Targets = {
  /** For traffic that may go to any node. */
  cluster: Target[];
  /** On this node. */
  local: Target[];
};

type Candidate = { endpoint: Endpoint; target: Target };

/**
 * Ready endpoints; when there is none, those that still serve while they terminate. Addresses
 * that several slices name count once. When every ready endpoint carries hints and some are meant
 * for this node or its zone, only those are used for cluster-wide traffic.
 *
 * Sources: EndpointSlice API; KEP-1669 (terminating endpoints), KEP-2433 (topology hints).
 */
export function portTargets(
  port: ServicePort,
  slices: readonly EndpointSlice[],
  node: NodeFacts,
): Targets {
  const candidates = slices.flatMap((slice) => sliceCandidates(port, slice, node.family));
  const here = candidates.filter(({ endpoint }) => endpoint.nodeName === node.nodeName);
  return {
    cluster: targetsOf(hinted(usable(candidates), node)),
    local: targetsOf(usable(here)),
  };
}

function sliceCandidates(
  port: ServicePort,
  slice: EndpointSlice,
  family: NodeFacts['family'],
): Candidate[] {
  if (slice.addressType !== family) return [];
  const match = slice.ports?.find(
    ({ name, protocol }) =>
      (name ?? '') === (port.name ?? '') && (protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
  );
  const number = match?.port;
  if (number == null) return [];
  return (slice.endpoints ?? []).flatMap((endpoint) => {
    const address = endpoint.addresses[0];
    return address === undefined ? [] : [{ endpoint, target: { address, port: number } }];
  });
}

function usable(candidates: readonly Candidate[]): Candidate[] {
  const ready = candidates.filter(({ endpoint }) => endpoint.conditions?.ready !== false);
  if (ready.length > 0) return ready;
  return candidates.filter(
    ({ endpoint: { conditions } }) =>
      conditions?.serving !== false && conditions?.terminating === true,
  );
}

function hinted(candidates: Candidate[], { nodeName, zone }: NodeFacts): Candidate[] {
  const nodesOf = ({ endpoint }: Candidate) => endpoint.hints?.forNodes ?? [];
  const zonesOf = ({ endpoint }: Candidate) => endpoint.hints?.forZones ?? [];
  if (candidates.every((candidate) => nodesOf(candidate).length > 0)) {
    const mine = candidates.filter((c) => nodesOf(c).some(({ name }) => name === nodeName));
    if (mine.length > 0) return mine;
  }
  if (zone === '' || !candidates.every((candidate) => zonesOf(candidate).length > 0))
    return candidates;
  const mine = candidates.filter((c) => zonesOf(c).some(({ name }) => name === zone));
  return mine.length > 0 ? mine : candidates;
}

/** Sorted, so that the same endpoints in another order are the same rules. */
function targetsOf(candidates: readonly Candidate[]): Target[] {
  const byName = new Map(
    candidates.map(({ target }) => [`${target.address} ${target.port}`, target]),
  );
  return [...byName].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, target]) => target);
}
