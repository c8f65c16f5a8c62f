import type { PersistentVolumeClaim, Pod } from '#api/types.ts';
import { claimNameOf } from '#api/volume-match.ts';
import type { Action } from '#client/actions.ts';
import { cacheOf, keyText, type Plan, runController } from '#client/controller.ts';
import { persistentVolumeClaims, pods } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';
import { controllerOf, controllerReference } from '#controllers/ownership.ts';

type Observed = {
  pod: Pod;
  claimNamed: (name: string) => PersistentVolumeClaim | undefined;
};

/** Makes the claims of a pod's ephemeral volumes; they go with the pod. Pure. */
export function planEphemeral({ pod, claimNamed }: Observed): Plan {
  if (pod.metadata.deletionTimestamp) return { actions: [] };
  const actions: Action[] = [];
  for (const volume of pod.spec.volumes ?? []) {
    const template = volume.ephemeral?.volumeClaimTemplate;
    if (!template) continue;
    const name = claimNameOf(pod, volume);
    const existing = claimNamed(name);
    if (existing) {
      if (controllerOf(existing)?.uid === pod.metadata.uid) continue;
      const message = `ephemeral volume ${volume.name}: PVC ${pod.metadata.namespace}/${name} was not created for the pod`;
      const note = { type: 'Warning', reason: 'FailedBinding', message } as const;
      actions.push({ type: 'event', about: pod, note });
      continue;
    }
    const { labels, annotations } = template.metadata ?? {};
    const owner: Pod = { ...pod, apiVersion: 'v1', kind: 'Pod' };
    actions.push({
      type: 'create',
      resource: persistentVolumeClaims,
      ifExists: 'ignore',
      object: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: {
          name,
          namespace: pod.metadata.namespace ?? '',
          ...(labels ? { labels } : {}),
          ...(annotations ? { annotations } : {}),
          ownerReferences: [controllerReference(owner)],
        },
        spec: template.spec,
      },
    });
  }
  return { actions };
}

/** Gives generic ephemeral volumes their claims. */
export const ephemeralVolumeController: ControllerDefinition = {
  name: 'ephemeral-volume-controller',
  async run(setup) {
    const claims = setup.informers.of(persistentVolumeClaims);
    const podCache = setup.informers.of(pods);
    const isEphemeral = (pod: Pod): boolean =>
      pod.spec.volumes?.some((volume) => volume.ephemeral) ?? false;
    await runController<Observed>(
      {
        name: 'ephemeral-volume-controller',
        caches: [cacheOf(persistentVolumeClaims, claims), cacheOf(pods, podCache)],
        triggers(add) {
          podCache.onChange(({ type, object }) => {
            if (type !== 'deleted' && isEphemeral(object)) add(keyText(object));
          });
          claims.onChange(({ type, object }) => {
            const owner = controllerOf(object);
            const gone = type === 'deleted' && owner?.kind === 'Pod';
            if (gone) add(`${object.metadata.namespace}/${owner.name}`);
          });
        },
        observe(key) {
          const pod = podCache.get(key);
          if (!pod || !isEphemeral(pod)) return undefined;
          return { pod, claimNamed: (name) => claims.get({ namespace: key.namespace, name }) };
        },
        plan: planEphemeral,
      },
      { ...setup, recorder: setup.recorderOf('ephemeral-volume') },
    );
  },
};
