import {
  atomicList,
  atomicMap,
  emptyText,
  mergeMap,
  no,
  rulesOf,
  setList,
  struct,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of meta lack (meta): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const metaRules: FieldRules = rulesOf({
  V1APIGroup: {
    name: emptyText,
    preferredVersion: struct,
    serverAddressByClientCIDRs: atomicList,
    versions: atomicList,
  },
  V1APIGroupList: { groups: atomicList },
  V1APIResource: {
    categories: atomicList,
    kind: emptyText,
    name: emptyText,
    namespaced: no,
    shortNames: atomicList,
    singularName: emptyText,
  },
  V1APIResourceList: { groupVersion: emptyText, resources: atomicList },
  V1APIVersions: { serverAddressByClientCIDRs: atomicList, versions: atomicList },
  V1Condition: { message: emptyText, reason: emptyText, status: emptyText, type: emptyText },
  V1DeleteOptions: { dryRun: atomicList },
  V1FieldSelectorRequirement: { key: emptyText, operator: emptyText, values: atomicList },
  V1GroupVersionForDiscovery: { groupVersion: emptyText, version: emptyText },
  V1LabelSelector: { '': atomicMap, matchExpressions: atomicList },
  V1LabelSelectorRequirement: { key: emptyText, operator: emptyText, values: atomicList },
  V1ObjectMeta: {
    finalizers: { ...setList, patchStrategy: 'merge' },
    managedFields: atomicList,
    ownerReferences: mergeMap('uid'),
  },
  V1OwnerReference: {
    '': atomicMap,
    apiVersion: emptyText,
    kind: emptyText,
    name: emptyText,
    uid: emptyText,
  },
  V1ServerAddressByClientCIDR: { clientCIDR: emptyText, serverAddress: emptyText },
  V1ShardInfo: { selector: emptyText },
  V1StatusDetails: { causes: atomicList },
  V1WatchEvent: { type: emptyText },
});
