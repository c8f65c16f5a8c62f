import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import { silentLog } from '#base/log.ts';
import type { Random } from '#base/random.ts';
import type { Handler } from '#apiserver/request.ts';
import type { ApiServerConfig } from '#apiserver/start.ts';
import { start } from '#apiserver/start.ts';
import type { UserInfo } from '#apiserver/user.ts';

/** The bearer token that makes a request the administrator's. */
export const ADMIN_TOKEN = 'admin-token';

export const ADMIN: UserInfo = {
  name: 'admin',
  groups: ['system:masters', 'system:authenticated'],
};

export type TestServer = {
  handle: Handler;
  /** `https://127.0.0.1:PORT`. */
  url: string;
  port: number;
  dataDir: string;
  /** Certificate authority of the server, PEM. */
  caPem: string;
  token: string;
  /** A request through the server's own door; the answer's body is parsed where it is JSON. */
  call(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<TestAnswer>;
  close(): Promise<void>;
};

export type TestAnswer = {
  code: number;
  headers: Record<string, string>;
  // Tests read answers of every shape.
  body: TestBody;
  text: string;
};

/** JSON that tests reach into without ceremony. */
export type TestBody = { [member: string]: TestBody } & TestBody[] & string & number;

export type TestServerOptions = Partial<ApiServerConfig> & {
  clock?: Clock;
  random?: Random;
  log?: Log;
  /** Keep what an earlier server left; `close` then leaves it there too. */
  dataDir?: string;
};

/** A whole API server on the embedded store, on a free port of the loopback interface, ready. */
export async function startTestServer(options: TestServerOptions = {}): Promise<TestServer> {
  const { clock, random, log = silentLog, dataDir: given, ...config } = options;
  const dataDir = given ?? mkdtempSync(join(tmpdir(), 'gantry-apiserver-'));
  const tokenAuthFile = join(dataDir, 'tokens.csv');
  writeFileSync(tokenAuthFile, `${ADMIN_TOKEN},admin,admin,"system:masters"\n`);
  const stop = new AbortController();
  const server = await start(
    { securePort: 0, bindAddress: '127.0.0.1', tokenAuthFile, ...config, dataDir },
    {
      signal: stop.signal,
      log,
      ...(clock ? { clock } : {}),
      ...(random ? { random } : {}),
    },
  );
  await server.ready;
  return {
    handle: server.handle,
    url: `https://127.0.0.1:${server.port}`,
    port: server.port,
    dataDir,
    caPem: server.pki.ca.certPem,
    token: ADMIN_TOKEN,
    call: (method, path, body, headers) => callHandler(server.handle, method, path, body, headers),
    async close() {
      stop.abort();
      await server.done;
      if (given === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

async function callHandler(
  handle: Handler,
  method: string,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<TestAnswer> {
  const bytes =
    body === undefined
      ? null
      : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body), 'utf8');
  const response = await handle({
    method,
    url: path,
    headers: { 'content-type': 'application/json', ...headers },
    body: bytes,
    signal: new AbortController().signal,
    user: ADMIN,
  });
  const chunks: Uint8Array[] = [];
  if (typeof response.body === 'string') chunks.push(Buffer.from(response.body));
  else if (response.body instanceof Uint8Array) chunks.push(response.body);
  else for await (const chunk of response.body) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString('utf8');
  return { code: response.status, headers: response.headers, text, body: parsed(text) as TestBody };
}

/** JSON, or the lines of a watch, or text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const lines = text.split('\n').filter((line) => line !== '');
    try {
      return lines.map((line) => JSON.parse(line) as unknown);
    } catch {
      return text;
    }
  }
}
