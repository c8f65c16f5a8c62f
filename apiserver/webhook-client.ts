import { Agent, request as httpsRequest } from 'node:https';
import { parseExact } from '#base/exact-json.ts';
import type { Random } from '#base/random.ts';
import { addressOf } from '#apiserver/aggregation/remote-address.ts';
import type { ObjectReader } from '#apiserver/reader.ts';

/** Where a webhook is. Source: admissionregistration.k8s.io/v1 and apiextensions.k8s.io/v1 WebhookClientConfig. */
export type WebhookAddress = {
  url?: string;
  /** PEM, base64. Absent: the system's authorities. */
  caBundle?: string;
  service?: { namespace?: string; name?: string; path?: string; port?: number };
};

export type WebhookCall = {
  address: WebhookAddress;
  timeoutSeconds: number;
  /** Sent as JSON. */
  body: unknown;
  signal: AbortSignal;
};

export type WebhookWorld = { reader: ObjectReader; random: Random };

/** A call that failed; the message is what Go's client says. */
export class WebhookError extends Error {}

/** Answers that are longer are not read to the end. */
const MAX_ANSWER_BYTES = 10 * 1024 * 1024;
/** Connections are kept for as many webhooks; more, and they are made anew. */
const MAX_AGENTS = 64;

const agents = new Map<string, Agent>();

/** One pool for each authority: sessions are not shared between trusts. */
function agentFor(caBundle: string | undefined): Agent {
  const key = caBundle ?? '';
  const known = agents.get(key);
  if (known) return known;
  if (agents.size >= MAX_AGENTS) {
    for (const agent of agents.values()) agent.destroy();
    agents.clear();
  }
  const ca = caBundle ? Buffer.from(caBundle, 'base64').toString('utf8') : undefined;
  const agent = new Agent({ keepAlive: true, ...(ca ? { ca } : {}) });
  agents.set(key, agent);
  return agent;
}

type Target = { url: string; host: string; port: number; path: string; serverName: string };

function targetOf(call: WebhookCall, world: WebhookWorld): Target {
  const { address, timeoutSeconds } = call;
  const query = `?timeout=${timeoutSeconds}s`;
  if (address.url !== undefined) {
    const url = new URL(address.url);
    const path = url.pathname + query;
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const port = Number(url.port || 443);
    return { url: `https://${url.host}${path}`, host, port, path, serverName: host };
  }
  const { namespace = '', name = '', path: given = '/', port = 443 } = address.service ?? {};
  const path = `${given.startsWith('/') ? given : `/${given}`}${query}`;
  const serverName = `${name}.${namespace}.svc`;
  const url = `https://${serverName}:${port}${path}`;
  const found = addressOf(world.reader, world.random, { service: { namespace, name, port } });
  if ('host' in found) return { url, ...found, path, serverName };
  throw new WebhookError(`Post "${url}": ${missingText(found, namespace, name, port)}`);
}

function missingText(
  { reason }: { reason: string },
  namespace: string,
  name: string,
  port: number,
): string {
  if (reason === 'ServiceNotFound') return `service "${name}" not found`;
  if (reason === 'ServicePortError') return `no service port ${port} found for service "${name}"`;
  return `no endpoints available for service "${name}"${namespace ? '' : ' '}`.trimEnd();
}

/** Posts a review and reads the answer as JSON. Throws WebhookError. */
export async function callWebhook(call: WebhookCall, world: WebhookWorld): Promise<unknown> {
  const target = targetOf(call, world);
  const body = Buffer.from(JSON.stringify(call.body));
  const deadline = AbortSignal.timeout(call.timeoutSeconds * 1000);
  const signal = AbortSignal.any([call.signal, deadline]);
  const answer = await post(target, agentFor(call.address.caBundle), body, signal).catch(
    (error: unknown) => {
      const reason = deadline.aborted ? 'context deadline exceeded' : goText(error, target);
      throw new WebhookError(`Post "${target.url}": ${reason}`, { cause: error });
    },
  );
  if (answer.status !== 200) throw new WebhookError(statusText(answer));
  try {
    return parseExact(answer.text);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    throw new WebhookError(`couldn't get version/kind; json parse error: ${text}`, {
      cause: error,
    });
  }
}

type Answer = { status: number; text: string };

function post(target: Target, agent: Agent, body: Buffer, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { host, port, path, serverName } = target;
    const ip = /^[\d.]+$|:/.test(serverName);
    const outgoing = httpsRequest(
      {
        host,
        port,
        path,
        agent,
        signal,
        method: 'POST',
        // Addresses are not sent as server names; the certificate is checked against the host then.
        ...(ip ? {} : { servername: serverName }),
        headers: {
          host: new URL(target.url).host,
          'content-type': 'application/json',
          accept: 'application/json, */*',
          'content-length': body.length,
          'user-agent': 'kube-apiserver-admission',
        },
      },
      (incoming) => {
        const chunks: Buffer[] = [];
        let size = 0;
        incoming.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > MAX_ANSWER_BYTES) incoming.destroy(new Error('the answer is too large'));
          else chunks.push(chunk);
        });
        incoming.on('error', reject);
        incoming.on('end', () =>
          resolve({
            status: incoming.statusCode ?? 0,
            text: Buffer.concat(chunks).toString('utf8'),
          }),
        );
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

const UNTRUSTED = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
]);

/** What Go says of the same failure. */
function goText(error: unknown, { host, port, serverName }: Target): string {
  const { code = '', message = String(error) } = error as { code?: string; message?: string };
  const place = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
  const tls = 'tls: failed to verify certificate: x509: ';
  if (UNTRUSTED.has(code)) return `${tls}certificate signed by unknown authority`;
  switch (code) {
    case 'ECONNREFUSED':
      return `dial tcp ${place}: connect: connection refused`;
    case 'EHOSTUNREACH':
      return `dial tcp ${place}: connect: no route to host`;
    case 'ENETUNREACH':
      return `dial tcp ${place}: connect: network is unreachable`;
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return `dial tcp: lookup ${host}: no such host`;
    case 'ECONNRESET':
      return 'EOF';
    case 'CERT_HAS_EXPIRED':
      return `${tls}certificate has expired or is not yet valid`;
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return `${tls}certificate is not valid for ${serverName}`;
    default:
      return message;
  }
}

function statusText({ status, text }: Answer): string {
  const parsed = statusMessage(text);
  if (parsed) return parsed;
  if (status === 404) return 'the server could not find the requested resource';
  if (status === 401) return 'the server has asked for the client to provide credentials';
  if (status === 503) return 'the server is currently unable to handle the request';
  if (status >= 500) {
    return `an error on the server (${JSON.stringify(text.slice(0, 1024) || 'unknown')}) has prevented the request from succeeding`;
  }
  return `the server responded with the status code ${status} but did not return more information`;
}

/** Webhooks may answer with a metav1.Status of their own. */
function statusMessage(text: string): string | null {
  try {
    const value = JSON.parse(text) as { kind?: unknown; message?: unknown };
    return value.kind === 'Status' && typeof value.message === 'string' ? value.message : null;
  } catch {
    return null;
  }
}
