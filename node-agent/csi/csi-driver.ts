import { status as grpcStatus } from '@grpc/grpc-js';
import { type GrpcCall, grpcCalls, grpcClient, isServiceError } from '#node-agent/grpc-calls.ts';

/** Longest that a driver may take for one call. Source: the kubelet's csiTimeout. */
const CALL_MS = 2 * 60_000;
/** Questions that need no work on a volume. */
const ASK_MS = 15_000;

export type NodeCapability =
  | 'STAGE_UNSTAGE_VOLUME'
  | 'GET_VOLUME_STATS'
  | 'EXPAND_VOLUME'
  | 'VOLUME_CONDITION'
  | 'SINGLE_NODE_MULTI_WRITER'
  | 'VOLUME_MOUNT_GROUP';

type Texts = Readonly<Record<string, string>>;

/** How a volume is to be used, in CSI's words. */
export type VolumeCapability = {
  accessMode: { mode: string };
  block?: object;
  mount?: { fsType: string; mountFlags: readonly string[]; volumeMountGroup?: string };
};

export type VolumeUsage = {
  available: number;
  total: number;
  used: number;
  unit: 'UNKNOWN' | 'BYTES' | 'INODES';
};
export type VolumeStats = {
  usage: VolumeUsage[];
  volumeCondition: { abnormal: boolean; message: string } | null;
};

export type NodeInfo = {
  nodeId: string;
  maxVolumesPerNode: number;
  accessibleTopology: { segments: Record<string, string> } | null;
};

/** The node service of one CSI driver. All calls fail with CsiError. */
export type CsiDriver = {
  name: string;
  nodeInfo(): Promise<NodeInfo>;
  capabilities(): Promise<ReadonlySet<NodeCapability>>;
  stage(request: {
    volumeId: string;
    publishContext: Texts;
    stagingTargetPath: string;
    volumeCapability: VolumeCapability;
    secrets: Texts;
    volumeContext: Texts;
  }): Promise<void>;
  unstage(volumeId: string, stagingTargetPath: string): Promise<void>;
  publish(request: {
    volumeId: string;
    publishContext: Texts;
    stagingTargetPath: string;
    targetPath: string;
    volumeCapability: VolumeCapability;
    readonly: boolean;
    secrets: Texts;
    volumeContext: Texts;
  }): Promise<void>;
  unpublish(volumeId: string, targetPath: string): Promise<void>;
  expand(request: {
    volumeId: string;
    volumePath: string;
    stagingTargetPath: string;
    requiredBytes: number;
    volumeCapability: VolumeCapability;
    secrets: Texts;
  }): Promise<void>;
  stats(volumeId: string, volumePath: string, stagingTargetPath: string): Promise<VolumeStats>;
  close(): void;
};

/** A driver refused, or could not be reached; says which call of which driver. */
export class CsiError extends Error {
  constructor(driver: string, method: string, cause: unknown) {
    super(`CSI driver ${driver}: ${method}: ${textOf(cause)}`, { cause });
    this.name = 'CsiError';
  }
}

function textOf(error: unknown): string {
  if (!isServiceError(error)) return error instanceof Error ? error.message : String(error);
  const code = grpcStatus[error.code] ?? error.code;
  return `rpc error: code = ${code} desc = ${error.details}`;
}

/** Connects to the node service on a driver's socket. */
export function connectCsiDriver(name: string, endpoint: string): CsiDriver {
  const client = grpcClient(endpoint);
  const raw: GrpcCall = grpcCalls(client, 'csi.proto', 'csi.v1.Node');
  let capabilities: Promise<ReadonlySet<NodeCapability>> | undefined;
  const call = async <T>(method: string, request: object, deadlineMs = CALL_MS): Promise<T> => {
    try {
      return await raw<T>(method, request, { deadlineMs });
    } catch (error) {
      throw new CsiError(name, method, error);
    }
  };
  return {
    name,
    nodeInfo: () => call<NodeInfo>('NodeGetInfo', {}, ASK_MS),
    capabilities() {
      capabilities ??= askCapabilities(call).catch((error: unknown) => {
        capabilities = undefined;
        throw error;
      });
      return capabilities;
    },
    stage: async (request) => void (await call('NodeStageVolume', request)),
    unstage: async (volumeId, stagingTargetPath) =>
      void (await call('NodeUnstageVolume', { volumeId, stagingTargetPath })),
    publish: async (request) => void (await call('NodePublishVolume', request)),
    unpublish: async (volumeId, targetPath) =>
      void (await call('NodeUnpublishVolume', { volumeId, targetPath })),
    async expand({ requiredBytes, ...request }) {
      await call('NodeExpandVolume', { ...request, capacityRange: { requiredBytes } });
    },
    stats: (volumeId, volumePath, stagingTargetPath) =>
      call('NodeGetVolumeStats', { volumeId, volumePath, stagingTargetPath }, ASK_MS),
    close: () => client.close(),
  };
}

type Capabilities = { capabilities: { rpc: { type: NodeCapability } | null }[] };

async function askCapabilities(
  call: <T>(method: string, request: object, deadlineMs: number) => Promise<T>,
): Promise<ReadonlySet<NodeCapability>> {
  const answer = await call<Capabilities>('NodeGetCapabilities', {}, ASK_MS);
  return new Set(answer.capabilities.flatMap(({ rpc }) => (rpc ? [rpc.type] : [])));
}
