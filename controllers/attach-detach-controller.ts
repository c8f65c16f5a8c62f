import type { Node, VolumeAttachment } from '#api/types.ts';
import { cacheOf, keyText, runController } from '#client/controller.ts';
import {
  csiDrivers,
  nodes,
  persistentVolumeClaims,
  persistentVolumes,
  pods,
  volumeAttachments,
} from '#client/resources.ts';
import { type AttachWorld, planAttachments, wantedOn } from '#controllers/attach-detach-plan.ts';
import { CLAIM_INDEX, claimIndex } from '#controllers/claim-users.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { NODE_INDEX, nodeIndex } from '#controllers/pods.ts';

const NAME = 'persistentvolume-attach-detach-controller';
const BY_NODE = 'node';
const BY_VOLUME = 'volume';

/** Asks attachers for the volumes of each node's pods, and to take back what nobody uses. */
export const attachDetachController: ControllerDefinition = {
  name: NAME,
  async run(setup) {
    const { informers } = setup;
    const nodeCache = informers.of(nodes);
    const podCache = informers.of(pods, {
      indexes: { [NODE_INDEX]: nodeIndex, [CLAIM_INDEX]: claimIndex },
    });
    const claims = informers.of(persistentVolumeClaims);
    const volumes = informers.of(persistentVolumes);
    const drivers = informers.of(csiDrivers);
    const attachments = informers.of(volumeAttachments, {
      indexes: {
        [BY_NODE]: ({ spec }: VolumeAttachment) => [spec.nodeName],
        [BY_VOLUME]: ({ spec }: VolumeAttachment) => [spec.source.persistentVolumeName ?? ''],
      },
    });
    /** When an attachment was first seen to be of no use. */
    const idle = new Map<string, number>();

    const note = (world: AttachWorld, now: number): AttachWorld => {
      const wanted = wantedOn(world);
      for (const { metadata } of world.attachments) {
        const name = metadata.name ?? '';
        if (wanted.has(name)) idle.delete(name);
        else if (!idle.has(name)) idle.set(name, now);
      }
      return world;
    };
    await runController<AttachWorld>(
      {
        name: NAME,
        caches: [
          cacheOf(nodes, nodeCache),
          cacheOf(pods, podCache),
          cacheOf(persistentVolumeClaims, claims),
          cacheOf(persistentVolumes, volumes),
          cacheOf(csiDrivers, drivers),
          cacheOf(volumeAttachments, attachments),
        ],
        triggers(add) {
          const addUsers = (claim: string): void => {
            for (const { spec } of podCache.byIndex(CLAIM_INDEX, claim))
              if (spec.nodeName) add(spec.nodeName);
          };
          nodeCache.onChange((change) => {
            if (change.type !== 'updated' || text(change.old) !== text(change.object))
              add(keyText(change.object));
          });
          podCache.onChange(({ object }) => {
            if (object.spec.nodeName && claimIndex(object).length > 0) add(object.spec.nodeName);
          });
          claims.onChange(({ object }) => addUsers(keyText(object)));
          volumes.onChange(({ object }) => {
            const { namespace, name } = object.spec?.claimRef ?? {};
            if (name) addUsers(`${namespace}/${name}`);
          });
          drivers.onChange(() => {
            for (const node of nodeCache.list()) add(keyText(node));
          });
          attachments.onChange(({ type, object }) => {
            add(object.spec.nodeName);
            if (type !== 'deleted') return;
            idle.delete(object.metadata.name ?? '');
            // Another node may wait for the volume.
            const volume = volumes.get({ name: object.spec.source.persistentVolumeName ?? '' });
            const { namespace, name } = volume?.spec?.claimRef ?? {};
            if (name) addUsers(`${namespace}/${name}`);
          });
        },
        observe(key, now) {
          const world: AttachWorld = {
            name: key.name,
            node: nodeCache.get(key),
            pods: podCache.byIndex(NODE_INDEX, key.name),
            claim: (namespace, name) => claims.get({ namespace, name }),
            volume: (name) => volumes.get({ name }),
            driver: (name) => drivers.get({ name }),
            attachments: attachments.byIndex(BY_NODE, key.name),
            attachmentsOf: (volume) => attachments.byIndex(BY_VOLUME, volume),
            idleSinceMs: (name) => idle.get(name),
          };
          return note(world, now);
        },
        plan: planAttachments,
      },
      { ...setup, recorder: setup.recorderOf('attachdetach-controller') },
    );
  },
};

/** What of a node decides about its volumes. */
const text = ({ spec, status }: Node): string =>
  JSON.stringify([
    spec?.taints,
    status?.volumesInUse,
    status?.volumesAttached,
    status?.conditions?.find(({ type }) => type === 'Ready')?.status,
  ]);
