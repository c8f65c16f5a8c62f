import type { Server } from 'node:http';
import { http } from '#base/http.ts';
import { errorText, type Log } from '#base/log.ts';
import type { EndpointSlice, Service } from '#api/types.ts';
import { SERVICE_NAME_LABEL } from './service-rules.ts';
import type { NodeFacts } from './service-table.ts';

/** What a load balancer is told about one Service on this node. */
export type Health = { namespace: string; name: string; localEndpoints: number };

/**
 * The ports on which balancers ask whether this node has endpoints of a Service that takes outside
 * traffic only where it runs. Endpoints that terminate no longer count, so that balancers turn away
 * before they are gone. Source: Service API, healthCheckNodePort; KEP-1669.
 */
export function healthPorts(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  node: NodeFacts,
): Map<number, Health> {
  const ports = new Map<number, Health>();
  for (const { metadata, spec } of services) {
    const port = spec?.healthCheckNodePort;
    if (!port || spec.type !== 'LoadBalancer' || spec.externalTrafficPolicy !== 'Local') continue;
    const { namespace = '', name = '' } = metadata;
    const own = slices.filter(
      (slice) =>
        slice.metadata.namespace === namespace &&
        slice.metadata.labels?.[SERVICE_NAME_LABEL] === name &&
        slice.addressType === node.family,
    );
    const local = own
      .flatMap(({ endpoints }) => endpoints ?? [])
      .filter((e) => e.nodeName === node.nodeName && e.conditions?.ready !== false);
    const localEndpoints = new Set(local.map(({ addresses }) => addresses[0])).size;
    ports.set(port, { namespace, name, localEndpoints });
  }
  return ports;
}

/** One answer for both families: a pod has an address of each, so the larger number counts. */
export function joinHealthPorts(all: readonly Map<number, Health>[]): Map<number, Health> {
  const joined = new Map<number, Health>();
  for (const [port, health] of all.flatMap((one) => [...one])) {
    const known = joined.get(port);
    if (!known || known.localEndpoints < health.localEndpoints) joined.set(port, health);
  }
  return joined;
}

export type HealthServers = {
  /** Opens and closes ports, and changes what they say. */
  update(wanted: ReadonlyMap<number, Health>): void;
  close(): void;
};

/** Serves all health check ports of a node; one that is taken is tried again at the next update. */
export function createHealthServers(log: Log): HealthServers {
  const servers = new Map<number, Server>();
  let said: ReadonlyMap<number, Health> = new Map();

  function open(port: number): void {
    const server = http.createServer((_request, response) => {
      const health = said.get(port);
      const count = health?.localEndpoints ?? 0;
      response.writeHead(count > 0 ? 200 : 503, {
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
        'x-load-balancing-endpoint-weight': `${count}`,
      });
      const service = { namespace: health?.namespace, name: health?.name };
      response.end(JSON.stringify({ service, localEndpoints: count, serviceProxyHealthy: true }));
    });
    servers.set(port, server);
    server.on('error', (error) => {
      log.warn('cannot serve a health check port', { port, error: errorText(error) });
      if (servers.get(port) === server) servers.delete(port);
    });
    // Of both families, where the kernel has both.
    server.listen(port);
    // Nobody waits for these when the agent ends.
    server.unref();
  }

  function shut(port: number): void {
    servers.get(port)?.close();
    servers.get(port)?.closeAllConnections();
    servers.delete(port);
  }

  return {
    update(wanted) {
      said = wanted;
      for (const port of servers.keys()) if (!wanted.has(port)) shut(port);
      for (const port of wanted.keys()) if (!servers.has(port)) open(port);
    },
    close() {
      for (const port of servers.keys()) shut(port);
    },
  };
}
