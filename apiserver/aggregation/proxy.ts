import https from 'node:https';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { failure, type StatusError } from '#api/status.ts';
import { http } from '#base/http.ts';
import { errorText } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import type { Address, Missing } from '#apiserver/aggregation/remote-address.ts';
import { addressOf } from '#apiserver/aggregation/remote-address.ts';
import type { RemoteService } from '#apiserver/aggregation/remote-services.ts';
import type { ObjectReader } from '#apiserver/reader.ts';
import type { ServerRequest, ServerResponse } from '#apiserver/request.ts';
import { answerText } from '#apiserver/resource/answer.ts';
import type { UpgradedConnection } from '#apiserver/subresources/handler.ts';
import {
  answerOf,
  framed,
  HOP_HEADERS,
  joinConnections,
} from '#apiserver/subresources/node-connection.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** A server that takes longer to answer a dial is not there. */
const DIAL_TIMEOUT_MS = 10_000;
/** Connections kept open to all registered servers; the oldest pools go. */
const MAX_AGENTS = 64;

/** Who this server is towards registered servers; a function because certificates are renewed. */
export type FrontProxy = () => { certPem: string; keyPem: string };

export type RemoteProxy = {
  /** Asks a registered server on behalf of the user and streams its answer on. */
  forward(
    remote: RemoteService,
    request: Pick<ServerRequest, 'method' | 'url' | 'headers' | 'body' | 'signal'> &
      Partial<Pick<ServerRequest, 'remoteAddress'>>,
    user: UserInfo,
    options?: { unverified?: boolean },
  ): Promise<ServerResponse>;
  /** Hands an upgrading connection over. Throws StatusError while nothing is written. */
  pass(remote: RemoteService, user: UserInfo, connection: UpgradedConnection): Promise<void>;
};

/**
 * The way to the servers that APIServices name: over TLS as front proxy, with the user in headers.
 * Source: Kubernetes "Configure the Aggregation Layer".
 */
export function createRemoteProxy(options: {
  reader: ObjectReader;
  random: Random;
  frontProxy: FrontProxy;
}): RemoteProxy {
  const { reader, random, frontProxy } = options;
  const agents = new Map<string, https.Agent>();
  const agentFor = (tls: ConnectionOptions): https.Agent => {
    const key = JSON.stringify(tls);
    let agent = agents.get(key);
    if (agent) return agent;
    const [oldest] = agents.keys();
    if (agents.size >= MAX_AGENTS && oldest !== undefined) {
      agents.get(oldest)?.destroy();
      agents.delete(oldest);
    }
    agent = new https.Agent({ ...tls, keepAlive: true });
    agents.set(key, agent);
    return agent;
  };
  return {
    forward(remote, request, user, { unverified = false } = {}) {
      const address = addressOf(reader, random, remote);
      if (isMissing(address)) return Promise.resolve(unavailable());
      const tls = tlsOf(remote, frontProxy(), unverified);
      return new Promise((resolve, reject) => {
        const { method, url, signal, body } = request;
        const outgoing = https.request({
          ...address,
          path: url,
          method,
          headers: framed(headersFor(request.headers, user, request.remoteAddress), body),
          agent: agentFor(tls),
          servername: tls.servername,
          signal,
        });
        outgoing.once('error', (error) => {
          if (signal.aborted) reject(signal.reason as Error);
          else reject(unreachable(error));
        });
        outgoing.once('response', (response) => resolve(answerOf(response)));
        outgoing.end(body ?? undefined);
      });
    },
    async pass(remote, user, { request, socket, head }) {
      const address = addressOf(reader, random, remote);
      if (isMissing(address)) throw failure(503, 'ServiceUnavailable', 'service unavailable');
      const sent = headersFor(flat(request.headers), user, request.socket.remoteAddress);
      const lines = [
        `${request.method} ${request.url} HTTP/1.1`,
        `Host: ${address.host}:${address.port}`,
        'Connection: Upgrade',
        `Upgrade: ${request.headers.upgrade ?? ''}`,
      ];
      for (const [name, value] of Object.entries(sent)) {
        for (const one of Array.isArray(value) ? value : [value]) {
          http.validateHeaderValue(name, one);
          lines.push(`${name}: ${one}`);
        }
      }
      const backend = await dial(address, tlsOf(remote, frontProxy(), false));
      backend.write(`${lines.join('\r\n')}\r\n\r\n`);
      if (head.length > 0) backend.write(head);
      backend.setNoDelay(true);
      await joinConnections(socket, backend);
    },
  };
}

const isMissing = (address: Address | Missing): address is Missing => 'reason' in address;

/** Upstream's words for a registered server that is not there. */
export const unavailable = (): ServerResponse => answerText('service unavailable\n', 503);

const unreachable = (error: unknown): StatusError =>
  failure(503, 'ServiceUnavailable', `error trying to reach service: ${errorText(error)}`);

function tlsOf(
  { service, caPem, insecure }: RemoteService,
  { certPem, keyPem }: ReturnType<FrontProxy>,
  unverified: boolean,
): ConnectionOptions & { servername: string } {
  return {
    servername: `${service.name}.${service.namespace}.svc`,
    cert: certPem,
    key: keyPem,
    rejectUnauthorized: !(insecure || unverified),
    ALPNProtocols: ['http/1.1'],
    ...(caPem ? { ca: caPem } : {}),
  };
}

/** What only this server may say, and what is between the client and this server. */
const NOT_PASSED = /^(x-remote-|impersonate-|authorization$|host$|content-length$|:|upgrade$)/;

const flat = (headers: Readonly<Record<string, string | string[] | undefined>>) =>
  Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.join(', ') : value,
    ]),
  );

/** The client's headers with the user as the front proxy says it. */
export function headersFor(
  headers: ServerRequest['headers'],
  user: UserInfo,
  remoteAddress: string | undefined,
): Record<string, string | string[]> {
  const passed: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || NOT_PASSED.test(name) || HOP_HEADERS.has(name)) continue;
    if (name === 'sec-websocket-protocol') {
      const offered = value.split(',').map((one) => one.trim());
      const rest = offered.filter((one) => !one.startsWith('base64url.bearer.'));
      if (rest.length > 0) passed[name] = rest.join(', ');
    } else passed[name] = value;
  }
  if (remoteAddress) {
    const before = headers['x-forwarded-for'];
    passed['x-forwarded-for'] = before ? `${before}, ${remoteAddress}` : remoteAddress;
  }
  passed['x-remote-user'] = octets(user.name);
  if (user.uid) passed['x-remote-uid'] = octets(user.uid);
  if (user.groups.length > 0) passed['x-remote-group'] = user.groups.map(octets);
  for (const [key, values] of Object.entries(user.extra ?? {})) {
    passed[`x-remote-extra-${encodeURIComponent(key)}`] = values.map(octets);
  }
  return passed;
}

/** UTF-8, as header values are written octet by octet. */
const octets = (text: string): string => Buffer.from(text, 'utf8').toString('latin1');

function dial(address: Address, tls: ConnectionOptions): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({ ...tls, ...address });
    const timer = setTimeout(() => {
      socket.destroy(new Error(`no answer within ${DIAL_TIMEOUT_MS / 1000} s`));
    }, DIAL_TIMEOUT_MS);
    socket.once('error', (error) => {
      clearTimeout(timer);
      reject(unreachable(error));
    });
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      resolve(socket);
    });
  });
}
