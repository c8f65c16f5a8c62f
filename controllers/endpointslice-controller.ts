import type { EndpointSlice, Node, Pod, Service } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { endpointSlices, nodes, pods, services } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import {
  groupEndpoints,
  MANAGED_BY_LABEL,
  planSlices,
  SERVICE_NAME_LABEL,
  sliceLabels,
} from '#controllers/endpointslice-plan.ts';
import {
  familiesOf,
  onServicePods,
  selectedPods,
  selectsPods,
  servicePodCaches,
} from '#controllers/service-pods.ts';

const MANAGER = 'endpointslice-controller.k8s.io';

export type EndpointSliceWorld = {
  service: Service;
  pods: readonly Pod[];
  slices: readonly EndpointSlice[];
  nodeOf: (name: string) => Node | undefined;
};

/** Source: EndpointSlice API; conditions as in "Terminating endpoints". */
export function planEndpointSlices({ service, pods, slices, nodeOf }: EndpointSliceWorld): Plan {
  const groups = groupEndpoints(service, pods, nodeOf);
  const actions = planSlices(groups, familiesOf(service), slices, {
    owner: service,
    serviceName: service.metadata.name ?? '',
    managedBy: MANAGER,
    labels: sliceLabels(service, MANAGER),
  });
  return { actions };
}

export const SERVICE_INDEX = 'service';

/** Index values: the service that a slice belongs to. */
export function serviceIndex(slice: EndpointSlice): string[] {
  const name = slice.metadata.labels?.[SERVICE_NAME_LABEL];
  return name ? [`${slice.metadata.namespace}/${name}`] : [];
}

export const isManagedBy = (slice: EndpointSlice, manager: string): boolean =>
  slice.metadata.labels?.[MANAGED_BY_LABEL] === manager;

/** Keeps the EndpointSlices of every Service that selects pods. */
export const endpointSliceController: ControllerDefinition = {
  name: 'endpointslice-controller',
  async run(setup) {
    const { informers } = setup;
    const caches = servicePodCaches(informers);
    const { podCache, serviceCache } = caches;
    const nodeCache = informers.of(nodes);
    const sliceCache = informers.of(endpointSlices, { indexes: { [SERVICE_INDEX]: serviceIndex } });
    await runController<EndpointSliceWorld>(
      {
        name: 'endpointslice-controller',
        workers: 5,
        caches: [
          cacheOf(services, serviceCache),
          cacheOf(pods, podCache),
          cacheOf(nodes, nodeCache),
          cacheOf(endpointSlices, sliceCache),
        ],
        triggers(add) {
          onSelf(serviceCache, add);
          onServicePods(caches, add);
          sliceCache.onChange(({ object }) => {
            if (isManagedBy(object, MANAGER)) for (const key of serviceIndex(object)) add(key);
          });
        },
        observe(key) {
          const service = serviceCache.get(key);
          if (!service || !selectsPods(service) || service.metadata.deletionTimestamp) {
            return undefined;
          }
          return {
            service,
            pods: selectedPods(service, caches),
            slices: sliceCache
              .byIndex(SERVICE_INDEX, `${key.namespace}/${key.name}`)
              .filter((slice) => isManagedBy(slice, MANAGER)),
            nodeOf: (name) => nodeCache.get({ name }),
          };
        },
        plan: planEndpointSlices,
      },
      { ...setup, recorder: setup.recorderOf('endpoint-slice-controller') },
    );
  },
};
