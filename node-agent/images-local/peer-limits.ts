import { Transform } from 'node:stream';
import { type Clock, systemClock } from '#base/clock.ts';
import type { RegistryHandler } from './registry.ts';

/** Parts of images given to other nodes at a time: each is an open file and a buffer of 1 MiB. */
export const MAX_GIVEN = 8;
/** All of them together: half of a link of 1 Gbit/s stays with the pods. */
export const GIVEN_BYTES_PER_SECOND = 64 * 1024 * 1024;
/** A node that is turned away goes to another or to the registry; it may come back. */
const RETRY_AFTER_SECONDS = 1;

/** Turns away what would be one too many. */
export function limited(handle: RegistryHandler, most: number = MAX_GIVEN): RegistryHandler {
  let open = 0;
  return async (request, response) => {
    if (open >= most) {
      response.writeHead(503, { 'retry-after': String(RETRY_AFTER_SECONDS), connection: 'close' });
      response.end();
      return;
    }
    open++;
    try {
      await handle(request, response);
    } finally {
      open--;
    }
  };
}

/** Streams made by the returned function pass so many bytes per second, all of them together. */
export function createPacer(
  bytesPerSecond: number = GIVEN_BYTES_PER_SECOND,
  clock: Clock = systemClock,
): () => Transform {
  let freeAtMs = 0;
  return () => {
    const closed = new AbortController();
    return new Transform({
      transform(chunk: Buffer, _encoding, pass) {
        const now = clock.now();
        const atMs = Math.max(now, freeAtMs);
        freeAtMs = atMs + (chunk.length * 1000) / bytesPerSecond;
        if (atMs <= now) return pass(null, chunk);
        clock.sleep(atMs - now, { signal: closed.signal }).then(
          () => pass(null, chunk),
          (reason: Error) => pass(reason),
        );
      },
      destroy(error, done) {
        closed.abort(error ?? new Error('the reader is gone'));
        done(error);
      },
    });
  };
}
