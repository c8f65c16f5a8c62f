import type { Readable } from 'node:stream';
import { failure } from '#api/status.ts';

/** The largest body that is read; upstream's limit too. */
export const MAX_BODY_BYTES = 3 * 1024 * 1024;

/** Thrown for a larger body; `body` is the Status to answer. */
export class BodyTooLarge extends Error {
  readonly body: string;
  constructor() {
    const { status } = failure(
      413,
      'RequestEntityTooLarge',
      `Request entity too large: limit is ${MAX_BODY_BYTES}`,
    );
    super(status.message);
    this.body = JSON.stringify(status);
  }
}

/** A request's whole body. Throws BodyTooLarge, or the stream's error. */
export function readBody(stream: Readable): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    stream.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_BODY_BYTES) {
        stream.pause();
        stream.removeAllListeners('data');
        reject(new BodyTooLarge());
        // What is still on its way is thrown away, so that the client gets to read the answer.
        stream.resume();
      } else chunks.push(chunk);
    });
    stream.on('end', () =>
      resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)),
    );
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('the client has gone')));
  });
}
