import type { IncomingMessage } from 'node:http';
import * as https from 'node:https';
import { http } from '#base/http.ts';
import { type AuthConfig, RuntimeError } from '#node-agent/runtime/service.ts';
import { type RegistryEndpoint, registryUrl } from './registry-hosts.ts';

/** A registry that says nothing for so long hangs; layers may take as long as they flow. */
const IDLE_MS = 30_000;
const MAX_REDIRECTS = 5;
/** Manifests are bounded at 4 MiB by the distribution specification. */
const MAX_DOCUMENT_BYTES = 4 * 1024 * 1024;

const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
];

export type Document = { bytes: Buffer; mediaType: string };

/** One registry's repository, with the credentials of one pull. */
export type Repository = {
  manifest(reference: string): Promise<Document>;
  /** The content of a blob as it comes; whoever reads it checks its digest. */
  blob(digest: string): Promise<AsyncIterable<Uint8Array>>;
};

export type RepositoryOptions = {
  endpoint: RegistryEndpoint;
  /** Named in errors. */
  host: string;
  repository: string;
  auth: AuthConfig | undefined;
  signal: AbortSignal;
  idleMs?: number;
};

/**
 * Speaks to one registry. Every failure is a RuntimeError that names host and repository.
 * Source: OCI distribution specification; Docker's token authentication.
 */
export function openRepository(options: RepositoryOptions): Repository {
  const { endpoint, repository, auth, signal } = options;
  let authorization = basicAuthorization(auth);
  const send = (url: string, accept: string[], authorize: boolean) =>
    request(url, {
      headers: {
        accept: accept.join(', '),
        ...(authorize && authorization ? { authorization } : {}),
      },
      skipVerify: endpoint.skipVerify,
      signal,
      idleMs: options.idleMs ?? IDLE_MS,
    });

  async function get(path: string, accept: string[]): Promise<IncomingMessage> {
    // A mirror of several registries has to be told which one is meant, as containerd does.
    const query = endpoint.url === registryUrl(options.host) ? '' : `?ns=${options.host}`;
    const first = `${endpoint.url}/v2/${repository}/${path}${query}`;
    let url = first;
    for (let hop = 0, asked = false; hop <= MAX_REDIRECTS; hop++) {
      // Credentials are for the registry, not for the storage it sends us to.
      const own = new URL(url).host === new URL(first).host;
      const response = await send(url, accept, own);
      const status = response.statusCode ?? 0;
      if (status === 200) return response;
      response.resume();
      const location = response.headers.location;
      if (status >= 300 && status < 400 && location) {
        url = new URL(location, url).href;
        continue;
      }
      const challenge = response.headers['www-authenticate'];
      if (status === 401 && challenge && !asked) {
        asked = true;
        authorization = await answerChallenge(challenge, options);
        if (authorization) continue;
      }
      throw refused(options, path, status);
    }
    throw new RuntimeError('Unknown', `${options.host}: too many redirects for ${path}`);
  }

  const failing = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (cause) {
      if (cause instanceof RuntimeError) throw cause;
      signal.throwIfAborted();
      const text = cause instanceof Error ? cause.message : String(cause);
      throw new RuntimeError('Unknown', `registry ${options.host} (${endpoint.url}): ${text}`, {
        cause,
      });
    }
  };

  return {
    manifest: (reference) =>
      failing(async () => {
        const response = await get(`manifests/${reference}`, MANIFEST_TYPES);
        const bytes = await readAll(response, MAX_DOCUMENT_BYTES);
        const mediaType = (response.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
        return { bytes, mediaType };
      }),
    blob: (digest) =>
      failing(
        async (): Promise<AsyncIterable<Uint8Array>> => await get(`blobs/${digest}`, ['*/*']),
      ),
  };
}

function refused(options: RepositoryOptions, path: string, status: number): RuntimeError {
  const { host, repository } = options;
  const what = `${host}/${repository}: ${path}`;
  if (status === 401 || status === 403)
    return new RuntimeError(
      'Unknown',
      `${what}: ${status} the registry refuses access; check the image's name and the pod's imagePullSecrets`,
    );
  if (status === 404) return new RuntimeError('NotFound', `${what}: not found in the registry`);
  return new RuntimeError('Unknown', `${what}: the registry answered ${status}`);
}

function basicAuthorization(auth: AuthConfig | undefined): string | undefined {
  if (auth?.registryToken) return `Bearer ${auth.registryToken}`;
  if (auth?.auth) return `Basic ${auth.auth}`;
  if (!auth?.username) return undefined;
  return `Basic ${Buffer.from(`${auth.username}:${auth.password ?? ''}`).toString('base64')}`;
}

/** The header that satisfies a challenge; undefined when nothing does. */
async function answerChallenge(
  challenge: string,
  options: RepositoryOptions,
): Promise<string | undefined> {
  const basic = basicAuthorization(options.auth);
  if (/^basic\b/i.test(challenge)) return undefined; // it was sent already, or there is none
  const field = (name: string): string | undefined =>
    new RegExp(`${name}="([^"]*)"`, 'i').exec(challenge)?.[1];
  const realm = field('realm');
  if (!/^bearer\b/i.test(challenge) || !realm) return undefined;
  const url = new URL(realm);
  const service = field('service');
  if (service) url.searchParams.set('service', service);
  url.searchParams.set('scope', field('scope') ?? `repository:${options.repository}:pull`);
  const identity = options.auth?.identityToken;
  const response = await request(identity ? realm : url.href, {
    headers: basic && !identity ? { authorization: basic } : {},
    skipVerify: options.endpoint.skipVerify,
    signal: options.signal,
    idleMs: options.idleMs ?? IDLE_MS,
    ...(identity ? { form: refreshForm(url, identity) } : {}),
  });
  const text = (await readAll(response, MAX_DOCUMENT_BYTES)).toString();
  if (response.statusCode !== 200) return undefined;
  const answer = JSON.parse(text) as { token?: string; access_token?: string };
  const token = answer.token ?? answer.access_token;
  return token ? `Bearer ${token}` : undefined;
}

function refreshForm(url: URL, refreshToken: string): string {
  const form = new URLSearchParams(url.searchParams);
  form.set('grant_type', 'refresh_token');
  form.set('refresh_token', refreshToken);
  form.set('client_id', 'gantry');
  return form.toString();
}

type RequestOptions = {
  headers: Record<string, string>;
  skipVerify: boolean;
  signal: AbortSignal;
  idleMs: number;
  form?: string;
};

function request(url: string, options: RequestOptions): Promise<IncomingMessage> {
  const { skipVerify, signal, idleMs, form } = options;
  const secure = url.startsWith('https:');
  const headers = {
    ...options.headers,
    ...(form ? { 'content-type': 'application/x-www-form-urlencoded' } : {}),
  };
  return new Promise((resolve, reject) => {
    const all = { method: form ? 'POST' : 'GET', headers, signal, timeout: idleMs };
    const sent = secure
      ? https.request(url, { ...all, rejectUnauthorized: !skipVerify })
      : http.request(url, all);
    sent.once('response', resolve);
    sent.once('error', reject);
    // Of the socket: it also ends a body that stops flowing.
    sent.on('timeout', () =>
      sent.destroy(new Error(`nothing came for ${idleMs / 1000} s; the registry hangs`)),
    );
    sent.end(form);
  });
}

async function readAll(source: AsyncIterable<unknown>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of source) {
    size += (chunk as Buffer).length;
    if (size > maxBytes) throw new Error(`an answer is larger than ${maxBytes} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}
