import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
import { Chunks } from '#apiserver/chunks.ts';
import type { ServerResponse } from '#apiserver/request.ts';

/** Smaller answers go out as they are; upstream's threshold. */
const MIN_BYTES = 128 * 1024;

const gzipBytes = promisify(gzip);

/** Compresses a large answer for a client that takes gzip. Watches never are. */
export async function compress(
  response: ServerResponse,
  acceptEncoding: string | undefined,
): Promise<ServerResponse> {
  const { body } = response;
  if (!acceptEncoding?.includes('gzip')) return response;
  const whole = typeof body === 'string' || body instanceof Uint8Array || body instanceof Chunks;
  if (!whole || response.headers['content-encoding']) return response;
  const size = body instanceof Chunks ? body.sizeBytes : body.length;
  if (size < MIN_BYTES) return response;
  const small = await gzipBytes(body instanceof Chunks ? body.join() : body, {
    level: constants.Z_BEST_SPEED,
  });
  response.headers['content-encoding'] = 'gzip';
  response.headers['vary'] = 'Accept-Encoding';
  return { ...response, body: small };
}
