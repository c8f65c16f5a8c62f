import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { MicrovmImages } from '#node-agent/runtime/microvm/images/image-service.ts';
import type { Vmm } from '#node-agent/runtime/microvm/machine.ts';
import { PodEvents } from './events.ts';
import { serveCri } from './grpc-server.ts';
import {
  containerMethods,
  eventStreams,
  imageMethods,
  sandboxMethods,
  statusMethods,
  streamMethods,
} from './methods.ts';
import type { Pod, Runtime } from './pod.ts';
import type { PodNetwork } from './pod-network.ts';
import type { Records } from './records.ts';
import { recover } from './recovery.ts';
import { startStreamingServer } from './streaming-server.ts';

export type CriParts = {
  socket: string;
  vmm: Vmm;
  records: Records;
  network: PodNetwork;
  /** Made when it is known which root file systems containers use. */
  images: (inUse: () => ReadonlySet<string>) => MicrovmImages;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
};

/** Serves CRI with these parts, after having found what runs already. */
export async function startCri(parts: CriParts): Promise<{ close(): Promise<void> }> {
  const { socket, images, ...rest } = parts;
  const pods = new Map<string, Pod>();
  const inUse = (): Set<string> =>
    new Set(
      [...pods.values()].flatMap((pod) =>
        [...pod.containers.values()].map(({ record }) => record.image.chainId),
      ),
    );
  const known = rest.records.load().flatMap(({ containers }) => containers);
  let recovered = false;
  const runtime: Runtime = {
    ...rest,
    // Before the recovery the records tell what is used; afterwards the containers do.
    images: images(() => (recovered ? inUse() : new Set(known.map(({ image }) => image.chainId)))),
    pods,
    events: new PodEvents(),
    hostCpus: availableParallelism(),
    newId: () => randomBytes(32).toString('hex'),
  };
  await recover(runtime);
  recovered = true;
  const streaming = await startStreamingServer(runtime);
  const server = await serveCri({
    socket,
    runtime: {
      ...statusMethods(runtime),
      ...sandboxMethods(runtime),
      ...containerMethods(runtime),
      ...streamMethods(runtime, streaming),
    },
    runtimeStreams: eventStreams(runtime),
    images: imageMethods(runtime),
    log: rest.log,
  });
  return {
    async close() {
      await server.close();
      await streaming.close();
    },
  };
}
