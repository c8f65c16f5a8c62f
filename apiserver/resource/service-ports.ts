import { needsHealthCheckPort } from '#api/core/service-validate.ts';
import { invalid } from '#api/field-error.ts';
import { internalError, invalidError } from '#api/status.ts';
import type { Service, ServicePort, ServiceSpec } from '#api/types.ts';

/** Takes ports out of the node port range; both throw what the range or its users object. */
export type PortTaker = {
  take(port: number): Promise<PortRefusal | null>;
  /** Any free port; null when there is none. */
  takeAny(): Promise<number | null>;
};

/** Upstream's words for why a port cannot be had. */
export type PortRefusal = string;

const hasNodePorts = (spec: ServiceSpec): boolean =>
  spec.type === 'NodePort' || spec.type === 'LoadBalancer';

const allocates = (spec: ServiceSpec): boolean =>
  spec.type === 'NodePort' || spec.allocateLoadBalancerNodePorts !== false;

/** The ports that a stored service holds. */
export function heldPorts(service: Service | null): number[] {
  const spec = service?.spec ?? {};
  const held = hasNodePorts(spec) ? (spec.ports ?? []).map((port) => port.nodePort ?? 0) : [];
  if (needsHealthCheckPort(spec)) held.push(spec.healthCheckNodePort ?? 0);
  return [...new Set(held.filter((port) => port !== 0))];
}

/**
 * Gives a service the node ports it wants or lacks, and the port of its health check.
 * Throws StatusError: Invalid for a port that is taken or out of range, 500 when none is left.
 */
export async function assignPorts(
  service: Service,
  old: Service | null,
  taker: PortTaker,
): Promise<void> {
  const spec = service.spec ?? {};
  if (hasNodePorts(spec)) {
    if (old === null) await assignNew(service, spec, taker);
    else await assignChanged(service, spec, heldPorts(old), taker);
  }
  if (needsHealthCheckPort(spec) && !(old && needsHealthCheckPort(old.spec ?? {}))) {
    await assignHealthCheck(spec, taker);
  }
}

/** The same port number under two protocols shares one node port. */
async function assignNew(service: Service, spec: ServiceSpec, taker: PortTaker): Promise<void> {
  const ports = spec.ports ?? [];
  const assigned = new Map<number, number>();
  for (const [i, port] of ports.entries()) {
    if (!port.nodePort && !allocates(spec)) continue;
    const shared = assigned.get(port.port);
    if (shared === undefined) {
      const wanted = ports.find((other) => other.port === port.port && other.nodePort)?.nodePort;
      if (wanted) await takeFor(service, i, wanted, taker);
      port.nodePort = wanted || (await takeAny(taker));
      assigned.set(port.port, port.nodePort);
    } else if (!port.nodePort) port.nodePort = shared;
    else if (port.nodePort !== shared) await takeFor(service, i, port.nodePort, taker);
  }
}

async function assignChanged(
  service: Service,
  spec: ServiceSpec,
  held: readonly number[],
  taker: PortTaker,
): Promise<void> {
  const own = new Set(held);
  const seen = new Set<string>();
  for (const [i, port] of (spec.ports ?? []).entries()) {
    if (!port.nodePort && !allocates(spec)) continue;
    if (!port.nodePort) port.nodePort = await takeAny(taker);
    else if (!own.has(port.nodePort)) await takeFor(service, i, port.nodePort, taker);
    own.add(port.nodePort);
    const use = describeUse(port);
    if (seen.has(use)) throw internalError(`duplicate nodePort: ${use}`);
    seen.add(use);
  }
}

const describeUse = ({ protocol, nodePort }: ServicePort): string => `{${protocol} ${nodePort}}`;

async function assignHealthCheck(spec: ServiceSpec, taker: PortTaker): Promise<void> {
  const wanted = spec.healthCheckNodePort;
  if (!wanted) {
    const port = await taker.takeAny();
    if (port === null) {
      throw internalError('failed to allocate a HealthCheck NodePort 0: range is full');
    }
    spec.healthCheckNodePort = port;
    return;
  }
  const refusal = await taker.take(wanted);
  if (refusal === null) return;
  throw internalError(`failed to allocate requested HealthCheck NodePort ${wanted}: ${refusal}`);
}

async function takeFor(
  service: Service,
  index: number,
  port: number,
  taker: PortTaker,
): Promise<void> {
  const refusal = await taker.take(port);
  if (refusal === null) return;
  throw invalidError({ group: '', kind: 'Service' }, service.metadata.name ?? '', [
    invalid(`spec.ports[${index}].nodePort`, port, refusal),
  ]);
}

async function takeAny(taker: PortTaker): Promise<number> {
  const port = await taker.takeAny();
  if (port === null) throw internalError('failed to allocate a nodePort: range is full');
  return port;
}
