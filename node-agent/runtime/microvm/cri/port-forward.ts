import type { Duplex } from 'node:stream';
import { errorText } from '#base/log.ts';
import { requirePod, type Runtime } from './pod.ts';
import { serveSpdy, type SpdyStream } from './spdy.ts';

export const PORT_FORWARD_PROTOCOL = 'portforward.k8s.io';

type Pair = { error?: SpdyStream; data?: SpdyStream };

/** Pairs whose second stream has not come; a client opens both at once. */
const MAX_WAITING = 200;

/**
 * Forwards connections to ports of a pod: two streams for each, one for data and one for an error.
 * Source: Kubernetes portforward.k8s.io over SPDY.
 */
export async function runPortForward(
  runtime: Runtime,
  sandboxId: string,
  duplex: Duplex,
): Promise<void> {
  const waiting = new Map<string, Pair>();
  await serveSpdy(duplex, (stream) => {
    const type = stream.headers.get('streamtype');
    const port = Number(stream.headers.get('port'));
    if (
      (type !== 'error' && type !== 'data') ||
      !Number.isInteger(port) ||
      port < 1 ||
      port > 65535
    )
      return stream.reset();
    const key = stream.headers.get('requestid') ?? `${port}`;
    const pair = { ...waiting.get(key), [type]: stream };
    if (!pair.error || !pair.data) {
      if (waiting.size >= MAX_WAITING) return stream.reset();
      waiting.set(key, pair);
      return;
    }
    waiting.delete(key);
    void forward(runtime, sandboxId, { port, error: pair.error, data: pair.data });
  });
}

async function forward(
  runtime: Runtime,
  sandboxId: string,
  { port, error, data }: { port: number; error: SpdyStream; data: SpdyStream },
): Promise<void> {
  try {
    const { vm } = requirePod(runtime, sandboxId);
    if (!vm) throw new Error(`sandbox ${sandboxId} is not running`);
    const connection = await vm.guest.dial(port);
    const input = async (): Promise<void> => {
      for await (const bytes of data.incoming) await connection.write(bytes);
      await connection.closeStdin();
    };
    input().catch(() => undefined); // the other end has closed; so does the output, below
    for await (const { bytes } of connection.output()) {
      await data.write(bytes);
      connection.acknowledge();
    }
  } catch (failure) {
    const words = `error forwarding port ${port} to pod ${sandboxId}: ${errorText(failure)}`;
    await error.write(Buffer.from(words));
  } finally {
    data.end();
    error.end();
  }
}
