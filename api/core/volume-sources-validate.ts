import { LUN_RANGE } from '#api/core/claim-spec-validate.ts';
import { checkDescendingPath, checkNoBacksteps } from '#api/core/volume-paths.ts';
import { invalid, notSupported, required, tooLong } from '#api/field-error.ts';
import type { Volume } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkLabel, inRange } from '#api/validate.ts';
import { isDns1123Subdomain } from '#api/validate-names.ts';

/** Sources that pods and PersistentVolumes share. The names are those of core/v1. */
type Sources = Pick<
  Volume,
  | 'hostPath'
  | 'gitRepo'
  | 'gcePersistentDisk'
  | 'awsElasticBlockStore'
  | 'nfs'
  | 'iscsi'
  | 'glusterfs'
  | 'flocker'
  | 'rbd'
  | 'cinder'
  | 'cephfs'
  | 'quobyte'
  | 'fc'
  | 'flexVolume'
  | 'azureFile'
  | 'vsphereVolume'
  | 'photonPersistentDisk'
  | 'portworxVolume'
  | 'azureDisk'
  | 'storageos'
  | 'scaleIO'
>;
type Source<Name extends keyof Sources> = NonNullable<Sources[Name]>;
type Check<Name extends keyof Sources> = (errors: Errors, at: string, source: Source<Name>) => void;

const HOST_PATH_TYPES = [
  '',
  'BlockDevice',
  'CharDevice',
  'Directory',
  'DirectoryOrCreate',
  'File',
  'FileOrCreate',
  'Socket',
];
const PARTITION_RANGE = inRange(1, 255);
const HOST_PORTS = 'must be a host:port pair or multiple pairs separated by commas';

function need<T extends object>(errors: Errors, at: string, source: T, ...fields: string[]): void {
  for (const field of fields) {
    const value = (source as Record<string, unknown>)[field];
    if (value == null || value === '' || (Array.isArray(value) && value.length === 0)) {
      errors.push(required(`${at}.${field}`));
    }
  }
}

function checkPartition(errors: Errors, at: string, partition: number | undefined): void {
  if (partition !== undefined && (partition < 0 || partition > 255)) {
    errors.push(invalid(`${at}.partition`, partition, PARTITION_RANGE));
  }
}

function checkLun(errors: Errors, at: string, lun: number): void {
  if (lun < 0 || lun > 255) errors.push(invalid(`${at}.lun`, lun, LUN_RANGE));
}

export function checkDriverName(errors: Errors, at: string, driver: string): void {
  if (!driver) errors.push(required(at));
  if (driver.length > 63) errors.push(tooLong(at, 63));
  addInvalid(errors, at, driver, isDns1123Subdomain(driver.toLowerCase()));
}

const IQN = /iqn\.\d{4}-\d{2}\.([A-Za-z0-9-.]+)(:[^,;*&$|\s]+)$/;
const EUI = /^eui.[A-Za-z0-9]{16}$/;
const NAA = /^naa.[A-Za-z0-9]{32}$/;

function checkIscsiName(errors: Errors, at: string, name: string): void {
  if (!/^(iqn|eui|naa)/.test(name)) {
    errors.push(invalid(at, name, 'must be valid format starting with iqn, eui, or naa'));
  } else if (!(name.startsWith('iqn') ? IQN : name.startsWith('eui') ? EUI : NAA).test(name)) {
    errors.push(invalid(at, name, 'must be valid format'));
  }
}

const checkIscsi: Check<'iscsi'> = (errors, at, source) => {
  need(errors, at, source, 'targetPortal');
  if (!source.iqn) errors.push(required(`${at}.iqn`));
  else checkIscsiName(errors, `${at}.iqn`, source.iqn);
  checkLun(errors, at, source.lun ?? 0);
  if ((source.chapAuthDiscovery || source.chapAuthSession) && !source.secretRef) {
    errors.push(required(`${at}.secretRef`));
  }
  if (source.initiatorName !== undefined) {
    checkIscsiName(errors, `${at}.initiatorname`, source.initiatorName);
  }
};

const checkFc: Check<'fc'> = (errors, at, { targetWWNs = [], wwids = [], lun }) => {
  if (targetWWNs.length === 0 && wwids.length === 0) {
    errors.push(
      required(`${at}.targetWWNs`, 'must specify either targetWWNs or wwids, but not both'),
    );
  }
  if (targetWWNs.length === 0) return;
  if (wwids.length > 0) {
    const rule = 'targetWWNs and wwids can not be specified simultaneously';
    errors.push(invalid(`${at}.targetWWNs`, targetWWNs, rule));
  }
  if (lun === undefined) {
    errors.push(required(`${at}.lun`, 'lun is required if targetWWNs is specified'));
  } else checkLun(errors, at, lun);
};

const checkQuobyte: Check<'quobyte'> = (errors, at, source) => {
  if (!source.registry) errors.push(required(`${at}.registry`, HOST_PORTS));
  else if ((source.tenant ?? '').length >= 65) {
    const rule = 'must be a UUID and may not exceed a length of 64 characters';
    errors.push(required(`${at}.tenant`, rule));
  } else {
    for (const pair of source.registry.split(',')) {
      if (!/^(\[[^\]]*\]|[^:[\]]*):[^:]*$/.test(pair)) {
        errors.push(invalid(`${at}.registry`, source.registry, HOST_PORTS));
      }
    }
  }
  need(errors, at, source, 'volume');
};

const checkFlocker: Check<'flocker'> = (errors, at, { datasetName = '', datasetUUID = '' }) => {
  if (!datasetName && !datasetUUID) {
    errors.push(required(at, 'one of datasetName and datasetUUID is required'));
  }
  if (datasetName && datasetUUID) {
    const rule = 'datasetName and datasetUUID can not be specified simultaneously';
    errors.push(invalid(at, 'resource', rule));
  }
  if (datasetName.includes('/')) {
    errors.push(invalid(`${at}.datasetName`, datasetName, "must not contain '/'"));
  }
};

const checkFlex: Check<'flexVolume'> = (errors, at, source) => {
  need(errors, at, source, 'driver');
  for (const key of Object.keys(source.options ?? {})) {
    const domain = `.${(key.split('/', 2)[0] ?? '').toLowerCase()}`;
    if (/\.(kubernetes|k8s)\.io$/.test(domain)) {
      const rule = 'kubernetes.io and k8s.io namespaces are reserved';
      errors.push(invalid(`${at}.options[${key}]`, key, rule));
    }
  }
};

const DISK_ID =
  '/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}';
const BLOB_URI = 'https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd';

const checkAzureDisk: Check<'azureDisk'> = (errors, at, source) => {
  const { cachingMode, kind } = source;
  const diskURI = source.diskURI ?? '';
  need(errors, at, source, 'diskName', 'diskURI');
  if (cachingMode !== undefined) {
    checkEnum(errors, `${at}.cachingMode`, cachingMode, ['None', 'ReadOnly', 'ReadWrite']);
  }
  if (kind === undefined) return;
  checkEnum(errors, `${at}.kind`, kind, ['Dedicated', 'Managed', 'Shared']);
  if (kind === 'Managed' && !diskURI.startsWith('/subscriptions/')) {
    errors.push(notSupported(`${at}.diskURI`, diskURI, [DISK_ID]));
  }
  if (kind !== 'Managed' && !diskURI.startsWith('https://')) {
    errors.push(notSupported(`${at}.diskURI`, diskURI, [BLOB_URI]));
  }
};

const checkStorageOs: Check<'storageos'> = (errors, at, source) => {
  if (!source.volumeName) errors.push(required(`${at}.volumeName`));
  else checkLabel(errors, `${at}.volumeName`, source.volumeName);
  if (source.volumeNamespace) {
    checkLabel(errors, `${at}.volumeNamespace`, source.volumeNamespace);
  }
  if (source.secretRef && !source.secretRef.name) errors.push(required(`${at}.secretRef.name`));
};

export function checkHostPath(errors: Errors, at: string, source: Source<'hostPath'>): void {
  if (!source.path) {
    errors.push(required(`${at}.path`));
    return;
  }
  checkNoBacksteps(errors, `${at}.path`, source.path);
  if (source.type !== undefined) {
    checkEnum(errors, `${at}.type`, source.type, HOST_PATH_TYPES);
  }
}

/** One check per source. Source: the volume sources of core/v1. */
export const SOURCE_CHECKS: { readonly [Name in keyof Sources]-?: Check<Name> } = {
  hostPath: checkHostPath,
  gitRepo: (errors, at, source) => {
    need(errors, at, source, 'repository');
    checkDescendingPath(errors, `${at}.directory`, source.directory ?? '');
  },
  gcePersistentDisk: (errors, at, source) => {
    const path = at.replace(/gcePersistentDisk$/, 'persistentDisk');
    need(errors, path, source, 'pdName');
    checkPartition(errors, path, source.partition);
  },
  awsElasticBlockStore: (errors, at, source) => {
    need(errors, at, source, 'volumeID');
    checkPartition(errors, at, source.partition);
  },
  nfs: (errors, at, source) => {
    need(errors, at, source, 'server', 'path');
    if (!(source.path ?? '').startsWith('/')) {
      errors.push(invalid(`${at}.path`, source.path ?? '', 'must be an absolute path'));
    }
  },
  iscsi: checkIscsi,
  glusterfs: (errors, at, source) => need(errors, at, source, 'endpoints', 'path'),
  flocker: checkFlocker,
  rbd: (errors, at, source) => need(errors, at, source, 'monitors', 'image'),
  cinder: (errors, at, source) => {
    need(errors, at, source, 'volumeID');
    if (source.secretRef && !source.secretRef.name) errors.push(required(`${at}.secretRef.name`));
  },
  cephfs: (errors, at, source) => need(errors, at, source, 'monitors'),
  quobyte: checkQuobyte,
  fc: checkFc,
  flexVolume: checkFlex,
  azureFile: (errors, at, source) => need(errors, at, source, 'secretName', 'shareName'),
  vsphereVolume: (errors, at, source) => need(errors, at, source, 'volumePath'),
  photonPersistentDisk: (errors, at, source) => need(errors, at, source, 'pdID'),
  portworxVolume: (errors, at, source) => need(errors, at, source, 'volumeID'),
  azureDisk: checkAzureDisk,
  storageos: checkStorageOs,
  scaleIO: (errors, at, source) => need(errors, at, source, 'gateway', 'system', 'volumeName'),
};
