import { invalid, notSupported, required } from '#api/field-error.ts';
import type { Container } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  addInvalid,
  checkConfigKey,
  checkQualifiedName,
  checkSubdomain,
  quantitySign,
} from '#api/validate.ts';
import { isEnvVarName, nameIsDnsSubdomain } from '#api/validate-names.ts';

type EnvVar = NonNullable<Container['env']>[number];
type EnvFrom = NonNullable<Container['envFrom']>[number];
type ValueFrom = NonNullable<EnvVar['valueFrom']>;
type FieldRef = NonNullable<ValueFrom['fieldRef']>;
type ResourceRef = NonNullable<ValueFrom['resourceFieldRef']>;

const ENV_FIELDS = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];
/** Everything of a pod that the downward API can name. */
const POD_FIELDS = new Set([
  ...ENV_FIELDS,
  'metadata.annotations',
  'metadata.labels',
  'spec.restartPolicy',
  'spec.schedulerName',
  'status.phase',
  'status.nominatedNodeName',
  'spec.host',
]);
const RESOURCES = [
  'limits.cpu',
  'limits.ephemeral-storage',
  'limits.memory',
  'requests.cpu',
  'requests.ephemeral-storage',
  'requests.memory',
];

/** Source: core/v1 EnvVar. */
export function checkEnv(errors: Errors, path: string, vars: readonly EnvVar[]): void {
  for (const [i, variable] of vars.entries()) {
    const at = `${path}[${i}]`;
    if (!variable.name) errors.push(required(`${at}.name`));
    else addInvalid(errors, `${at}.name`, variable.name, isEnvVarName(variable.name));
    if (variable.valueFrom) checkValueFrom(errors, `${at}.valueFrom`, variable);
  }
}

function checkValueFrom(errors: Errors, path: string, variable: EnvVar): void {
  const from = variable.valueFrom ?? {};
  const { fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef, fileKeyRef } = from;
  let sources = 0;
  if (fieldRef) {
    sources++;
    checkFieldRef(errors, `${path}.fieldRef`, fieldRef, ENV_FIELDS);
  }
  if (resourceFieldRef) {
    sources++;
    checkResourceRef(errors, `${path}.resourceFieldRef`, resourceFieldRef, false);
  }
  if (configMapKeyRef) {
    sources++;
    checkKeyRef(errors, `${path}.configMapKeyRef`, configMapKeyRef);
  }
  if (secretKeyRef) {
    sources++;
    checkKeyRef(errors, `${path}.secretKeyRef`, secretKeyRef);
  }
  if (fileKeyRef) {
    sources++;
    for (const field of ['key', 'volumeName', 'path'] as const) {
      if (!fileKeyRef[field]) errors.push(required(`${path}.fileKeyRef.${field}`));
    }
  }
  if (sources === 0) {
    errors.push(
      invalid(
        path,
        '',
        'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`',
      ),
    );
  } else if (variable.value) {
    errors.push(invalid(path, '', 'may not be specified when `value` is not empty'));
  } else if (sources > 1) {
    errors.push(invalid(path, '', 'may not have more than one field specified at a time'));
  }
}

function checkKeyRef(errors: Errors, path: string, ref: { name?: string; key: string }): void {
  checkSubdomain(errors, `${path}.name`, ref.name ?? '');
  if (!ref.key) errors.push(required(`${path}.key`));
  else checkConfigKey(errors, `${path}.key`, ref.key);
}

/** `metadata.labels['a/b']` → path and subscript. */
const SUBSCRIPT = /^(.+)\['(.*)'\]$/;

/** A field of the pod itself; `allowed` says which of them make sense here. */
export function checkFieldRef(
  errors: Errors,
  path: string,
  ref: FieldRef,
  allowed: readonly string[],
): void {
  if (!ref.apiVersion) {
    errors.push(required(`${path}.apiVersion`));
    return;
  }
  if (!ref.fieldPath) {
    errors.push(required(`${path}.fieldPath`));
    return;
  }
  const subscripted = SUBSCRIPT.exec(ref.fieldPath);
  const field = subscripted?.[1] ?? ref.fieldPath;
  const problem =
    ref.apiVersion !== 'v1'
      ? `unsupported pod version: ${ref.apiVersion}`
      : POD_FIELDS.has(field)
        ? ''
        : `field label not supported: ${field}`;
  if (problem) {
    errors.push(
      invalid(`${path}.fieldPath`, ref.fieldPath, `error converting fieldPath: ${problem}`),
    );
  } else if (subscripted) {
    const key = subscripted[2] ?? '';
    if (field === 'metadata.annotations') checkQualifiedName(errors, path, key.toLowerCase());
    else if (field === 'metadata.labels') checkQualifiedName(errors, path, key);
    else errors.push(invalid(path, field, 'does not support subscript'));
  } else if (!allowed.includes(field)) {
    errors.push(notSupported(`${path}.fieldPath`, field, allowed));
  }
}

/** In volumes the container has to be named. */
export function checkResourceRef(
  errors: Errors,
  path: string,
  ref: ResourceRef,
  inVolume: boolean,
): void {
  if (inVolume && !ref.containerName) errors.push(required(`${path}.containerName`));
  else if (!ref.resource) errors.push(required(`${path}.resource`));
  else if (
    !RESOURCES.includes(ref.resource) &&
    !/^(requests|limits)\.hugepages-/.test(ref.resource)
  ) {
    errors.push(notSupported(`${path}.resource`, ref.resource, RESOURCES));
  }
  checkDivisor(errors, `${path}.divisor`, ref);
}

const BYTE_DIVISOR = /^1([kMGTPE]i?|Ki)?$/;
const BYTES = '1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei';

function checkDivisor(errors: Errors, path: string, { resource, divisor }: ResourceRef): void {
  if (divisor === undefined || quantitySign(divisor) === 0) return;
  const text = String(divisor);
  const name = (resource ?? '').replace(/^(requests|limits)\./, '');
  if (name === 'cpu') {
    if (text !== '1' && text !== '1m') {
      errors.push(
        invalid(
          path,
          resource,
          "only divisor's values 1m and 1 are supported with the cpu resource",
        ),
      );
    }
    return;
  }
  const kind =
    name === 'memory'
      ? 'memory'
      : name === 'ephemeral-storage'
        ? 'local ephemeral storage'
        : name.startsWith('hugepages-')
          ? 'hugepages'
          : '';
  if (kind && (!BYTE_DIVISOR.test(text) || text === '1ki')) {
    errors.push(
      invalid(
        path,
        resource,
        `only divisor's values ${BYTES} are supported with the ${kind} resource`,
      ),
    );
  }
}

/** Source: core/v1 EnvFromSource. */
export function checkEnvFrom(errors: Errors, path: string, sources: readonly EnvFrom[]): void {
  for (const [i, { prefix, configMapRef, secretRef }] of sources.entries()) {
    const at = `${path}[${i}]`;
    if (prefix) addInvalid(errors, `${at}.prefix`, prefix, isEnvVarName(prefix));
    if (configMapRef) checkSourceName(errors, `${at}.configMapRef.name`, configMapRef.name);
    if (secretRef) checkSourceName(errors, `${at}.secretRef.name`, secretRef.name);
    if (!configMapRef && !secretRef) {
      errors.push(invalid(path, '', 'must specify one of: `configMapRef` or `secretRef`'));
    } else if (configMapRef && secretRef) {
      errors.push(invalid(path, '', 'may not have more than one field specified at a time'));
    }
  }
}

function checkSourceName(errors: Errors, path: string, name: string | undefined): void {
  if (!name) errors.push(required(path));
  else addInvalid(errors, path, name, nameIsDnsSubdomain(name, true));
}
