import type { EndpointSlice, Service } from '#api/types.ts';
import type { Random } from '#base/random.ts';
import { randomInt } from '#base/random.ts';
import type { RemoteService } from '#apiserver/aggregation/remote-services.ts';
import type { ObjectReader } from '#apiserver/reader.ts';

export type Address = { host: string; port: number };

/** Why a registered server cannot be asked, in the words of its condition. */
export type Missing = { reason: string; message: string };

/**
 * Where a registered server listens: one of its service's ready endpoints, since the API server may
 * run where no service rules are; for ExternalName services the name itself.
 */
export function addressOf(
  reader: ObjectReader,
  random: Random,
  { service: { namespace, name, port } }: Pick<RemoteService, 'service'>,
): Address | Missing {
  const where = `service/${name} in ${JSON.stringify(namespace)}`;
  const service = reader.get<Service>('', 'services', { namespace, name });
  if (!service) return { reason: 'ServiceNotFound', message: `${where} is not present` };
  const { type, externalName, ports = [] } = service.spec ?? {};
  if (type === 'ExternalName') return { host: externalName ?? '', port };
  const found = ports.find((one) => one.port === port);
  if (!found) {
    return { reason: 'ServicePortError', message: `${where} is not listening on port ${port}` };
  }
  const slices = reader
    .list<EndpointSlice>('discovery.k8s.io', 'endpointslices', namespace)
    .filter(({ metadata }) => metadata.labels?.['kubernetes.io/service-name'] === name);
  if (slices.length === 0) {
    return { reason: 'EndpointsNotFound', message: `cannot find endpointslices for ${where}` };
  }
  const portName = found.name ?? '';
  const ready = slices.flatMap(({ endpoints = [], ports: own }) => {
    const target = own?.find((one) => (one.name ?? '') === portName)?.port;
    if (target === undefined) return [];
    return endpoints
      .filter(({ conditions }) => conditions?.ready !== false)
      .flatMap(({ addresses }) => addresses.map((host) => ({ host, port: target })));
  });
  const chosen = ready[randomInt(random, ready.length)];
  if (chosen) return chosen;
  const which = `with port name ${JSON.stringify(portName)}`;
  return {
    reason: 'MissingEndpoints',
    message: `endpointslices for ${where} have no addresses ${which}`,
  };
}
