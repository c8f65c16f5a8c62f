import type * as models from '@kubernetes/client-node';
import * as http from 'node:http';
import * as https from 'node:https';
import * as net from 'node:net';
import * as grpc from '@grpc/grpc-js';
import type { Clock } from '#base/clock.ts';
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

/** `output` tells a user why it failed. */
export type Outcome = { ok: boolean; output: string };

/** Of an answer, this much is shown. */
const MAX_OUTPUT_BYTES = 10 * 1024;
const USER_AGENT = 'kube-probe/1.36';

type Options = { timeoutMs: number; signal?: AbortSignal | undefined };

/** Runs handlers inside or against containers. Never throws for a failing handler. */
export function createHandlers({ runtime, clock }: { runtime: RuntimeService; clock: Clock }) {
  return async (handler: Handler, target: HandlerTarget, options: Options): Promise<Outcome> => {
    if (handler.exec) return runExec(runtime, handler.exec.command ?? [], target, options);
    if (handler.httpGet) return httpGet(handler.httpGet, target, options);
    if (handler.tcpSocket) {
      const { host, port } = handler.tcpSocket;
      return tcpConnect(host || target.podIp, portOf(port, target.container), options);
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
    return { ok: false, output: error instanceof Error ? error.message : String(error) };
  }
}

function httpGet(
  action: HttpGet,
  target: HandlerTarget,
  { timeoutMs, signal }: Options,
): Promise<Outcome> {
  const port = portOf(action.port, target.container);
  if (Number.isNaN(port))
    return Promise.resolve({ ok: false, output: `no port named "${action.port}"` });
  const tls = action.scheme?.toUpperCase() === 'HTTPS';
  const host = action.host || target.podIp;
  const path = action.path?.startsWith('/') ? action.path : `/${action.path ?? ''}`;
  const url = `${tls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}${path}`;
  const headers: Record<string, string | string[]> = { 'User-Agent': USER_AGENT, Accept: '*/*' };
  for (const { name, value } of action.httpHeaders ?? []) headers[name] = value;
  return new Promise((resolve) => {
    const deadline = AbortSignal.timeout(timeoutMs);
    const failed = (text: string): void => resolve({ ok: false, output: `Get "${url}": ${text}` });
    const request = (tls ? https : http).request(
      url,
      {
        headers,
        agent: false,
        rejectUnauthorized: false,
        signal: signal ? AbortSignal.any([deadline, signal]) : deadline,
      },
      (response) => {
        const code = response.statusCode ?? 0;
        let body = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          if (body.length < MAX_OUTPUT_BYTES) body += chunk;
        });
        const done = (): void =>
          resolve({
            ok: code >= 200 && code < 400,
            output: code >= 200 && code < 400 ? body : `HTTP probe failed with statuscode: ${code}`,
          });
        response.on('end', done);
        response.on('error', () => (deadline.aborted ? failed(TIMEOUT_TEXT) : done()));
      },
    );
    request.on('error', (error) => failed(deadline.aborted ? TIMEOUT_TEXT : error.message));
    request.end();
  });
}

const TIMEOUT_TEXT = 'context deadline exceeded (Client.Timeout exceeded while awaiting headers)';

function tcpConnect(host: string, port: number, { timeoutMs }: Options): Promise<Outcome> {
  if (Number.isNaN(port)) return Promise.resolve({ ok: false, output: 'no port of that name' });
  return new Promise((resolve) => {
    const socket = net.connect({ host, port });
    const end = (outcome: Outcome): void => {
      socket.destroy();
      resolve(outcome);
    };
    socket.setTimeout(timeoutMs, () =>
      end({ ok: false, output: `dial tcp ${host}:${port}: i/o timeout` }),
    );
    socket.on('connect', () => end({ ok: true, output: '' }));
    socket.on('error', (error) =>
      end({ ok: false, output: `dial tcp ${host}:${port}: ${error.message}` }),
    );
  });
}

/** Source: gRPC Health Checking Protocol, grpc.health.v1.Health/Check; SERVING is 1. */
function grpcCheck(
  host: string,
  { port, service = '' }: { port: number; service?: string },
  { timeoutMs }: Options,
): Promise<Outcome> {
  const address = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
    'grpc.enable_retries': 0,
    'grpc.primary_user_agent': USER_AGENT,
  });
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      '/grpc.health.v1.Health/Check',
      (name: string) =>
        Buffer.concat([Buffer.from([0x0a, Buffer.byteLength(name)]), Buffer.from(name)]),
      // The answer's one field, `status`, is number 1, a varint; absent means 0, UNKNOWN.
      (bytes: Buffer) => (bytes[0] === 0x08 ? (bytes[1] ?? 0) : 0),
      service,
      { deadline: Date.now() + timeoutMs },
      (error, status) => {
        client.close();
        if (error)
          resolve({
            ok: false,
            output:
              error.code === grpc.status.UNIMPLEMENTED
                ? `error: this server does not implement the grpc health protocol (grpc.health.v1.Health): ${error.details}`
                : `error: health rpc probe failed: ${error.details}`,
          });
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

const HEALTH = ['UNKNOWN', 'SERVING', 'NOT_SERVING', 'SERVICE_UNKNOWN'];
