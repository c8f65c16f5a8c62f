import type * as models from '@kubernetes/client-node';
import type { KubeObject, Plain } from '#api/types.ts';

type Typed<T> = Plain<T> & KubeObject;

export type DeviceClass = Typed<models.V1DeviceClass>;
export type ResourceClaim = Typed<models.ResourceV1ResourceClaim>;
export type ResourceClaimTemplate = Typed<models.V1ResourceClaimTemplate>;
export type ResourceSlice = Typed<models.V1ResourceSlice>;

export type DeviceClaim = Plain<models.V1DeviceClaim>;
export type DeviceRequest = Plain<models.V1DeviceRequest>;
export type ExactRequest = Plain<models.V1ExactDeviceRequest>;
export type SubRequest = Plain<models.V1DeviceSubRequest>;
export type DeviceConstraint = Plain<models.V1DeviceConstraint>;
export type DeviceConfiguration = Plain<models.V1DeviceClaimConfiguration>;
export type DeviceSelector = Plain<models.V1DeviceSelector>;
export type Device = Plain<models.V1Device>;
export type DeviceAttribute = Plain<models.V1DeviceAttribute>;
export type CounterSet = Plain<models.V1CounterSet>;
