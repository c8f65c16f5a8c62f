import { checkAccessModes, checkCapacity, VOLUME_MODES } from '#api/core/claim-spec-validate.ts';
import { checkNodeSelector } from '#api/core/pod-validate-affinity.ts';
import { checkNoBacksteps } from '#api/core/volume-paths.ts';
import { checkDriverName, SOURCE_CHECKS } from '#api/core/volume-sources-validate.ts';
import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { PersistentVolume } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  addInvalid,
  checkEnum,
  checkImmutable,
  checkLabel,
  checkQuantityPositive,
  checkSubdomain,
  IMMUTABLE,
  sameMeaning,
} from '#api/validate.ts';
import { nameIsDnsSubdomain } from '#api/validate-names.ts';

type Spec = NonNullable<PersistentVolume['spec']>;

const RECLAIM = ['Delete', 'Recycle', 'Retain'];
const SOURCES = [
  'hostPath',
  'gcePersistentDisk',
  'awsElasticBlockStore',
  'glusterfs',
  'flocker',
  'nfs',
  'rbd',
  'quobyte',
  'cephfs',
  'iscsi',
  'cinder',
  'fc',
  'flexVolume',
  'azureFile',
  'vsphereVolume',
  'photonPersistentDisk',
  'portworxVolume',
  'azureDisk',
  'scaleIO',
  'local',
  'storageos',
  'csi',
] as const;

/** Source: core/v1 PersistentVolumeSpec. */
export function validateVolume(object: PersistentVolume): Errors {
  const errors: Errors = [];
  const spec = object.spec ?? {};
  if (!spec.accessModes?.length) errors.push(required('spec.accessModes'));
  checkAccessModes(errors, 'spec.accessModes', spec.accessModes ?? []);
  checkCapacities(errors, spec);
  if (spec.persistentVolumeReclaimPolicy) {
    const path = 'spec.persistentVolumeReclaimPolicy';
    checkEnum(errors, path, spec.persistentVolumeReclaimPolicy, RECLAIM);
  }
  if (spec.nodeAffinity) {
    const path = 'spec.nodeAffinity.required';
    if (spec.nodeAffinity.required) checkNodeSelector(errors, path, spec.nodeAffinity.required);
    else errors.push(required(path, 'must specify required node constraints'));
  }
  checkSources(errors, spec);
  if (spec.hostPath?.path === '/' && spec.persistentVolumeReclaimPolicy === 'Recycle') {
    const rule = "may not be 'recycle' for a hostPath mount of '/'";
    errors.push(forbidden('spec.persistentVolumeReclaimPolicy', rule));
  }
  if (spec.storageClassName) {
    const problems = nameIsDnsSubdomain(spec.storageClassName, false);
    addInvalid(errors, 'spec.storageClassName', spec.storageClassName, problems);
  }
  if (spec.volumeMode !== undefined && !VOLUME_MODES.includes(spec.volumeMode)) {
    errors.push(notSupported('spec.volumeMode', spec.volumeMode, VOLUME_MODES));
  }
  if (spec.volumeAttributesClassName !== undefined) {
    const path = 'spec.volumeAttributesClassName';
    if (!spec.volumeAttributesClassName) {
      errors.push(required(path, 'an empty string is disallowed'));
    } else checkSubdomain(errors, path, spec.volumeAttributesClassName);
    if (!spec.csi)
      errors.push(required('spec.csi', 'has to be specified when using volumeAttributesClassName'));
  }
  return errors;
}

function checkCapacities(errors: Errors, spec: Spec): void {
  const entries = Object.entries(spec.capacity ?? {});
  if (entries.length === 0) errors.push(required('spec.capacity'));
  if (spec.capacity?.['storage'] === undefined || entries.length > 1) {
    errors.push(notSupported('spec.capacity', spec.capacity ?? null, ['storage']));
  }
  for (const [name, value] of entries) {
    checkCapacity(errors, `spec.capacity[${name}]`, value);
    checkQuantityPositive(errors, `spec.capacity[${name}]`, value);
  }
}

function checkSources(errors: Errors, spec: Spec): void {
  let count = 0;
  for (const name of SOURCES) {
    const source = spec[name];
    if (source == null) continue;
    const at = `spec.${name}`;
    if (count++ > 0) {
      errors.push(forbidden(at, 'may not specify more than 1 volume type'));
    } else if (name === 'local') checkLocal(errors, at, spec);
    else if (name === 'csi') checkCsi(errors, at, spec.csi as NonNullable<Spec['csi']>);
    else {
      const check = SOURCE_CHECKS[name] as (e: Errors, at: string, source: unknown) => void;
      check(errors, at, source);
      checkSecretNamespace(errors, at, name, source);
    }
  }
  if (count === 0) errors.push(required('spec', 'must specify a volume type'));
}

function checkLocal(errors: Errors, at: string, spec: Spec): void {
  const path = spec.local?.path;
  if (!path) errors.push(required(`${at}.path`));
  else checkNoBacksteps(errors, `${at}.path`, path);
  if (!spec.nodeAffinity) {
    errors.push(required('spec.nodeAffinity', 'Local volume requires node affinity'));
  }
}

const CSI_SECRETS = [
  'controllerPublishSecretRef',
  'controllerExpandSecretRef',
  'nodePublishSecretRef',
  'nodeExpandSecretRef',
] as const;

function checkCsi(errors: Errors, at: string, csi: NonNullable<Spec['csi']>): void {
  checkDriverName(errors, `${at}.driver`, csi.driver ?? '');
  if (!csi.volumeHandle) errors.push(required(`${at}.volumeHandle`));
  for (const field of CSI_SECRETS) {
    const secret = csi[field];
    if (!secret) continue;
    if (!secret.name) errors.push(required(`${at}.${field}.name`));
    else checkSubdomain(errors, `${at}.${field}.name`, secret.name);
    if (!secret.namespace) errors.push(required(`${at}.${field}.namespace`));
    else checkLabel(errors, `${at}.${field}.namespace`, secret.namespace);
  }
}

/** A volume lives outside namespaces, so that its secrets need theirs named. */
function checkSecretNamespace(errors: Errors, at: string, name: string, source: object): void {
  if (name !== 'cinder' && name !== 'storageos') return;
  const { secretRef } = source as { secretRef?: { namespace?: string } };
  if (secretRef && !secretRef.namespace) errors.push(required(`${at}.secretRef.namespace`));
}

/** What a volume is made of stays; who may use it and how changes. */
export function validateVolumeUpdate(object: PersistentVolume, old: PersistentVolume): Errors {
  const errors: Errors = [];
  const now = object.spec ?? {};
  const before = old.spec ?? {};
  const source = (spec: Spec) => SOURCES.map((name) => spec[name] ?? null);
  if (!sameMeaning(source(now), source(before))) {
    const rule = 'spec.persistentvolumesource is immutable after creation';
    errors.push(forbidden('spec.persistentvolumesource', rule));
  }
  checkImmutable(errors, 'volumeMode', now.volumeMode, before.volumeMode);
  if (before.nodeAffinity && !sameMeaning(now.nodeAffinity, before.nodeAffinity)) {
    const rule = `${IMMUTABLE}, except for updating from beta label to GA`;
    errors.push(
      invalid('nodeAffinity', internalForm('VolumeNodeAffinity', now.nodeAffinity), rule),
    );
  }
  return errors;
}
