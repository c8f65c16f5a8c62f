import { forbidden } from '#api/field-error.ts';
import type { DeviceClaim } from '#api/resource/resource-types.ts';
import { invalidError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionRequest, AdmissionRule } from '#apiserver/admission-rule.ts';

const GROUP = 'resource.k8s.io';
const LABEL = 'resource.kubernetes.io/admin-access';
const CLAIMS = ['resourceclaims', 'resourceclaimtemplates'];

/**
 * Claims with access to devices that are in use, as administrators need it, are made only in
 * namespaces that are labelled for it. Source: resource.k8s.io/v1 ExactDeviceRequest.adminAccess.
 */
export const deviceAdminAccess: AdmissionRule = {
  name: 'DeviceAdminAccess',
  handles: ({ operation, kind, subresource }) =>
    operation === 'CREATE' &&
    kind.group === GROUP &&
    CLAIMS.includes(kind.plural) &&
    subresource === '',
  validate(request, { reader }) {
    if (!claimOf(request).requests?.some(({ exactly }) => exactly?.adminAccess)) return;
    const home = reader.get<KubeObject>('', 'namespaces', { name: request.namespace });
    if (home?.metadata.labels?.[LABEL] === 'true') return;
    const rule = `admin access to devices requires the \`${LABEL}: true\` label on the containing namespace`;
    throw invalidError(request.kind, request.name, [forbidden('', rule)]);
  },
};

/** What is asked for, by the claim itself or through a template. */
function claimOf({ object, kind }: AdmissionRequest): DeviceClaim {
  type Spec = { devices?: DeviceClaim; spec?: { devices?: DeviceClaim } };
  const spec = (object?.['spec'] ?? {}) as Spec;
  const inner = kind.plural === 'resourceclaims' ? spec : spec.spec;
  return inner?.devices ?? {};
}
