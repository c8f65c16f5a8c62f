import {
  checkQuotaResourceName,
  checkResourceQuantity,
  isStandardQuotaResource,
} from '#api/core/resource-names.ts';
import { invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { KubeObject, ResourceQuota } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { IMMUTABLE } from '#api/validate.ts';

type Spec = NonNullable<ResourceQuota['spec']>;

const SCOPES = [
  'Terminating',
  'NotTerminating',
  'BestEffort',
  'NotBestEffort',
  'PriorityClass',
  'CrossNamespacePodAffinity',
  'VolumeAttributesClass',
];
/** These either hold of a pod or do not; there is nothing to compare with. */
const EXISTS_ONLY = SCOPES.filter(
  (scope) => scope !== 'PriorityClass' && scope !== 'VolumeAttributesClass',
);
const OPPOSITES = [
  ['BestEffort', 'NotBestEffort'],
  ['Terminating', 'NotTerminating'],
] as const;
const POD_RESOURCES = new Set([
  'pods',
  'cpu',
  'memory',
  'requests.cpu',
  'requests.memory',
  'limits.cpu',
  'limits.memory',
]);
const CLAIM_RESOURCES = new Set(['persistentvolumeclaims', 'requests.storage']);
const EXISTS_RULE =
  "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";

/** Whether the resource is something of which the scope can hold. */
function scopeFits(scope: string, resource: string): boolean {
  if (scope === 'BestEffort') return resource === 'pods';
  if (scope === 'VolumeAttributesClass') return CLAIM_RESOURCES.has(resource);
  if (!SCOPES.includes(scope)) return true;
  return (
    POD_RESOURCES.has(resource) ||
    resource.startsWith('requests.hugepages-') ||
    resource.includes('ephemeral-storage')
  );
}

/** Source: core/v1 ResourceQuotaSpec. */
export function validateQuota(object: ResourceQuota): Errors {
  const errors: Errors = [];
  const spec = object.spec ?? {};
  checkAmounts(errors, 'spec.hard', spec.hard);
  checkScopes(errors, 'spec.scopes', spec);
  if (spec.scopeSelector) checkScopeSelector(errors, 'spec.scopeSelector', spec);
  checkAmounts(errors, 'status.hard', object.status?.hard);
  checkAmounts(errors, 'status.used', object.status?.used);
  return errors;
}

function checkAmounts(
  errors: Errors,
  path: string,
  amounts: Readonly<Record<string, string>> | undefined,
): void {
  for (const [name, value] of Object.entries(amounts ?? {})) {
    checkQuotaResourceName(errors, `${path}[${name}]`, name);
    checkResourceQuantity(errors, `${path}[${name}]`, name, value);
  }
}

function checkScopes(errors: Errors, path: string, spec: Spec): void {
  const scopes = spec.scopes ?? [];
  for (const scope of scopes) {
    if (!SCOPES.includes(scope)) errors.push(invalid(path, scopes, 'unsupported scope'));
    for (const name of Object.keys(spec.hard ?? {}).sort()) {
      if (isStandardQuotaResource(name) && !scopeFits(scope, name)) {
        errors.push(invalid(path, scopes, 'unsupported scope applied to resource'));
      }
    }
  }
  checkOpposites(errors, path, scopes, scopes);
}

function checkOpposites(
  errors: Errors,
  path: string,
  scopes: readonly string[],
  shown: unknown,
): void {
  for (const [one, other] of OPPOSITES) {
    if (scopes.includes(one) && scopes.includes(other)) {
      errors.push(invalid(path, internalForm('ScopeSelector', shown), 'conflicting scopes'));
    }
  }
}

function checkScopeSelector(errors: Errors, path: string, spec: Spec): void {
  const at = `${path}.matchExpressions`;
  const requirements = spec.scopeSelector?.matchExpressions ?? [];
  for (const { scopeName, operator, values = [] } of requirements) {
    if (!SCOPES.includes(scopeName)) {
      errors.push(invalid(`${at}.scopeName`, scopeName, 'unsupported scope'));
    }
    for (const name of Object.keys(spec.hard ?? {}).sort()) {
      if (isStandardQuotaResource(name) && !scopeFits(scopeName, name)) {
        errors.push(
          invalid(
            at,
            internalForm('ScopeSelector', spec.scopeSelector),
            'unsupported scope applied to resource',
          ),
        );
      }
    }
    if (EXISTS_ONLY.includes(scopeName) && operator !== 'Exists') {
      errors.push(invalid(`${at}.operator`, operator, EXISTS_RULE));
    }
    if (operator === 'In' || operator === 'NotIn') {
      if (values.length === 0) {
        const rule =
          "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
        errors.push(required(`${at}.values`, rule));
      }
    } else if (operator === 'Exists' || operator === 'DoesNotExist') {
      if (values.length > 0) {
        const rule =
          "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
        errors.push(invalid(`${at}.values`, values, rule));
      }
    } else errors.push(invalid(`${at}.operator`, operator, 'not a valid selector operator'));
  }
  const names = requirements.map(({ scopeName }) => scopeName);
  checkOpposites(errors, at, names, spec.scopes ?? null);
}

/** What a quota counts is settled when it is made. */
export function validateQuotaUpdate(object: ResourceQuota, old: ResourceQuota): Errors {
  const now = [...(object.spec?.scopes ?? [])].sort().join();
  const before = [...(old.spec?.scopes ?? [])].sort().join();
  return now === before ? [] : [invalid('spec.scopes', object.spec?.scopes ?? null, IMMUTABLE)];
}

export function validateQuotaStatus(object: KubeObject): Errors {
  const errors: Errors = [];
  const { status } = object as unknown as ResourceQuota;
  checkAmounts(errors, 'status.hard', status?.hard);
  checkAmounts(errors, 'status.used', status?.used);
  return errors;
}
