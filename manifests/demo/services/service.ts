import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { hostname } from 'node:os';

/** What a handler gets of a request. */
export type Call = { url: URL; method: string; body: unknown };

/** Gives a JSON value to answer with, or a page, or a promise of one. Throws a `Refusal` for anything but 200. */
export type Handler = (call: Call) => unknown;

/** Answers a request with that status and message. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Text that is sent as HTML. */
export type Page = { html: string };

const MAX_BODY_BYTES = 64 * 1024;
/** Longer than the five seconds after which a resolver asks again. */
const CALL_TIMEOUT_MS = 8_000;
/** After SIGTERM, for the rest of the cluster to learn that this pod is leaving. */
const DRAIN_MS = Number(process.env.DRAIN_MS ?? 2_000);

/** The pod's name, as the cluster sets it. */
export const pod = process.env.POD_NAME ?? hostname();
export const version = process.env.APP_VERSION ?? 'dev';

/** A setting from the environment, or an end with a message that names it. */
export function setting(name: string): string {
  const value = process.env[name];
  if (value === undefined || value === '') {
    console.error(`${name} is not set; the Deployment's env says where it comes from`);
    process.exit(1);
  }
  return value;
}

/**
 * Serves `METHOD /path` handlers and /healthz on $PORT (8080). On SIGTERM it goes on answering for a
 * moment, so that no request is lost while it leaves its Service, and then ends with 0.
 */
export function serve(name: string, handlers: Readonly<Record<string, Handler>>): void {
  const port = Number(process.env.PORT ?? 8080);
  let leaving = false;
  const server = createServer((incoming, response) => {
    response.setHeader('x-served-by', pod);
    if (leaving) response.setHeader('connection', 'close');
    if (incoming.url === '/healthz') return send(response, 200, { ok: true, pod, version });
    handle(handlers, incoming).then(
      (result) => send(response, 200, result),
      (error: unknown) => {
        const status = error instanceof Refusal ? error.status : 500;
        if (!(error instanceof Refusal))
          console.error(`${incoming.method} ${incoming.url}:`, error);
        send(response, status, { error: (error as Error).message });
      },
    );
  });
  server.listen(port, () => console.log(`${name} ${version} listens on ${port} as ${pod}`));
  process.once('SIGTERM', () => {
    console.log('asked to stop; finishing what has begun');
    leaving = true;
    setTimeout(() => {
      server.close(() => process.exit(0));
      server.closeIdleConnections();
    }, DRAIN_MS);
  });
}

async function handle(
  handlers: Readonly<Record<string, Handler>>,
  incoming: IncomingMessage,
): Promise<unknown> {
  const url = new URL(incoming.url ?? '/', 'http://service');
  const method = incoming.method ?? 'GET';
  const handler = handlers[`${method} ${url.pathname}`];
  if (!handler) throw new Refusal(404, `there is no ${method} ${url.pathname}`);
  return await handler({ url, method, body: await readBody(incoming) });
}

async function readBody(incoming: IncomingMessage): Promise<unknown> {
  let text = '';
  for await (const chunk of incoming) {
    text += String(chunk);
    if (text.length > MAX_BODY_BYTES) throw new Refusal(413, 'the body is too large');
  }
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(400, 'the body is no JSON');
  }
}

function send(response: ServerResponse, status: number, result: unknown): void {
  if (isPage(result)) {
    response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' });
    response.end(result.html);
  } else {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(result));
  }
}

function isPage(result: unknown): result is Page {
  return typeof result === 'object' && result !== null && 'html' in result;
}

export type Reply<T> = { value: T; servedBy: string };

/**
 * Calls another service by its name in the cluster's DNS. Each call is a connection of its own:
 * Services spread connections, so a kept one would never see a pod that was added.
 */
export function call<T>(url: string, body?: unknown): Promise<Reply<T>> {
  return new Promise((resolve, reject) => {
    const fail = (why: string): void => reject(new Refusal(502, `${url}: ${why}`));
    const outgoing = request(
      url,
      { method: body === undefined ? 'GET' : 'POST', agent: false, timeout: CALL_TIMEOUT_MS },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => {
          if (response.statusCode !== 200) return fail(`${response.statusCode} ${text}`);
          const servedBy = String(response.headers['x-served-by'] ?? '');
          resolve({ value: JSON.parse(text) as T, servedBy });
        });
      },
    );
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', (error) => fail(error.message));
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
