import { checkClaimSpec, checkFileMode } from '#api/core/claim-spec-validate.ts';
import { checkFieldRef, checkResourceRef } from '#api/core/pod-validate-env.ts';
import { checkLocalPath } from '#api/core/volume-paths.ts';
import { checkDriverName, SOURCE_CHECKS } from '#api/core/volume-sources-validate.ts';
import { duplicate, forbidden, invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { ObjectMeta, PodSpec, Volume } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { addInvalid, checkEnum, checkLabel, quantitySign } from '#api/validate.ts';
import { checkLabelSelector, checkLabels } from '#api/validate-labels.ts';
import { checkAnnotations } from '#api/validate-meta.ts';
import { isDns1123Label, nameIsDnsSubdomain } from '#api/validate-names.ts';

type Item = NonNullable<NonNullable<Volume['configMap']>['items']>[number];
type File = NonNullable<NonNullable<Volume['downwardAPI']>['items']>[number];
type Projected = NonNullable<Volume['projected']>;
type ProjectedSource = NonNullable<Projected['sources']>[number];
type Check = (errors: Errors, at: string, volume: Volume, pod: ObjectMeta | undefined) => void;

export type VolumesByName = ReadonlyMap<string, Volume>;

const ONE_TYPE = 'may not specify more than 1 volume type';
const DOWNWARD_FIELDS = [
  'metadata.annotations',
  'metadata.labels',
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
];

/**
 * Volumes of a pod; returns those that containers may mount. `pod` is the metadata of a real pod,
 * absent for templates. Source: core/v1 Volume.
 */
export function checkVolumes(
  errors: Errors,
  path: string,
  spec: PodSpec,
  pod: ObjectMeta | undefined,
): VolumesByName {
  const volumes = spec.volumes ?? [];
  const known = new Map<string, Volume>();
  if (volumes.length === 0) return known;
  const created = new Set<string>();
  for (const [i, volume] of volumes.entries()) {
    const at = `${path}[${i}]`;
    const before = errors.length;
    checkSource(errors, at, volume, pod);
    const name = volume.name ?? '';
    if (!name) errors.push(required(`${at}.name`));
    else {
      const problems = isDns1123Label(name);
      addInvalid(errors, `${at}.name`, name, problems);
      if (problems.length === 0 && known.has(name)) errors.push(duplicate(`${at}.name`, name));
    }
    if (errors.length === before) known.set(name, volume);
    if (volume.ephemeral && pod?.name && name) created.add(`${pod.name}-${name}`);
  }
  for (const [i, { persistentVolumeClaim: claim }] of volumes.entries()) {
    if (claim && created.has(claim.claimName)) {
      errors.push(
        invalid(
          `${path}[${i}].persistentVolumeClaim.claimName`,
          claim.claimName,
          'must not reference a PVC that gets created for an ephemeral volume',
        ),
      );
    }
  }
  return known;
}

function checkSource(
  errors: Errors,
  at: string,
  volume: Volume,
  pod: ObjectMeta | undefined,
): void {
  let count = 0;
  for (const [kind, check] of ORDER) {
    if (volume[kind] == null) continue;
    if (count++ > 0) errors.push(forbidden(`${at}.${kind}`, ONE_TYPE));
    else check(errors, `${at}.${kind}`, volume, pod);
  }
  if (count === 0) errors.push(required(at, 'must specify a volume type'));
}

const checkEmptyDir: Check = (errors, at, { emptyDir }) => {
  if (emptyDir?.sizeLimit !== undefined && quantitySign(emptyDir.sizeLimit) < 0) {
    errors.push(forbidden(`${at}.sizeLimit`, 'SizeLimit field must be a valid resource quantity'));
  }
};

const checkSecret: Check = (errors, at, { secret }) => {
  if (!secret?.secretName) errors.push(required(`${at}.secretName`));
  checkFileMode(errors, `${at}.defaultMode`, secret?.defaultMode);
  checkItems(errors, at, secret?.items);
};

const checkConfigMap: Check = (errors, at, { configMap }) => {
  if (!configMap?.name) errors.push(required(`${at}.name`));
  checkFileMode(errors, `${at}.defaultMode`, configMap?.defaultMode);
  checkItems(errors, at, configMap?.items);
};

function checkItems(errors: Errors, at: string, items: readonly Item[] | undefined): void {
  for (const [i, item] of (items ?? []).entries()) checkItem(errors, `${at}.items[${i}]`, item);
}

function checkItem(errors: Errors, at: string, item: Item): void {
  if (!item.key) errors.push(required(`${at}.key`));
  if (!item.path) errors.push(required(`${at}.path`));
  checkLocalPath(errors, `${at}.path`, item.path ?? '');
  checkFileMode(errors, `${at}.mode`, item.mode);
}

const checkDownward: Check = (errors, at, { downwardAPI }) => {
  checkFileMode(errors, `${at}.defaultMode`, downwardAPI?.defaultMode);
  for (const file of downwardAPI?.items ?? []) checkFile(errors, at, file);
};

/** The paths carry no index, as upstream's do. */
function checkFile(errors: Errors, at: string, file: File): void {
  if (!file.path) errors.push(required(`${at}.path`));
  checkLocalPath(errors, `${at}.path`, file.path ?? '');
  const { fieldRef, resourceFieldRef } = file;
  if (fieldRef) {
    checkFieldRef(errors, `${at}.fieldRef`, fieldRef, DOWNWARD_FIELDS);
    if (resourceFieldRef) {
      const rule = 'fieldRef and resourceFieldRef can not be specified simultaneously';
      errors.push(invalid(at, 'resource', rule));
    }
  } else if (resourceFieldRef) {
    checkResourceRef(errors, `${at}.resourceFieldRef`, resourceFieldRef, true);
  } else errors.push(required(at, 'one of fieldRef and resourceFieldRef is required'));
  checkFileMode(errors, `${at}.mode`, file.mode);
}

const checkProjected: Check = (errors, at, { projected }) => {
  checkFileMode(errors, `${at}.defaultMode`, projected?.defaultMode);
  const paths = new Set<string>();
  /** Two files at one path would hide each other. */
  const claimPath = (path: string | undefined, shown: string): void => {
    if (!path) return;
    if (paths.has(path)) errors.push(invalid(at, shown, 'conflicting duplicate paths'));
    paths.add(path);
  };
  for (const [i, source] of (projected?.sources ?? []).entries()) {
    checkProjection(errors, at, `${at}.sources[${i}]`, source, claimPath);
  }
};

const TOKEN_MIN_SECONDS = 10 * 60;
const TOKEN_MAX_SECONDS = 2 ** 32;

function checkProjection(
  errors: Errors,
  volumeAt: string,
  at: string,
  source: ProjectedSource,
  claimPath: (path: string | undefined, shown: string) => void,
): void {
  let count = 0;
  for (const kind of ['secret', 'configMap'] as const) {
    const part = source[kind];
    if (!part) continue;
    count++;
    if (!part.name) errors.push(required(`${at}.${kind}.name`));
    for (const [i, item] of (part.items ?? []).entries()) {
      checkItem(errors, `${at}.${kind}.items[${i}]`, item);
      claimPath(item.path, part.name ?? '');
    }
  }
  if (source.downwardAPI) {
    count++;
    for (const file of source.downwardAPI.items ?? []) {
      checkFile(errors, `${at}.downwardAPI`, file);
      claimPath(file.path, file.path);
    }
  }
  const token = source.serviceAccountToken;
  if (token) {
    count++;
    const seconds = token.expirationSeconds ?? 0;
    const path = `${at}.serviceAccountToken.expirationSeconds`;
    if (seconds < TOKEN_MIN_SECONDS) {
      errors.push(invalid(path, seconds, 'may not specify a duration less than 10 minutes'));
    }
    if (seconds > TOKEN_MAX_SECONDS) {
      errors.push(invalid(path, seconds, 'may not specify a duration larger than 2^32 seconds'));
    }
    if (!token.path) errors.push(required(`${volumeAt}.path`));
    else checkLocalPath(errors, `${volumeAt}.path`, token.path);
  }
  if (source.clusterTrustBundle) {
    count++;
    checkBundle(errors, `${at}.clusterTrustBundle`, source.clusterTrustBundle);
    claimPath(source.clusterTrustBundle.path, source.clusterTrustBundle.path);
  }
  if (count > 1) {
    errors.push(forbidden(at, 'may not specify more than 1 volume type per source'));
  }
}

type Bundle = NonNullable<ProjectedSource['clusterTrustBundle']>;

function checkBundle(errors: Errors, at: string, bundle: Bundle): void {
  const { name, signerName, labelSelector } = bundle;
  if (name !== undefined && signerName !== undefined) {
    errors.push(
      invalid(
        at,
        internalForm('ClusterTrustBundle', bundle),
        'only one of name and signerName may be used',
      ),
    );
  } else if (name !== undefined) {
    if (name === '') errors.push(required(`${at}.name`, 'must be a valid object name'));
    if (labelSelector) {
      const rule = 'labelSelector must be unset if name is specified';
      errors.push(invalid(`${at}.labelSelector`, labelSelector, rule));
    }
  } else if (signerName !== undefined) {
    if (signerName === '') {
      errors.push(required(`${at}.signerName`, 'must be a valid signer name'));
    }
    checkLabelSelector(errors, `${at}.labelSelector`, labelSelector);
  } else errors.push(required(at, 'either name or signerName must be specified'));
  if (!bundle.path) errors.push(required(`${at}.path`));
  checkLocalPath(errors, `${at}.path`, bundle.path ?? '');
}

const checkCsi: Check = (errors, at, { csi }) => {
  checkDriverName(errors, `${at}.driver`, csi?.driver ?? '');
  const secret = csi?.nodePublishSecretRef;
  if (!secret) return;
  if (!secret.name) errors.push(required(`${at}.nodePublishSecretRef.name`));
  else addInvalid(errors, `${at}.name`, secret.name, nameIsDnsSubdomain(secret.name, false));
};

const checkEphemeral: Check = (errors, at, volume, pod) => {
  const template = volume.ephemeral?.volumeClaimTemplate;
  const path = `${at}.volumeClaimTemplate`;
  if (!template) errors.push(required(path));
  else {
    const { annotations, labels, ...others } = template.metadata ?? {};
    if (annotations) checkAnnotations(errors, `${path}.metadata.annotations`, annotations);
    if (labels) checkLabels(errors, `${path}.metadata.labels`, labels);
    for (const field of Object.keys(others)) {
      errors.push(forbidden(`${path}.metadata.${field}`, 'cannot be set'));
    }
    checkClaimSpec(errors, `${path}.spec`, template.spec ?? {});
  }
  if (!pod?.name || !volume.name) return;
  const claim = `${pod.name}-${volume.name}`;
  for (const message of nameIsDnsSubdomain(claim, false)) {
    const path = at.replace(/ephemeral$/, 'name');
    errors.push(invalid(path, volume.name, `PVC name ${JSON.stringify(claim)}: ${message}`));
  }
};

const checkImage: Check = (errors, at, { image }) => {
  if (!image?.reference) errors.push(required(`${at}.reference`));
  checkEnum(errors, `${at}.pullPolicy`, image?.pullPolicy, ['Always', 'IfNotPresent', 'Never']);
};

const checkClaim: Check = (errors, at, { persistentVolumeClaim: claim }) => {
  if (!claim?.claimName) errors.push(required(`${at}.claimName`));
};

const MAX_ISCSI_NAME = 64;

const checkIscsi: Check = (errors, at, volume) => {
  const { iscsi, name } = volume;
  if (!iscsi) return;
  SOURCE_CHECKS.iscsi(errors, at, iscsi);
  if (iscsi.initiatorName === undefined) return;
  if (`${name}:${iscsi.targetPortal}`.length > MAX_ISCSI_NAME) {
    const rule =
      'Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.';
    errors.push(invalid(at.replace(/iscsi$/, 'name'), name, rule));
  }
};

type Shared = keyof typeof SOURCE_CHECKS;
const shared =
  <Name extends Shared>(name: Name): Check =>
  (errors, at, volume) => {
    const source = volume[name];
    if (source) {
      (SOURCE_CHECKS[name] as (e: Errors, a: string, s: unknown) => void)(errors, at, source);
    }
  };

type SourceName = Exclude<keyof Volume, 'name'>;

/** In upstream's order, which decides whose error says that there is one too many. */
const ORDER: readonly (readonly [SourceName, Check])[] = [
  ['emptyDir', checkEmptyDir],
  ['hostPath', shared('hostPath')],
  ['gitRepo', shared('gitRepo')],
  ['gcePersistentDisk', shared('gcePersistentDisk')],
  ['awsElasticBlockStore', shared('awsElasticBlockStore')],
  ['secret', checkSecret],
  ['nfs', shared('nfs')],
  ['iscsi', checkIscsi],
  ['glusterfs', shared('glusterfs')],
  ['flocker', shared('flocker')],
  ['persistentVolumeClaim', checkClaim],
  ['rbd', shared('rbd')],
  ['cinder', shared('cinder')],
  ['cephfs', shared('cephfs')],
  ['quobyte', shared('quobyte')],
  ['downwardAPI', checkDownward],
  ['fc', shared('fc')],
  ['flexVolume', shared('flexVolume')],
  ['configMap', checkConfigMap],
  ['azureFile', shared('azureFile')],
  ['vsphereVolume', shared('vsphereVolume')],
  ['photonPersistentDisk', shared('photonPersistentDisk')],
  ['portworxVolume', shared('portworxVolume')],
  ['azureDisk', shared('azureDisk')],
  ['storageos', shared('storageos')],
  ['projected', checkProjected],
  ['scaleIO', shared('scaleIO')],
  ['csi', checkCsi],
  ['ephemeral', checkEphemeral],
  ['image', checkImage],
];

/** Names of claims on devices that a pod declares. Source: core/v1 PodResourceClaim. */
export function checkPodClaims(errors: Errors, path: string, spec: PodSpec): Set<string> {
  const names = new Set<string>();
  for (const [i, claim] of (spec.resourceClaims ?? []).entries()) {
    const at = `${path}[${i}]`;
    if (!claim.name) errors.push(required(`${at}.name`));
    else if (names.has(claim.name)) errors.push(duplicate(`${at}.name`, claim.name));
    else {
      checkLabel(errors, `${at}.name`, claim.name);
      names.add(claim.name);
    }
    const { resourceClaimName: direct, resourceClaimTemplateName: template } = claim;
    if (direct !== undefined && template !== undefined) {
      const rule =
        'at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified';
      errors.push(invalid(at, internalForm('PodResourceClaim', claim), rule));
    }
    if (direct === undefined && template === undefined) {
      const rule = 'must specify one of: `resourceClaimName`, `resourceClaimTemplateName`';
      errors.push(invalid(at, internalForm('PodResourceClaim', claim), rule));
    }
    if (direct !== undefined) {
      addInvalid(errors, `${at}.resourceClaimName`, direct, nameIsDnsSubdomain(direct, false));
    }
    if (template !== undefined) {
      const problems = nameIsDnsSubdomain(template, false);
      addInvalid(errors, `${at}.resourceClaimTemplateName`, template, problems);
    }
  }
  return names;
}
