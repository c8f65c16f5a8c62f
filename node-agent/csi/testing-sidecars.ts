import { grpcCalls, grpcClient, type GrpcCall } from '#node-agent/grpc-calls.ts';
import type { PersistentVolume, PersistentVolumeClaim, VolumeAttachment } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { createInformers } from '#client/informer-factory.ts';
import {
  persistentVolumeClaims,
  persistentVolumes,
  storageClasses,
  volumeAttachments,
} from '#client/resources.ts';
import { sizeOf } from '#node-agent/csi/csi-request.ts';
import type { TestDriver } from '#node-agent/csi/testing.ts';

const DEADLINE = { deadlineMs: 10_000 };
const PROVISIONED_BY = 'pv.kubernetes.io/provisioned-by';

type Sidecars = { api: Api; driver: TestDriver; call: GrpcCall; nodeId: string };

/**
 * What external-provisioner, external-attacher and external-resizer do for a driver, as small as it
 * can be: they speak with the driver's controller service and with the API, and with nobody else.
 */
export function startSidecars(
  options: Omit<Sidecars, 'call'>,
  signal: AbortSignal,
): { failures: unknown[]; done: Promise<void> } {
  const client = grpcClient(options.driver.endpoint);
  const call = grpcCalls(client, 'csi.proto', 'csi.v1.Controller');
  const sidecars: Sidecars = { ...options, call };
  const informers = createInformers(options.api, { signal });
  const failures: unknown[] = [];
  let row = Promise.resolve();
  const doing = (task: () => Promise<void>): void => {
    row = row.then(task).catch((error: unknown) => {
      if (!signal.aborted) failures.push(error);
    });
  };
  informers.of(persistentVolumeClaims).onChange(({ type, object }) => {
    if (type === 'deleted') return;
    doing(() => provision(sidecars, object));
    doing(() => resize(sidecars, object));
  });
  informers.of(persistentVolumes).onChange(({ type, object }) => {
    if (type !== 'deleted') doing(() => remove(sidecars, object));
  });
  informers.of(volumeAttachments).onChange(({ type, object }) => {
    if (type !== 'deleted') doing(() => attach(sidecars, object));
  });
  const done = informers.done().then(async () => {
    await row;
    client.close();
  });
  return { failures, done };
}

async function provision({ api, driver, call }: Sidecars, claim: PersistentVolumeClaim) {
  const { annotations = {}, uid, name = '', namespace = '' } = claim.metadata;
  if (annotations['volume.kubernetes.io/storage-provisioner'] !== driver.name) return;
  if (claim.spec?.volumeName || driver.volumes.has(`pvc-${uid}`)) return;
  const storageClass = await api.get(storageClasses, { name: claim.spec?.storageClassName ?? '' });
  const requiredBytes = sizeOf(claim.spec?.resources?.requests?.['storage']);
  const { volume } = await call<{
    volume: { volumeId: string; volumeContext: Record<string, string> };
  }>('CreateVolume', { name: `pvc-${uid}`, capacityRange: { requiredBytes } }, DEADLINE);
  await api.create(persistentVolumes, {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: `pvc-${uid}`, annotations: { [PROVISIONED_BY]: driver.name } },
    spec: {
      accessModes: claim.spec?.accessModes ?? [],
      capacity: { storage: claim.spec?.resources?.requests?.['storage'] ?? '' },
      claimRef: {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        namespace,
        name,
        uid: uid ?? '',
      },
      persistentVolumeReclaimPolicy: storageClass.reclaimPolicy ?? 'Delete',
      storageClassName: storageClass.metadata.name ?? '',
      volumeMode: claim.spec?.volumeMode ?? 'Filesystem',
      csi: {
        driver: driver.name,
        volumeHandle: volume.volumeId,
        volumeAttributes: volume.volumeContext,
      },
    },
  });
}

async function remove(
  { api, driver, call }: Sidecars,
  { metadata, spec, status }: PersistentVolume,
) {
  const isOver = status?.phase === 'Released' && !metadata.deletionTimestamp;
  if (!isOver || metadata.annotations?.[PROVISIONED_BY] !== driver.name) return;
  const users = await api.list(volumeAttachments);
  const { name = '' } = metadata;
  if (users.items.some((one) => one.spec.source.persistentVolumeName === name)) return;
  await call('DeleteVolume', { volumeId: spec?.csi?.volumeHandle }, DEADLINE);
  await api.delete(persistentVolumes, { name });
}

async function attach({ api, driver, call, nodeId }: Sidecars, attachment: VolumeAttachment) {
  const { name = '', finalizers = [], deletionTimestamp } = attachment.metadata;
  if (attachment.spec.attacher !== driver.name) return;
  const finalizer = `external-attacher/${driver.name}`;
  const volumeName = attachment.spec.source.persistentVolumeName ?? '';
  const patch = (body: object, subresource?: string) =>
    api.patch(
      volumeAttachments,
      { name },
      { type: 'merge', body },
      subresource ? { subresource } : {},
    );
  const volume = await api.get(persistentVolumes, { name: volumeName });
  const volumeId = volume.spec?.csi?.volumeHandle;
  if (deletionTimestamp) {
    if (!finalizers.includes(finalizer)) return;
    await call('ControllerUnpublishVolume', { volumeId, nodeId }, DEADLINE);
    await patch({ metadata: { finalizers: null } });
    await remove({ api, driver, call, nodeId }, volume);
    return;
  }
  if (attachment.status?.attached) return;
  if (!finalizers.includes(finalizer)) await patch({ metadata: { finalizers: [finalizer] } });
  const answer = await call<{ publishContext: Record<string, string> }>(
    'ControllerPublishVolume',
    { volumeId, nodeId },
    DEADLINE,
  );
  const status = { attached: true, attachmentMetadata: answer.publishContext };
  await patch({ status }, 'status');
}

async function resize({ api, driver, call }: Sidecars, claim: PersistentVolumeClaim) {
  const { name = '', namespace = '' } = claim.metadata;
  const wanted = claim.spec?.resources?.requests?.['storage'];
  if (claim.status?.phase !== 'Bound' || !claim.spec?.volumeName) return;
  if (sizeOf(wanted) <= sizeOf(claim.status.capacity?.['storage'])) return;
  if (claim.metadata.annotations?.['volume.kubernetes.io/storage-resizer'] !== driver.name) return;
  const volume = await api.get(persistentVolumes, { name: claim.spec.volumeName });
  if (sizeOf(volume.spec?.capacity?.['storage']) >= sizeOf(wanted)) return;
  const capacityRange = { requiredBytes: sizeOf(wanted) };
  const volumeId = volume.spec?.csi?.volumeHandle;
  await call('ControllerExpandVolume', { volumeId, capacityRange }, DEADLINE);
  const spec = { capacity: { storage: wanted } };
  const key = { name: volume.metadata.name ?? '' };
  await api.patch(persistentVolumes, key, { type: 'merge', body: { spec } });
  const status = {
    conditions: [{ type: 'FileSystemResizePending', status: 'True' }],
    allocatedResources: { storage: wanted },
    allocatedResourceStatuses: { storage: 'NodeResizePending' },
  };
  const at = { namespace, name };
  const body = { status };
  await api.patch(persistentVolumeClaims, at, { type: 'merge', body }, { subresource: 'status' });
}
