import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Rate } from '#bench/apiserver-client.ts';
import { BenchConnection, load, requestBytes } from '#bench/apiserver-client.ts';
import { printTable, quantile } from '#bench/machine.ts';

/**
 * The API server over TLS beside a bare Node HTTPS server that answers the same bytes, each in a
 * process of its own, measured in turns. Figures are medians of the rounds.
 */

const TOKEN = 'bench-token';
const PODS = 2_000;
const ROUNDS = Number(process.argv[2] ?? 5);
const ROUND_MS = 2_000;
const CONNECTIONS = 16;
const WATCHERS = 100;
const WATCHED_WRITES = 200;

type Ready = { port: number };

async function serveGantry(dataDir: string): Promise<void> {
  const { start } = await import('#apiserver/start.ts');
  const { silentLog } = await import('#base/log.ts');
  const tokenAuthFile = join(dataDir, 'tokens.csv');
  writeFileSync(tokenAuthFile, `${TOKEN},bench,bench,"system:masters"\n`);
  const stop = new AbortController();
  const server = await start(
    { dataDir, securePort: 0, bindAddress: '127.0.0.1', tokenAuthFile },
    { signal: stop.signal, log: silentLog },
  );
  await server.ready;
  process.on('disconnect', () => stop.abort());
  process.send?.({ port: server.port } satisfies Ready);
  await server.done;
}

async function serveBare(dataDir: string): Promise<void> {
  const read = (name: string) => readFileSync(join(dataDir, name));
  const bodies = new Map([
    ['/pod', read('pod.json')],
    ['/list', read('list.json')],
  ]);
  const server = createServer(
    { key: read('pki/apiserver.key'), cert: read('pki/apiserver.crt') },
    (request, response) => {
      const body = bodies.get(request.url ?? '') ?? Buffer.alloc(0);
      response.writeHead(200, {
        'content-type': 'application/json',
        'content-length': String(body.length),
      });
      response.end(body);
    },
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  process.on('disconnect', () => process.exit(0));
  process.send?.({ port: (server.address() as AddressInfo).port } satisfies Ready);
}

function startChild(role: string, dataDir: string): Promise<{ child: ChildProcess; port: number }> {
  const child = fork(import.meta.filename, [role, dataDir], { execArgv: ['--no-warnings'] });
  return new Promise((resolve, reject) => {
    child.once('message', (message) => resolve({ child, port: (message as Ready).port }));
    child.once('exit', (code) => reject(new Error(`${role} ended with ${code}`)));
  });
}

function podBody(name: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: 'bench', tier: 'web' }, annotations: { note: 'load' } },
    spec: {
      serviceAccountName: 'default',
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'main',
          image: 'registry.example/bench:1',
          ports: [{ containerPort: 8080, name: 'http' }],
          env: [{ name: 'MODE', value: 'bench' }],
          resources: { requests: { cpu: '100m', memory: '64Mi' }, limits: { memory: '128Mi' } },
        },
      ],
    },
  });
}

const PODS_PATH = '/api/v1/namespaces/default/pods';

async function fill(port: number): Promise<void> {
  const account = JSON.stringify({ metadata: { name: 'default' } });
  const one = await BenchConnection.open(port);
  await one.request(
    requestBytes('POST', '/api/v1/namespaces/default/serviceaccounts', {
      token: TOKEN,
      body: account,
    }),
  );
  one.close();
  const workers = await Promise.all(
    Array.from({ length: CONNECTIONS }, () => BenchConnection.open(port)),
  );
  let n = 0;
  await Promise.all(
    workers.map(async (connection) => {
      while (n < PODS) {
        const body = podBody(`pod-${String(n++).padStart(5, '0')}`);
        const { status } = await connection.request(
          requestBytes('POST', PODS_PATH, { token: TOKEN, body }),
        );
        if (status !== 201) throw new Error(`create answered ${status}`);
      }
    }),
  );
  for (const connection of workers) connection.close();
}

/** Events delivered per second to many watchers of one collection. */
async function watchFanOut(port: number, round: number): Promise<number> {
  const { connect } = await import('node:tls');
  let delivered = 0;
  let resolve: () => void = () => {};
  const all = new Promise<void>((done) => (resolve = done));
  const wanted = WATCHERS * WATCHED_WRITES;
  const sockets = await Promise.all(
    Array.from({ length: WATCHERS }, async () => {
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false });
      const path = '/api/v1/namespaces/default/configmaps?watch=1&resourceVersion=0';
      socket.write(requestBytes('GET', path, { token: TOKEN }));
      await new Promise((done) => socket.once('data', done));
      socket.on('data', (chunk: Buffer) => {
        for (
          let at = chunk.indexOf(`"w-${round}-`);
          at >= 0;
          at = chunk.indexOf(`"w-${round}-`, at + 1)
        ) {
          delivered++;
        }
        if (delivered >= wanted) resolve();
      });
      return socket;
    }),
  );
  const writer = await Promise.all(Array.from({ length: 8 }, () => BenchConnection.open(port)));
  const start = performance.now();
  let n = 0;
  await Promise.all(
    writer.map(async (connection) => {
      while (n < WATCHED_WRITES) {
        const body = JSON.stringify({ metadata: { name: `w-${round}-${n++}` } });
        await connection.request(
          requestBytes('POST', '/api/v1/namespaces/default/configmaps', { token: TOKEN, body }),
        );
      }
    }),
  );
  await all;
  const seconds = (performance.now() - start) / 1000;
  for (const socket of sockets) socket.destroy();
  for (const connection of writer) connection.close();
  return wanted / seconds;
}

async function measure(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'gantry-bench-apiserver-'));
  const gantry = await startChild('gantry', dataDir);
  try {
    await fill(gantry.port);
    writeFileSync(join(dataDir, 'pod.json'), await body(gantry.port, `${PODS_PATH}/pod-00100`));
    writeFileSync(join(dataDir, 'list.json'), await body(gantry.port, PODS_PATH));
    const bare = await startChild('bare', dataDir);
    const columns = new Map<string, number[]>();
    const note = (name: string, value: number): void => {
      columns.set(name, [...(columns.get(name) ?? []), value]);
    };
    const noteRate = (
      name: string,
      rate: Rate,
      what: 'perSecond' | 'bytesPerSecond' = 'perSecond',
    ): void => {
      note(name, rate[what]);
      note(`${name} p50`, rate.p50);
      note(`${name} p99`, rate.p99);
    };
    const get = requestBytes('GET', `${PODS_PATH}/pod-00100`, { token: TOKEN });
    const list = requestBytes('GET', PODS_PATH, { token: TOKEN });
    const bareGet = requestBytes('GET', '/pod', { token: TOKEN });
    const bareList = requestBytes('GET', '/list', { token: TOKEN });
    const many = { connections: CONNECTIONS, ms: ROUND_MS };
    const few = { connections: 4, ms: ROUND_MS };
    let n = 0;
    for (let round = 0; round < ROUNDS; round++) {
      noteRate('bare get', await load(bare.port, () => bareGet, many));
      noteRate('get', await load(gantry.port, () => get, many));
      noteRate('bare list', await load(bare.port, () => bareList, few), 'bytesPerSecond');
      noteRate('list', await load(gantry.port, () => list, few), 'bytesPerSecond');
      note('watch', await watchFanOut(gantry.port, round));
      const create = (): Buffer =>
        requestBytes('POST', PODS_PATH.replace('default', 'kube-public'), {
          token: TOKEN,
          body: podBody(`new-${n++}`),
        });
      const account = requestBytes('POST', '/api/v1/namespaces/kube-public/serviceaccounts', {
        token: TOKEN,
        body: JSON.stringify({ metadata: { name: 'default' } }),
      });
      const one = await BenchConnection.open(gantry.port);
      await one.request(account);
      one.close();
      noteRate(
        'create',
        await load(gantry.port, create, { ...many, connections: 64, status: 201 }),
      );
    }
    report(columns);
    bare.child.disconnect();
  } finally {
    gantry.child.removeAllListeners('exit');
    gantry.child.disconnect();
    await new Promise((done) => gantry.child.once('exit', done));
    rmSync(dataDir, { recursive: true, force: true });
  }
}

async function body(port: number, path: string): Promise<Buffer> {
  const response = await new Promise<Buffer>((resolve, reject) => {
    import('node:https').then(({ get }) => {
      get(
        {
          port,
          host: '127.0.0.1',
          path,
          rejectUnauthorized: false,
          headers: { authorization: `Bearer ${TOKEN}` },
        },
        (incoming) => {
          const chunks: Buffer[] = [];
          incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
          incoming.on('end', () => resolve(Buffer.concat(chunks)));
        },
      ).on('error', reject);
    }, reject);
  });
  return response;
}

function report(columns: Map<string, number[]>): void {
  const median = (name: string): number => quantile(columns.get(name) ?? [], 0.5);
  const ratio = (ours: string, bare: string): string => (median(ours) / median(bare)).toFixed(2);
  const rate = (name: string, scale = 1): string =>
    (median(name) / scale).toFixed(scale === 1 ? 0 : 1);
  const times = (name: string): string[] =>
    ['p50', 'p99'].map((which) => median(`${name} ${which}`).toFixed(2));
  printTable(
    `API server on the embedded store over TLS, medians of ${ROUNDS} rounds`,
    ['what', 'ours', 'bare', 'ratio', 'unit', 'p50 ms', 'p99 ms'],
    [
      [
        'GET of a pod',
        rate('get'),
        rate('bare get'),
        ratio('get', 'bare get'),
        '1/s',
        ...times('get'),
      ],
      [
        'LIST of 2,000 pods',
        rate('list', 1e6),
        rate('bare list', 1e6),
        ratio('list', 'bare list'),
        'MB/s',
        ...times('list'),
      ],
      ['creates of a pod', rate('create'), '', '', '1/s', ...times('create')],
      [`events to ${WATCHERS} watchers`, rate('watch'), '', '', '1/s', '', ''],
    ],
  );
}

const [, , role, dir = ''] = process.argv;
if (role === 'gantry') await serveGantry(dir);
else if (role === 'bare') await serveBare(dir);
else await measure();
