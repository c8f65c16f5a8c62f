import type { EndpointSlice, Service } from '#api/types.ts';
import type { Informer } from '#client/informer.ts';
import type { Informers } from '#client/informer-factory.ts';
import { endpointSlices, namespaces, services } from '#client/resources.ts';
import { parseCidr } from '../addresses.ts';
import { SERVICE_NAME_LABEL } from '../service-rules.ts';
import type { DnsView } from './answer.ts';

/** As long as a pod may go on using an address that is gone. */
const TTL_SECONDS = 5;

const BY_SERVICE = 'dns-service';
const BY_ADDRESS = 'dns-address';

/** A view over live informers: each answer sees the cluster as it is at that moment. */
export function informerView(
  informers: Informers,
  config: { domain: string; ownNetworks: readonly string[] },
): DnsView {
  const serviceInformer: Informer<Service> = informers.of(services, {
    indexes: { [BY_ADDRESS]: clusterAddresses },
  });
  const sliceInformer: Informer<EndpointSlice> = informers.of(endpointSlices, {
    indexes: { [BY_SERVICE]: sliceOwner, [BY_ADDRESS]: sliceAddresses },
  });
  const namespaceInformer = informers.of(namespaces);
  const all = [serviceInformer, sliceInformer, namespaceInformer];
  return {
    isComplete: () => all.every((informer) => informer.hasSynced()),
    domain: config.domain,
    ttlSeconds: TTL_SECONDS,
    ownNetworks: config.ownNetworks.map(parseCidr),
    service: (namespace, name) => serviceInformer.get({ namespace, name }),
    slices: (namespace, name) => sliceInformer.byIndex(BY_SERVICE, `${namespace}/${name}`),
    hasNamespace: (name) => namespaceInformer.get({ name }) !== undefined,
    serviceByAddress: (address) => serviceInformer.byIndex(BY_ADDRESS, address)[0],
    slicesByAddress: (address) => sliceInformer.byIndex(BY_ADDRESS, address),
  };
}

function clusterAddresses({ spec }: Service): string[] {
  return (spec?.clusterIPs ?? [spec?.clusterIP ?? '']).filter((ip) => ip !== '' && ip !== 'None');
}

function sliceOwner({ metadata }: EndpointSlice): string[] {
  const name = metadata.labels?.[SERVICE_NAME_LABEL];
  return name === undefined ? [] : [`${metadata.namespace}/${name}`];
}

function sliceAddresses({ endpoints }: EndpointSlice): string[] {
  return (endpoints ?? []).flatMap(({ addresses }) => addresses);
}
