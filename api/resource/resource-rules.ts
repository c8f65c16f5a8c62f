import {
  atomicList,
  emptyText,
  listMap,
  mergeMap,
  oneOf,
  rulesOf,
  struct,
  zero,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of resource lack (resource): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const resourceRules: FieldRules = rulesOf({
  ResourceV1ResourceClaim: { spec: struct, status: struct },
  V1AllocatedDeviceStatus: {
    conditions: listMap('type'),
    device: emptyText,
    driver: emptyText,
    pool: emptyText,
  },
  V1AllocationResult: { devices: struct },
  V1CELDeviceSelector: { expression: emptyText },
  V1CapacityRequestPolicy: { validValues: atomicList },
  V1CounterSet: { name: emptyText },
  V1Device: {
    bindingConditions: atomicList,
    bindingFailureConditions: atomicList,
    consumesCounters: atomicList,
    name: emptyText,
    taints: atomicList,
  },
  V1DeviceAllocationConfiguration: {
    requests: atomicList,
    source: { ...oneOf('FromClaim', 'FromClass'), ...emptyText },
  },
  V1DeviceAllocationResult: { config: atomicList, results: atomicList },
  V1DeviceAttribute: {
    bools: atomicList,
    ints: atomicList,
    strings: atomicList,
    versions: atomicList,
  },
  V1DeviceClaim: { config: atomicList, constraints: atomicList, requests: atomicList },
  V1DeviceClaimConfiguration: { requests: atomicList },
  V1DeviceClass: { spec: struct },
  V1DeviceClassSpec: { config: atomicList, selectors: atomicList },
  V1DeviceConstraint: { requests: atomicList },
  V1DeviceCounterConsumption: { counterSet: emptyText },
  V1DeviceRequest: { firstAvailable: atomicList, name: emptyText },
  V1DeviceRequestAllocationResult: {
    bindingConditions: atomicList,
    bindingFailureConditions: atomicList,
    device: emptyText,
    driver: emptyText,
    pool: emptyText,
    request: emptyText,
    tolerations: atomicList,
  },
  V1DeviceSubRequest: {
    allocationMode: oneOf('All', 'ExactCount'),
    deviceClassName: emptyText,
    name: emptyText,
    selectors: atomicList,
    tolerations: atomicList,
  },
  V1DeviceTaint: {
    effect: { ...oneOf('NoExecute', 'NoSchedule', 'None'), ...emptyText },
    key: emptyText,
  },
  V1DeviceToleration: {
    effect: oneOf('NoExecute', 'NoSchedule', 'None'),
    operator: { ...oneOf('Equal', 'Exists'), default: 'Equal' },
  },
  V1ExactDeviceRequest: {
    allocationMode: oneOf('All', 'ExactCount'),
    deviceClassName: emptyText,
    selectors: atomicList,
    tolerations: atomicList,
  },
  V1NetworkDeviceData: { ips: atomicList },
  V1OpaqueDeviceConfiguration: { driver: emptyText },
  V1ResourceClaimConsumerReference: { name: emptyText, resource: emptyText, uid: emptyText },
  V1ResourceClaimSpec: { devices: struct },
  V1ResourceClaimStatus: {
    devices: listMap('driver', 'device', 'pool', 'shareID'),
    reservedFor: mergeMap('uid'),
  },
  V1ResourceClaimTemplate: { spec: struct },
  V1ResourceClaimTemplateSpec: { spec: struct },
  V1ResourcePool: { generation: zero, name: emptyText, resourceSliceCount: zero },
  V1ResourceSlice: { spec: struct },
  V1ResourceSliceSpec: {
    devices: atomicList,
    driver: emptyText,
    pool: struct,
    sharedCounters: atomicList,
  },
});
