import { LOCAL_DRIVER, LOCAL_TYPE } from '#api/csi-names.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, StorageClass } from '#api/types.ts';
import { classOf, SELECTED_NODE, waitsForConsumer } from '#api/volume-match.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, keyText, onSelf, type Plan, runController } from '#client/controller.ts';
import {
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  storageClasses,
} from '#client/resources.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';

const NAME = 'local-provisioner-controller';
export const PROVISIONER = 'gantry.dev/local';
const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';
const HOSTNAME = 'kubernetes.io/hostname';
/** A directory of one node cannot be shared with others. */
const ACCESS_MODES = new Set(['ReadWriteOnce', 'ReadWriteOncePod']);

const IMAGE = 'image';
const TYPES: ReadonlySet<string> = new Set(['directory', IMAGE]);

export type LocalClaimWorld = {
  claim: PersistentVolumeClaim;
  storageClass: StorageClass | undefined;
  /** Where the volume is to be; undefined as long as nobody knows. */
  node: Node | undefined;
  exists: boolean;
};

export const volumeNameFor = ({ metadata }: PersistentVolumeClaim): string => `pvc-${metadata.uid}`;

/** Makes the volume of a claim on the node of its first consumer. Pure. */
export function planLocalClaim(world: LocalClaimWorld): Plan {
  const { claim, storageClass, node, exists } = world;
  if (storageClass?.provisioner !== PROVISIONER || exists) return { actions: [] };
  if (claim.metadata.deletionTimestamp || claim.spec?.volumeName) return { actions: [] };
  if (!node) return { actions: giveBack(claim) };
  const problem = problemOf(claim) || classProblem(storageClass);
  if (problem) {
    const message = `failed to provision volume with StorageClass "${classOf(claim)}": ${problem}`;
    const note = { type: 'Warning', reason: 'ProvisioningFailed', message } as const;
    return { actions: [{ type: 'event', about: claim, note }] };
  }
  const object = volumeFor(claim, storageClass, node);
  const message = `Successfully provisioned volume ${object.metadata.name}`;
  const success = { type: 'Normal', reason: 'ProvisioningSucceeded', message } as const;
  const announce = { about: claim, success };
  const create: Action = { type: 'create', resource: persistentVolumes, object, announce };
  return { actions: [{ ...create, ifExists: 'ignore' }] };
}

/** Its node has gone: the scheduler is told to choose another by taking the name off. */
function giveBack(claim: PersistentVolumeClaim): Action[] {
  const { [SELECTED_NODE]: selected, ...annotations } = claim.metadata.annotations ?? {};
  if (!selected) return [];
  const object = { ...claim, metadata: { ...claim.metadata, annotations } };
  return [{ type: 'update', resource: persistentVolumeClaims, object }];
}

function problemOf({ spec }: PersistentVolumeClaim): string {
  const other = spec?.accessModes?.find((mode) => !ACCESS_MODES.has(mode));
  if (other) return `access mode ${other} is not possible with directories of one node`;
  if (spec?.volumeMode === 'Block') return 'volume mode Block is not possible with directories';
  if (spec?.selector) return 'a selector cannot be met by a new volume';
  if (spec?.dataSource || spec?.dataSourceRef) return 'data sources are not supported';
  return '';
}

function classProblem({ parameters = {} }: StorageClass): string {
  const other = Object.keys(parameters).find((name) => name !== LOCAL_TYPE);
  if (other !== undefined) return `parameters: there is no "${other}", only "${LOCAL_TYPE}"`;
  const type = parameters[LOCAL_TYPE];
  if (type === undefined || TYPES.has(type)) return '';
  return `parameters.${LOCAL_TYPE} is ${[...TYPES].join(' or ')}, not "${type}"`;
}

function volumeFor(
  claim: PersistentVolumeClaim,
  storageClass: StorageClass,
  node: Node,
): PersistentVolume {
  const { namespace = '', name = '', uid = '' } = claim.metadata;
  const volume = volumeNameFor(claim);
  const host = node.metadata.labels?.[HOSTNAME] ?? node.metadata.name ?? '';
  const isImage = storageClass.parameters?.[LOCAL_TYPE] === IMAGE;
  const { mountOptions } = storageClass;
  const matchExpressions = [{ key: HOSTNAME, operator: 'In', values: [host] }];
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: volume, annotations: { [PROVISIONED_BY]: PROVISIONER } },
    spec: {
      capacity: { storage: claim.spec?.resources?.requests?.['storage'] ?? '0' },
      accessModes: claim.spec?.accessModes ?? [],
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
      storageClassName: storageClass.metadata.name ?? '',
      volumeMode: 'Filesystem',
      claimRef: { apiVersion: 'v1', kind: 'PersistentVolumeClaim', namespace, name, uid },
      csi: {
        driver: LOCAL_DRIVER,
        volumeHandle: volume,
        ...(isImage ? { volumeAttributes: { [LOCAL_TYPE]: IMAGE } } : {}),
      },
      ...(isImage && mountOptions ? { mountOptions } : {}),
      nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions }] } },
    },
  };
}

/** Deletes a volume that its claim has released; the node's agent then drops the directory. Pure. */
export function planLocalVolume(volume: PersistentVolume): Plan {
  const { metadata, spec, status } = volume;
  const isOurs = metadata.annotations?.[PROVISIONED_BY] === PROVISIONER;
  const isOver = status?.phase === 'Released' && !metadata.deletionTimestamp;
  if (!isOurs || !isOver || spec?.persistentVolumeReclaimPolicy !== 'Delete') {
    return { actions: [] };
  }
  const { name = '', uid = '' } = metadata;
  return { actions: [{ type: 'delete', resource: persistentVolumes, key: { name }, uid }] };
}

/** Gives claims of the class that the cluster is born with directories on their pods' nodes. */
export const localProvisionerController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    await Promise.all([runClaims(setup), runVolumes(setup)]);
  },
};

async function runClaims(setup: ControllerSetup): Promise<void> {
  const { informers } = setup;
  const claims = informers.of(persistentVolumeClaims);
  const volumes = informers.of(persistentVolumes);
  const classes = informers.of(storageClasses);
  const nodeCache = informers.of(nodes);
  const nodeOf = (claim: PersistentVolumeClaim, storageClass: StorageClass | undefined) => {
    const name = claim.metadata.annotations?.[SELECTED_NODE];
    if (name) return nodeCache.get({ name });
    // Without a consumer to follow, one node is as good as another.
    return waitsForConsumer(storageClass) ? undefined : nodeCache.list()[0];
  };
  await runController<LocalClaimWorld>(
    {
      name: NAME,
      caches: [
        cacheOf(persistentVolumeClaims, claims),
        cacheOf(persistentVolumes, volumes),
        cacheOf(storageClasses, classes),
        cacheOf(nodes, nodeCache),
      ],
      triggers(add) {
        onSelf(claims, add);
        classes.onChange(() => {
          for (const claim of claims.list()) if (!claim.spec?.volumeName) add(keyText(claim));
        });
        nodeCache.onChange(({ type, object }) => {
          if (type !== 'deleted') return;
          for (const claim of claims.list()) {
            if (claim.metadata.annotations?.[SELECTED_NODE] === object.metadata.name) {
              add(keyText(claim));
            }
          }
        });
      },
      observe(key) {
        const claim = claims.get(key);
        if (!claim) return undefined;
        const storageClass = classes.get({ name: classOf(claim) });
        const exists = volumes.get({ name: volumeNameFor(claim) }) !== undefined;
        return { claim, storageClass, node: nodeOf(claim, storageClass), exists };
      },
      plan: planLocalClaim,
    },
    { ...setup, recorder: setup.recorderOf(PROVISIONER) },
  );
}

async function runVolumes(setup: ControllerSetup): Promise<void> {
  const volumes = setup.informers.of(persistentVolumes);
  await runController<PersistentVolume>(
    {
      name: `${NAME}-volumes`,
      caches: [cacheOf(persistentVolumes, volumes)],
      triggers: (add) => onSelf(volumes, add),
      observe: (key) => volumes.get(key),
      plan: planLocalVolume,
    },
    { ...setup, recorder: setup.recorderOf(PROVISIONER) },
  );
}
