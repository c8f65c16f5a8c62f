import { status as grpcStatus } from '@grpc/grpc-js';
import { type GrpcCall, grpcCalls, grpcClient, isServiceError } from '#node-agent/grpc-calls.ts';
import type { SnapshotMount } from '#node-agent/storage/mounts.ts';

/** CRI's namespace inside containerd. */
const NAMESPACE = { 'containerd-namespace': 'k8s.io' };
const CALL_MS = 30_000;
const DEFAULT_SNAPSHOTTER = 'overlayfs';

/** Unpacked images as file systems to mount. */
export type ImageSnapshots = {
  /** How to mount the image, named by its id; the same key gives the same again. */
  view(imageId: string, key: string): Promise<SnapshotMount[]>;
  /** Nobody mounts it any more. Idempotent. */
  remove(key: string): Promise<void>;
  close(): void;
};

/** Speaks containerd's own API on its CRI socket; works with every containerd since 1.0. */
export function connectSnapshots(endpoint: string): ImageSnapshots {
  const client = grpcClient(endpoint);
  const images = grpcCalls(client, 'cri.proto', 'runtime.v1.ImageService');
  const runtime = grpcCalls(client, 'cri.proto', 'runtime.v1.RuntimeService');
  const snapshots = grpcCalls(
    client,
    'containerd-snapshots.proto',
    'containerd.services.snapshots.v1.Snapshots',
  );
  const options = { deadlineMs: CALL_MS, metadata: NAMESPACE };
  let found: Promise<string> | undefined;
  const snapshotterName = (): Promise<string> => {
    found ??= readSnapshotter(runtime).catch((error: unknown) => {
      found = undefined;
      throw error;
    });
    return found;
  };
  return {
    async view(imageId, key) {
      const snapshotter = await snapshotterName();
      const parent = await chainOf(images, imageId);
      // Without this label the view would be collected as garbage.
      const labels = { 'containerd.io/gc.root': new Date().toISOString() };
      try {
        const request = { snapshotter, key, parent, labels };
        return (await snapshots<{ mounts: SnapshotMount[] }>('View', request, options)).mounts;
      } catch (error) {
        if (!hasCode(error, grpcStatus.ALREADY_EXISTS)) throw error;
      }
      const request = { snapshotter, key };
      return (await snapshots<{ mounts: SnapshotMount[] }>('Mounts', request, options)).mounts;
    },
    async remove(key) {
      try {
        await snapshots('Remove', { snapshotter: await snapshotterName(), key }, options);
      } catch (error) {
        if (!hasCode(error, grpcStatus.NOT_FOUND)) throw error;
      }
    },
    close: () => client.close(),
  };
}

const hasCode = (error: unknown, code: grpcStatus): boolean =>
  isServiceError(error) && error.code === code;

type Info = { info: Record<string, string> };

/** The snapshot of the whole image, out of what CRI tells when asked for everything. */
async function chainOf(images: GrpcCall, image: string): Promise<string> {
  const request = { image: { image }, verbose: true };
  const answer = await images<Info>('ImageStatus', request, { deadlineMs: CALL_MS });
  const { chainID = '' } = JSON.parse(answer.info['info'] ?? '{}') as { chainID?: string };
  if (!chainID) throw new Error(`the container runtime does not tell how image ${image} is stored`);
  return chainID;
}

async function readSnapshotter(runtime: GrpcCall): Promise<string> {
  const answer = await runtime<Info>('Status', { verbose: true }, { deadlineMs: CALL_MS });
  const config = JSON.parse(answer.info['config'] ?? '{}') as {
    containerd?: { snapshotter?: string };
  };
  return config.containerd?.snapshotter ?? DEFAULT_SNAPSHOTTER;
}
