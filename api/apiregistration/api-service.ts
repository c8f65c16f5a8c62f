import { apiregistrationRules } from '#api/apiregistration/apiregistration-rules.ts';
import { invalid, notSupported, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { AGE } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { APIService, KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid } from '#api/validate.ts';
import { isDns1035Label, isDns1123Subdomain, isPathSegment } from '#api/validate-names.ts';

const DEFAULT_PORT = 443;
const MAX_GROUP_PRIORITY = 20_000;
const MAX_VERSION_PRIORITY = 1_000;

/** What is said of a group that this server answers for itself. */
export const LOCAL_CONDITION = {
  type: 'Available',
  status: 'True',
  reason: 'Local',
  message: 'Local APIServices are always available',
} as const;

/** Which server answers for a group and version. Source: apiregistration.k8s.io/v1 APIService. */
export const apiService = defineKind<APIService>({
  group: 'apiregistration.k8s.io',
  version: 'v1',
  kind: 'APIService',
  plural: 'apiservices',
  singular: 'apiservice',
  categories: ['api-extensions'],
  scope: 'Cluster',
  schema: 'V1APIService',
  fieldRules: [apiregistrationRules, metaRules],
  generation: 'none',
  unconditionalUpdate: false,
  subresources: { status: { type: 'status', validateUpdate: validateStatus } },
  selectableFields: {},
  ageColumn: false,
  columns: [
    {
      name: 'Service',
      type: 'string',
      description: 'The reference to the service that hosts this API endpoint.',
      value: ({ spec }) =>
        spec?.service ? `${spec.service.namespace}/${spec.service.name}` : 'Local',
    },
    {
      name: 'Available',
      type: 'string',
      description: 'Whether this service is available.',
      value: ({ status }) => {
        const found = status?.conditions?.find(({ type }) => type === 'Available');
        if (!found) return 'Unknown';
        return found.status === 'True' ? 'True' : `${found.status} (${found.reason ?? ''})`;
      },
    },
    AGE,
  ],

  defaults(object) {
    const spec = (object.spec ??= { groupPriorityMinimum: 0, versionPriority: 0 });
    if (spec.service) spec.service.port ??= DEFAULT_PORT;
    object.status ??= {};
  },
  prepareForCreate(object) {
    const since = object.metadata.creationTimestamp;
    const local = { ...LOCAL_CONDITION, ...(since ? { lastTransitionTime: since } : {}) };
    object.status = object.spec?.service ? {} : { conditions: [local] };
  },
  prepareForUpdate: keepStatus,
  validateName: isPathSegment,
  validate(object) {
    const errors: Errors = [];
    checkService(errors, object);
    return errors;
  },
});

function checkService(errors: Errors, { metadata, spec }: APIService): void {
  const { group = '', version = '', service, caBundle, insecureSkipTLSVerify = false } = spec ?? {};
  const wanted = `${version}.${group}`;
  if (metadata.name !== wanted) {
    const rule = `must be \`spec.version+"."+spec.group\`: ${JSON.stringify(wanted)}`;
    errors.push(invalid('metadata.name', metadata.name, rule));
  }
  if (group === '' && version !== 'v1') {
    const rule = 'only v1 may have an empty group and it better be legacy kube';
    errors.push(required('spec.group', rule));
  }
  if (group !== '') addInvalid(errors, 'spec.group', group, isDns1123Subdomain(group));
  addInvalid(errors, 'spec.version', version, isDns1035Label(version));
  const { groupPriorityMinimum = 0, versionPriority = 0 } = spec ?? {};
  if (groupPriorityMinimum <= 0 || groupPriorityMinimum > MAX_GROUP_PRIORITY) {
    const rule = `must be positive and less than ${MAX_GROUP_PRIORITY}`;
    errors.push(invalid('spec.groupPriorityMinimum', groupPriorityMinimum, rule));
  }
  if (versionPriority <= 0 || versionPriority > MAX_VERSION_PRIORITY) {
    const rule = `must be positive and less than ${MAX_VERSION_PRIORITY}`;
    errors.push(invalid('spec.versionPriority', versionPriority, rule));
  }
  const insecureAt = 'spec.insecureSkipTLSVerify';
  if (!service) {
    if (caBundle) {
      const shown = `${Buffer.from(caBundle, 'base64').length} bytes`;
      errors.push(invalid('spec.caBundle', shown, 'local APIServices may not have a caBundle'));
    }
    if (insecureSkipTLSVerify) {
      const rule = 'local APIServices may not have insecureSkipTLSVerify';
      errors.push(invalid(insecureAt, true, rule));
    }
    return;
  }
  if (!service.namespace) errors.push(required('spec.service.namespace'));
  if (!service.name) errors.push(required('spec.service.name'));
  if (insecureSkipTLSVerify && caBundle) {
    errors.push(invalid(insecureAt, true, 'may not be true if caBundle is present'));
  }
}

const STATUSES = ['True', 'False', 'Unknown'] as const;

function validateStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { conditions = [] } = (object as APIService).status ?? {};
  for (const [i, { status }] of conditions.entries()) {
    if (STATUSES.some((one) => one === status)) continue;
    errors.push(notSupported(`status.conditions[${i}].status`, status, STATUSES));
  }
  return errors;
}
