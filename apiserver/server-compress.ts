import { promisify } from 'node:util';
import { constants, gzip } from 'node:zlib';
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
  if (typeof body !== 'string' && !(body instanceof Uint8Array)) return response;
  if (body.length < MIN_BYTES || response.headers['content-encoding']) return response;
  const small = await gzipBytes(body, { level: constants.Z_BEST_SPEED });
  response.headers['content-encoding'] = 'gzip';
  response.headers['vary'] = 'Accept-Encoding';
  return { ...response, body: small };
}
