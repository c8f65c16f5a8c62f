import type * as models from '@kubernetes/client-node';
import * as https from 'node:https';
import * as net from 'node:net';
import * as grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import type { Clock } from '#base/clock.ts';
import { http } from '#base/http.ts';
import { errorText } from '#base/log.ts';
import type { Container, Plain } from '#api/types.ts';
import { isRuntimeError, type RuntimeService } from '#node-agent/runtime/service.ts';

export type HttpGet = Plain<models.V1HTTPGetAction>;

/** What a probe or a lifecycle hook does. */
export type Handler = {
  exec?: { command?: string[] };
  httpGet?: HttpGet;
  tcpSocket?: { host?: string; port: number | string };
  grpc?: { port: number; service?: string };
  sleep?: { seconds: number };
};

export type HandlerTarget = { containerId: string; container: Container; podIp: string };

/**
 * `output` tells a user why it failed. With `errored` it could not be found out: the runtime is away,
 * or the port has no such name. With `warning` it succeeded, though not quite as meant.
 */
export type Outcome = { ok: boolean; output: string; errored?: true; warning?: true };

/** Of an answer, this much is shown. */
const MAX_OUTPUT_BYTES = 10 * 1024;
/** Redirects followed, all on the same host. Source: kubelet's HTTP prober. */
const MAX_REDIRECTS = 10;
const USER_AGENT = 'kube-probe/1.36';

type Options = { timeoutMs: number; signal?: AbortSignal | undefined };

/** Runs handlers inside or against containers. Never throws for a failing handler. */
export function createHandlers({ runtime, clock }: { runtime: RuntimeService; clock: Clock }) {
  return async (handler: Handler, target: HandlerTarget, options: Options): Promise<Outcome> => {
    if (handler.exec) return runExec(runtime, handler.exec.command ?? [], target, options);
    if (handler.httpGet) return httpGet(handler.httpGet, target, options);
    if (handler.tcpSocket) {
      const { host, port } = handler.tcpSocket;
      const number = portOf(port, target.container);
      if (Number.isNaN(number)) return noPort(port);
      return tcpConnect(host || target.podIp, number, options);
    }
    if (handler.grpc) return grpcCheck(target.podIp, handler.grpc, options);
    if (handler.sleep) {
      await clock.sleep(handler.sleep.seconds * 1000, { signal: options.signal });
      return { ok: true, output: '' };
    }
    return { ok: true, output: '' };
  };
}

export type RunHandler = ReturnType<typeof createHandlers>;

/** A port by number or by the name the container gives it; NaN when there is none. */
export function portOf(port: number | string, container: Container): number {
  const number = Number(port);
  if (Number.isInteger(number)) return number;
  return container.ports?.find((p) => p.name === port)?.containerPort ?? Number.NaN;
}

async function runExec(
  runtime: RuntimeService,
  command: readonly string[],
  { containerId }: HandlerTarget,
  { timeoutMs, signal }: Options,
): Promise<Outcome> {
  try {
    const result = await runtime.execSync(containerId, command, timeoutMs, { signal });
    const text = Buffer.concat([result.stdout, result.stderr]).subarray(0, MAX_OUTPUT_BYTES);
    return { ok: result.exitCode === 0, output: text.toString() };
  } catch (error) {
    if (signal?.aborted) throw error;
    if (isRuntimeError(error, 'DeadlineExceeded')) {
      const seconds = timeoutMs / 1000;
      return {
        ok: false,
        output: `command timed out: "${command.join(' ')}" timed out after ${seconds}s`,
      };
    }
    return { ok: false, output: errorText(error), errored: true };
  }
}

/** System errors of connections, in the words that kubelet's users know. */
const CONNECT_ERRORS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connect: connection refused',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  ETIMEDOUT: 'i/o timeout',
};

const addressOf = (host: string, port: number): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;

/** What a user is told of a connection that failed. */
function connectionText(error: Error, host: string, port: number): string {
  if (/wrong version number/.test(error.message))
    return 'http: server gave HTTP response to HTTPS client';
  const words = CONNECT_ERRORS[(error as NodeJS.ErrnoException).code ?? ''];
  return words ? `dial tcp ${addressOf(host, port)}: ${words}` : error.message;
}

const noPort = (port: number | string): Outcome => ({
  ok: false,
  output: `couldn't find port: ${port}`,
  errored: true,
});

/** Redirects on the same host are followed; one that leads elsewhere is a success with a warning. */
async function httpGet(
  action: HttpGet,
  target: HandlerTarget,
  { timeoutMs, signal }: Options,
): Promise<Outcome> {
  const port = portOf(action.port, target.container);
  if (Number.isNaN(port)) return noPort(action.port);
  const tls = action.scheme?.toUpperCase() === 'HTTPS';
  const host = action.host || target.podIp;
  const path = action.path?.startsWith('/') ? action.path : `/${action.path ?? ''}`;
  const headers: Record<string, string> = { 'User-Agent': USER_AGENT, Accept: '*/*' };
  for (const { name, value } of action.httpHeaders ?? []) headers[name] = value;
  const deadline = AbortSignal.timeout(timeoutMs);
  const both = signal ? AbortSignal.any([deadline, signal]) : deadline;
  let url = new URL(`${tls ? 'https' : 'http'}://${addressOf(host, port)}${path}`);
  for (let redirects = 0; ; redirects++) {
    const answer = await httpAnswer(url, headers, both);
    if ('error' in answer) {
      const text = deadline.aborted
        ? TIMEOUT_TEXT
        : connectionText(answer.error, host, Number(url.port) || port);
      return { ok: false, output: `Get "${url.href}": ${text}` };
    }
    const { code, body, location } = answer;
    const ok = code >= 200 && code < 400;
    if (!ok) return { ok, output: `HTTP probe failed with statuscode: ${code}` };
    if (code < 300 || !location) return { ok, output: body };
    const next = new URL(location, url);
    if (next.hostname !== url.hostname)
      return { ok, output: `Probe terminated redirects, Response body: ${body}`, warning: true };
    if (redirects >= MAX_REDIRECTS)
      return { ok: false, output: `Get "${next.href}": stopped after ${MAX_REDIRECTS} redirects` };
    url = next;
  }
}

type HttpAnswer = { code: number; body: string; location: string | undefined } | { error: Error };

function httpAnswer(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  const tls = url.protocol === 'https:';
  return new Promise((resolve) => {
    const request = (tls ? https : http).request(
      url,
      { headers, agent: false, rejectUnauthorized: false, signal },
      (response) => {
        const code = response.statusCode ?? 0;
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          if (body.length < MAX_OUTPUT_BYTES) body += chunk;
        });
        const done = (): void => resolve({ code, body, location: response.headers.location });
        response.on('end', done);
        // An answer that breaks off has still told its code, unless time ran out.
        response.on('error', (error) => (signal.aborted ? resolve({ error }) : done()));
      },
    );
    request.on('error', (error) => resolve({ error }));
    request.end();
  });
}

const TIMEOUT_TEXT = 'context deadline exceeded (Client.Timeout exceeded while awaiting headers)';

function tcpConnect(host: string, port: number, { timeoutMs }: Options): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const end = (outcome: Outcome): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(timeoutMs, () =>
      end({ ok: false, output: `dial tcp ${addressOf(host, port)}: i/o timeout` }),
    );
    socket.on('connect', () => end({ ok: true, output: '' }));
    socket.on('error', (error) => end({ ok: false, output: connectionText(error, host, port) }));
  });
}

/** Source: gRPC Health Checking Protocol, grpc.health.v1.Health/Check; SERVING is 1. */
function grpcCheck(
  host: string,
  { port, service = '' }: { port: number; service?: string },
  { timeoutMs }: Options,
): Promise<Outcome> {
  const address = addressOf(host, port);
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
    'grpc.enable_retries': 0,
    'grpc.primary_user_agent': USER_AGENT,
  });
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      (name: string) =>
        Buffer.from(protobuf.Writer.create().uint32(SERVICE_TAG).string(name).finish()),
      // The answer's one field, `status`, is number 1, a varint; absent means 0, UNKNOWN.
      (bytes: Buffer) => (bytes[0] === 0x08 ? (bytes[1] ?? 0) : 0),
      service,
      { deadline: Date.now() + timeoutMs },
      (error, status) => {
        client.close();
        if (error) resolve({ ok: false, output: grpcText(error, address, timeoutMs) });
        else if (status === 1) resolve({ ok: true, output: 'service healthy' });
        else
          resolve({
            ok: false,
            output: `service unhealthy (responded with "${HEALTH[status ?? 0] ?? status}")`,
          });
      },
    );
  });
}

/** The request's one field, `service`: number 1, a text. */
const SERVICE_TAG = 0x0a;
const HEALTH = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];

function grpcText(
  { code, details }: grpc.ServiceError,
  address: string,
  timeoutMs: number,
): string {
  if (code === grpc.status.UNIMPLEMENTED)
    return `error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ${details}`;
  const time = `${timeoutMs / 1000}s`;
  if (code === grpc.status.UNAVAILABLE)
    return `timeout: failed to connect service "${address}" within ${time}: ${details}`;
  if (code === grpc.status.DEADLINE_EXCEEDED)
    return `timeout: health rpc did not complete within ${time}`;
  return `error: health rpc probe failed: ${details}`;
}
