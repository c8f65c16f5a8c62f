import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { pipeline } from 'node:stream';
import { badRequestError, failure, internalError, type StatusError } from '#api/status.ts';
import type { Node, Pod } from '#api/types.ts';
import { errorText } from '#base/log.ts';
import type { ServerResponse } from '#apiserver/request.ts';
import type { HandlerContext, UpgradedConnection } from '#apiserver/subresources/handler.ts';

/** Where a node's agent listens. */
export type NodeAddress = { node: string; host: string; port: number };

const DEFAULT_PORT = 10_250;
/** An agent that takes longer to answer a dial is not there. */
export const DIAL_TIMEOUT_MS = 10_000;
/** What a connection may not carry on: it is ours, not the client's. */
const OWN_HEADERS = new Set(['host', 'authorization', 'origin', 'cookie', 'x-forwarded-for']);

/** Address of the agent of a pod's node. StatusError 400 when the pod runs nowhere. */
export function nodeOfPod(context: HandlerContext, pod: Pod): NodeAddress {
  const node = pod.spec.nodeName;
  if (!node) throw badRequestError(`pod ${pod.metadata.name} does not have a host assigned`);
  return nodeAddress(context, node);
}

/** Address of a node's agent, as the node's status says. StatusError when it does not say. */
export function nodeAddress(context: HandlerContext, node: string): NodeAddress {
  const object = context.reader.get<Node>('', 'nodes', { name: node });
  if (!object)
    throw failure(404, 'NotFound', `nodes "${node}" not found`, { name: node, kind: 'nodes' });
  const addresses = object.status?.addresses ?? [];
  for (const type of ['InternalIP', 'Hostname', 'ExternalIP']) {
    const host = addresses.find((one) => one.type === type)?.address;
    const port = object.status?.daemonEndpoints?.kubeletEndpoint?.Port ?? DEFAULT_PORT;
    if (host) return { node, host, port };
  }
  throw internalError(`no preferred addresses found for node ${JSON.stringify(node)}`);
}

/** Connections are kept per certificate, so that a renewed one is used at once. */
const agents = new WeakMap<HandlerContext['nodeClient'], { certPem: string; agent: https.Agent }>();

function agentFor(context: HandlerContext): https.Agent {
  const { caPem, certPem, keyPem } = context.nodeClient();
  const known = agents.get(context.nodeClient);
  if (known?.certPem === certPem) return known.agent;
  known?.agent.destroy();
  const agent = new https.Agent({ keepAlive: true, ca: caPem, cert: certPem, key: keyPem });
  agents.set(context.nodeClient, { certPem, agent });
  return agent;
}

/**
 * Asks a node's agent and streams its answer on. An agent that cannot be reached is StatusError
 * 500 that names the node; its own error statuses are answers.
 */
export function requestNode(
  context: HandlerContext,
  address: NodeAddress,
  options: {
    method?: string;
    path: string;
    headers?: Record<string, string>;
    body?: Uint8Array | null;
    signal: AbortSignal;
  },
): Promise<ServerResponse> {
  const { method = 'GET', path, headers = {}, body, signal } = options;
  return new Promise((resolve, reject) => {
    const { host, port } = address;
    const agent = agentFor(context);
    const sent = framed(headers, body);
    const ask = (): void => {
      const request = https.request({ host, port, path, method, headers: sent, agent, signal });
      request.once('error', (error) => {
        if (signal.aborted) reject(signal.reason as Error);
        // The other side closed a kept connection while the question was on its way: it was not
        // read. Each kept connection fails once, so this ends.
        else if (request.reusedSocket && IDEMPOTENT.has(method) && wasClosed(error)) ask();
        else reject(unreachable(address, path, error));
      });
      request.once('response', (response) => resolve(answerOf(response)));
      request.end(body ?? undefined);
    };
    ask();
  });
}

/** May be asked twice. Source: RFC 9110, 9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

const wasClosed = (error: NodeJS.ErrnoException): boolean =>
  error.code === 'ECONNRESET' || error.code === 'EPIPE';

/** Headers with the body's length: Node leaves it out where it expects no body (DELETE, OPTIONS). */
export const framed = <Headers extends Record<string, string | string[]>>(
  headers: Headers,
  body: Uint8Array | null | undefined,
): Headers =>
  body && body.length > 0 ? { ...headers, 'content-length': String(body.length) } : headers;

const unreachable = (address: NodeAddress, path: string, error: unknown): StatusError =>
  internalError(
    `error dialing backend: node ${address.node} at ${address.host}:${address.port}${pathOnly(path)}: ${errorText(error)}`,
  );

/** Without the query, which may hold a command's arguments. */
const pathOnly = (path: string): string => path.split('?')[0] ?? '';

export function answerOf(response: IncomingMessage): ServerResponse {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(response.headers)) {
    if (HOP_HEADERS.has(name) || value === undefined) continue;
    headers[name] = Array.isArray(value) ? value.join(', ') : value;
  }
  return { status: response.statusCode ?? 502, headers, body: response };
}

/** Headers of one connection only. Source: RFC 9110, 7.6.1. */
export const HOP_HEADERS: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/**
 * Hands an upgrading connection over to a node's agent: the client's request goes on with another
 * path, and from then on bytes flow both ways until both sides have ended.
 * Throws StatusError while nothing has been written to the client yet.
 */
export async function passToNode(
  context: HandlerContext,
  address: NodeAddress,
  path: string,
  connection: UpgradedConnection,
): Promise<void> {
  const backend = await dial(context, address, path);
  await handOver(backend, { path, host: `${address.host}:${address.port}` }, connection);
}

/** The client's upgrade request goes on to `backend` under another name; then bytes flow. */
export async function handOver(
  backend: Socket,
  { path, host }: { path: string; host: string },
  { request, socket, head }: UpgradedConnection,
): Promise<void> {
  const lines = [`${request.method} ${path} HTTP/1.1`, `Host: ${host}`];
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? '';
    if (OWN_HEADERS.has(name.toLowerCase()) || name.startsWith(':')) continue;
    const value = withoutToken(name, request.rawHeaders[i + 1] ?? '');
    if (value !== '') lines.push(`${name}: ${value}`);
  }
  backend.write(`${lines.join('\r\n')}\r\n\r\n`);
  if (head.length > 0) backend.write(head);
  backend.setNoDelay(true);
  await joinConnections(socket, backend);
}

/** A bearer token may come as a WebSocket subprotocol: it is for us alone. */
function withoutToken(name: string, value: string): string {
  if (name.toLowerCase() !== 'sec-websocket-protocol') return value;
  const offered = value.split(',').map((one) => one.trim());
  return offered.filter((one) => !one.startsWith('base64url.bearer.')).join(', ');
}

function dial(context: HandlerContext, address: NodeAddress, path: string): Promise<TLSSocket> {
  const { caPem, certPem, keyPem } = context.nodeClient();
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: address.host,
      port: address.port,
      ca: caPem,
      cert: certPem,
      key: keyPem,
      ALPNProtocols: ['http/1.1'],
    });
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no answer within ${DIAL_TIMEOUT_MS / 1000} s`));
    }, DIAL_TIMEOUT_MS);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(unreachable(address, path, error));
    });
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}

/**
 * Bytes both ways. A side that ends is passed on as an end, so that the other may finish; a side
 * that breaks off takes the other with it, which is how clients usually leave.
 */
export function joinConnections(
  client: UpgradedConnection['socket'],
  backend: Socket,
): Promise<void> {
  const flow = (from: NodeJS.ReadableStream, to: NodeJS.WritableStream): Promise<void> =>
    new Promise((resolve) => {
      pipeline(from, to, (error) => {
        if (error) {
          client.destroy();
          backend.destroy();
        }
        resolve();
      });
    });
  return Promise.all([flow(client, backend), flow(backend, client)]).then(() => {
    client.destroy();
    backend.destroy();
  });
}
