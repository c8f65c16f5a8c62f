import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import protobuf from 'protobufjs/minimal.js';

/** CRI names used here; the field numbers below are those of its published proto (runtime.v1). */
const RUNTIME_SERVICE = '/runtime.v1.RuntimeService';
/** More at once only adds latency: tearing a pod down is CPU bound. */
const PARALLEL_REMOVALS = 4;

/** Runtime name and version, when a CRI service answers at `endpoint` in time; throws otherwise. */
export async function criVersion(
  endpoint: string,
  timeoutMs: number,
): Promise<{ name: string; version: string }> {
  return withClient(endpoint, async (client) => {
    const fields = decodeFields(await call(client, 'Version', new Uint8Array(), timeoutMs));
    return { name: text(fields, 2), version: text(fields, 3) };
  });
}

/**
 * Stops and removes every pod sandbox, or those of the pods that `isOf` picks by uid; throws the first
 * failure after having tried all.
 */
export async function removeSandboxes(
  endpoint: string,
  timeoutMs: number,
  isOf: (uid: string) => boolean = () => true,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  const left = (): number => Math.max(1, deadline - Date.now());
  await withClient(endpoint, async (client) => {
    const listed = decodeFields(await call(client, 'ListPodSandbox', new Uint8Array(), left()));
    const ids = (listed.get(1) ?? [])
      .map((item) => decodeFields(item))
      .filter((sandbox) => isOf(uidOf(sandbox)))
      .map((sandbox) => text(sandbox, 1));
    const failures: unknown[] = [];
    const remove = async (): Promise<void> => {
      for (let id = ids.pop(); id !== undefined; id = ids.pop()) {
        const request = protobuf.Writer.create().uint32(10).string(id).finish();
        try {
          await call(client, 'StopPodSandbox', request, left());
          await call(client, 'RemovePodSandbox', request, left());
        } catch (error) {
          failures.push(error);
        }
      }
    };
    await Promise.all(Array.from({ length: PARALLEL_REMOVALS }, remove));
    if (failures.length > 0) throw failures[0];
  });
}

/** PodSandbox.metadata.uid. */
function uidOf(sandbox: Map<number, Uint8Array[]>): string {
  const [metadata] = sandbox.get(2) ?? [];
  return metadata ? text(decodeFields(metadata), 2) : '';
}

async function withClient<T>(endpoint: string, use: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(endpoint, credentials.createInsecure(), {
    'grpc.initial_reconnect_backoff_ms': 20,
    'grpc.use_local_subchannel_pool': 1,
  });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

function call(
  client: Client,
  method: string,
  request: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      `${RUNTIME_SERVICE}/${method}`,
      (value: Uint8Array) => Buffer.from(value),
      (value: Buffer): Uint8Array => value,
      request,
      { deadline: Date.now() + timeoutMs },
      (error: ServiceError | null, response?: Uint8Array) => {
        if (error) reject(new Error(`CRI ${method} failed`, { cause: error }));
        else resolve(response ?? new Uint8Array());
      },
    );
  });
}

/** Length-delimited fields of a message, by number, in order; the others are skipped. */
function decodeFields(message: Uint8Array): Map<number, Uint8Array[]> {
  const reader = protobuf.Reader.create(message);
  const fields = new Map<number, Uint8Array[]>();
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if ((tag & 7) !== 2) reader.skipType(tag & 7);
    else fields.set(tag >>> 3, [...(fields.get(tag >>> 3) ?? []), reader.bytes()]);
  }
  return fields;
}

function text(fields: Map<number, Uint8Array[]>, number: number): string {
  return Buffer.from(fields.get(number)?.[0] ?? []).toString('utf8');
}
