import { createReadStream, existsSync, statSync } from 'node:fs';
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { http } from '#base/http.ts';
import { errorText, type Log, silentLog } from '#base/log.ts';
import type { ImageStore } from '#base/oci/image-store.ts';
import type { Running } from '#base/running.ts';
import { LOCAL_REGISTRY } from './pause.ts';
import type { Peers } from './peers.ts';

/** Slow readers are cut off; on loopback nothing is this slow. */
const REQUEST_TIMEOUT_MS = 60_000;
/** containerd opens a few connections per pull. */
const MAX_CONNECTIONS = 128;

/** Where a registry's answers come from, in this order. */
export type RegistrySources = {
  images: ImageStore;
  /** Blobs by digest besides those of the store: what the runtime has pulled. */
  contentDir?: string | undefined;
  /** The other nodes. */
  peers?: Peers | undefined;
  /** What blobs go through on their way out. */
  through?: (() => Transform) | undefined;
};

export type RegistryHandler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

export type RegistryOptions = RegistrySources & {
  /** Default 127.0.0.1: the store has no access control. */
  host?: string;
  /** Default 0: any free port. */
  port?: number;
};

/**
 * Serves an image store, read-only, as a registry. Names are looked up as `<ns>/<path>:<tag>`
 * where `ns` is the registry host that a client mirrors (containerd sends it), by default the
 * cluster's own. `url` has no trailing slash. Rejects when the port is taken.
 *
 * Source: OCI distribution specification, "Pull" and "Content Discovery".
 */
export async function startRegistry(
  options: RegistryOptions,
  { signal, log = silentLog }: { signal: AbortSignal; log?: Log },
): Promise<Running & { url: string }> {
  const { host = '127.0.0.1', port = 0 } = options;
  signal.throwIfAborted();
  const handle = registryHandler(options, log);
  const server = http.createServer((request, response) => void handle(request, response));
  server.maxConnections = MAX_CONNECTIONS;
  server.requestTimeout = REQUEST_TIMEOUT_MS;
  await new Promise<void>((done, fail) => {
    server.once('error', (cause) =>
      fail(new Error(`cannot serve images on ${host}:${port}`, { cause })),
    );
    server.listen(port, host, done);
  });
  const done = new Promise<void>((resolve) => {
    const close = (): void => {
      server.close(() => resolve());
      server.closeAllConnections();
    };
    signal.addEventListener('abort', close, { once: true });
  });
  const bound = server.address() as AddressInfo;
  return { url: `http://${host}:${bound.port}`, done };
}

/** Answers requests out of these sources. Never rejects. */
export function registryHandler(sources: RegistrySources, log: Log): RegistryHandler {
  return async (request, response) => {
    try {
      await answer(sources, request, response);
    } catch (error) {
      log.warn('registry request failed', { url: request.url, error: errorText(error) });
      if (response.headersSent) response.destroy();
      else refuse(response, 500, 'UNKNOWN', errorText(error));
    }
  };
}

async function answer(
  { images, contentDir, peers, through }: RegistrySources,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== 'GET' && request.method !== 'HEAD')
    return refuse(response, 405, 'UNSUPPORTED', 'this registry is read-only');
  const url = new URL(request.url ?? '/', 'http://registry');
  const namespace = url.searchParams.get('ns') ?? LOCAL_REGISTRY;
  const path = decodeURIComponent(url.pathname);
  if (path === '/v2/' || path === '/v2') return sendJson(response, {});
  if (path === '/v2/_catalog') return sendJson(response, { repositories: repositories(images) });

  const match = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(path);
  const [, name = '', kind, reference = ''] = match ?? [];
  switch (kind) {
    case 'manifests': {
      const separator = reference.startsWith('sha256:') ? '@' : ':';
      const found = images.resolve(`${namespace}/${name}${separator}${reference}`);
      const file = found && images.blobFile(found.digest);
      if (file)
        return sendFile(request, response, { file, digest: found.digest, type: found.mediaType });
      // What the runtime has pulled is not told of: only the registry knows who may have the image.
      if (await passFromPeer(peers, request, response)) return;
      return refuse(response, 404, 'MANIFEST_UNKNOWN', `no ${name}:${reference} here`);
    }
    case 'blobs': {
      const file = images.blobFile(reference) ?? pulledFile(contentDir, reference);
      if (!file) {
        if (await passFromPeer(peers, request, response)) return;
        return refuse(response, 404, 'BLOB_UNKNOWN', `no blob ${reference} here`);
      }
      const type = 'application/octet-stream';
      return sendFile(request, response, { file, digest: reference, type, through });
    }
    case 'tags':
      return sendJson(response, { name, tags: tagsOf(images, `${namespace}/${name}`) });
    default:
      return refuse(response, 404, 'NAME_UNKNOWN', `${path} is no path of a registry`);
  }
}

/** A blob that the runtime holds; those it has not finished stand elsewhere. */
function pulledFile(contentDir: string | undefined, digest: string): string | undefined {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  const file = contentDir && hex && join(contentDir, hex);
  return file && existsSync(file) ? file : undefined;
}

/** Headers of a blob or manifest that a client needs. */
const PASSED = [
  'content-type',
  'content-length',
  'content-range',
  'docker-content-digest',
  'etag',
  'accept-ranges',
] as const;

/** Passes on what another node has; false when none has it. */
async function passFromPeer(
  peers: Peers | undefined,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  if (!peers) return false;
  const gone = new AbortController();
  response.once('close', () => gone.abort(new Error('the client is gone')));
  const { method = 'GET', url = '', headers } = request;
  const found = await peers(url, { method, range: headers.range, signal: gone.signal });
  if (!found) return false;
  const passed = PASSED.flatMap((name) => {
    const value = found.headers[name];
    return value === undefined ? [] : [[name, value]];
  });
  response.writeHead(found.statusCode ?? 200, Object.fromEntries(passed) as OutgoingHttpHeaders);
  await pipeline(found, response);
  return true;
}

type Blob = Pick<RegistrySources, 'through'> & { file: string; digest: string; type: string };

async function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  blob: Blob,
): Promise<void> {
  const { size } = statSync(blob.file);
  const headers: OutgoingHttpHeaders = {
    'content-type': blob.type,
    'docker-content-digest': blob.digest,
    etag: `"${blob.digest}"`,
    'accept-ranges': 'bytes',
  };
  const range = readRange(request.headers.range, size);
  if (range === 'unsatisfiable') {
    response.writeHead(416, { 'content-range': `bytes */${size}` }).end();
    return;
  }
  const { start, end } = range ?? { start: 0, end: size - 1 };
  if (range) headers['content-range'] = `bytes ${start}-${end}/${size}`;
  response.writeHead(range ? 206 : 200, { ...headers, 'content-length': end - start + 1 });
  if (request.method === 'HEAD' || size === 0) return void response.end();
  const file = createReadStream(blob.file, { start, end, highWaterMark: 1 << 20 });
  const pace = blob.through?.();
  await (pace ? pipeline(file, pace, response) : pipeline(file, response)).catch(
    (error: NodeJS.ErrnoException) => {
      // A client that has what it wanted simply hangs up.
      if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
    },
  );
}

/** One range of bytes, inclusive; undefined when none is asked for. Source: RFC 9110, 14.1.2. */
export function readRange(
  header: string | undefined,
  size: number,
): { start: number; end: number } | 'unsatisfiable' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header ?? '');
  if (!match || (match[1] === '' && match[2] === '')) return undefined;
  const last = size - 1;
  if (match[1] === '') {
    const wanted = Number(match[2]);
    return wanted === 0 ? 'unsatisfiable' : { start: Math.max(0, size - wanted), end: last };
  }
  const start = Number(match[1]);
  const end = match[2] === '' ? last : Math.min(Number(match[2]), last);
  return start > last || end < start ? 'unsatisfiable' : { start, end };
}

function repositories(images: ImageStore): string[] {
  const prefix = `${LOCAL_REGISTRY}/`;
  const local = images.names().filter((name) => name.startsWith(prefix));
  const names = local.map((name) => name.slice(prefix.length, name.lastIndexOf(':')));
  return [...new Set(names)].sort();
}

function tagsOf(images: ImageStore, repository: string): string[] {
  return images
    .names()
    .filter((name) => name.slice(0, name.lastIndexOf(':')) === repository)
    .map((name) => name.slice(name.lastIndexOf(':') + 1))
    .sort();
}

function sendJson(response: ServerResponse, value: unknown): void {
  const headers = { 'docker-distribution-api-version': 'registry/2.0' };
  response.writeHead(200, { ...headers, 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify({ errors: [{ code, message }] }));
}
