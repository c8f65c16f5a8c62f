import {
  atomicList,
  atomicMap,
  emptyText,
  oneOf,
  rulesOf,
  setList,
  struct,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of discovery lack (discovery): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const discoveryRules: FieldRules = rulesOf({
  DiscoveryV1EndpointPort: { '': atomicMap, protocol: oneOf('SCTP', 'TCP', 'UDP') },
  V1Endpoint: { addresses: setList, conditions: struct },
  V1EndpointHints: { forNodes: atomicList, forZones: atomicList },
  V1EndpointSlice: {
    addressType: { ...oneOf('FQDN', 'IPv4', 'IPv6'), ...emptyText },
    endpoints: atomicList,
    ports: atomicList,
  },
  V1ForNode: { name: emptyText },
  V1ForZone: { name: emptyText },
});
