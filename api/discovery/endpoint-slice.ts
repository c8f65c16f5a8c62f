import { discoveryRules } from '#api/discovery/discovery-rules.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { shortList } from '#api/meta/more-list.ts';
import type { EndpointSlice } from '#api/types.ts';

/** Source: discovery.k8s.io/v1 EndpointSlice. */
export const endpointSlice = defineKind<EndpointSlice>({
  group: 'discovery.k8s.io',
  version: 'v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
  singular: 'endpointslice',
  scope: 'Namespaced',
  schema: 'V1EndpointSlice',
  fieldRules: [discoveryRules, coreRules, metaRules],
  generation: 'spec',
  columns: [
    text('AddressType', (object) => object.addressType, 'V1EndpointSlice.addressType'),
    text(
      'Ports',
      (object) =>
        shortList(
          (object.ports ?? []).map(({ port, name }) => String(port ?? name ?? '*')),
          UNSET,
        ),
      'V1EndpointSlice.ports',
    ),
    text(
      'Endpoints',
      (object) =>
        shortList(
          (object.endpoints ?? []).flatMap((endpoint) => endpoint.addresses ?? []),
          UNSET,
        ),
      'V1EndpointSlice.endpoints',
    ),
  ],

  defaults(object) {
    object.addressType ??= '';
    for (const endpoint of object.endpoints ?? []) endpoint.conditions ??= {};
    for (const port of object.ports ?? []) {
      port.name ??= '';
      port.protocol ??= 'TCP';
    }
    // Both lists are always shown, and an empty one as null.
    const lists = object as { endpoints: unknown; ports: unknown };
    if (!object.endpoints?.length) lists.endpoints = null;
    if (!object.ports?.length) lists.ports = null;
  },
});
