import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BenchConnection, requestBytes } from '#bench/apiserver-client.ts';
import { printTable, residentMib } from '#bench/machine.ts';

/**
 * How the API server on the embedded store starts and what memory it takes, empty and with many
 * pods. The server is the one of bench/apiserver.ts, in a process of its own.
 */

const TOKEN = 'bench-token';
const PODS = Number(process.argv[2] ?? 20_000);
const CONNECTIONS = 32;

type Server = { child: ChildProcess; port: number; readyMs: number };

/** From the start of the process until it is ready. */
function start(dataDir: string): Promise<Server> {
  const began = performance.now();
  const program = join(import.meta.dirname, 'apiserver.ts');
  const child = fork(program, ['gantry', dataDir], { execArgv: ['--no-warnings'] });
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    child.once('message', (message) => {
      const { port } = message as { port: number };
      resolve({ child, port, readyMs: performance.now() - began });
    });
  });
}

async function stop({ child }: Server): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.disconnect();
  await ended;
}

const rssMb = ({ child }: Server): number => residentMib(child.pid ?? 0);

const podBody = (name: string): string =>
  JSON.stringify({
    metadata: { name, labels: { app: 'bench' } },
    spec: {
      automountServiceAccountToken: false,
      containers: [
        {
          name: 'main',
          image: 'registry.example/bench:1',
          env: [{ name: 'MODE', value: 'bench' }],
          resources: { requests: { cpu: '100m', memory: '64Mi' } },
        },
      ],
    },
  });

async function fill({ port }: Server): Promise<number> {
  const home = '/api/v1/namespaces/default';
  const account = JSON.stringify({ metadata: { name: 'default' } });
  const began = performance.now();
  let n = 0;
  await Promise.all(
    Array.from({ length: CONNECTIONS }, async (_, worker) => {
      const connection = await BenchConnection.open(port);
      const post = async (path: string, body: string): Promise<void> => {
        const { status } = await connection.request(
          requestBytes('POST', `${home}/${path}`, { token: TOKEN, body }),
        );
        if (status !== 201) throw new Error(`create answered ${status}`);
      };
      if (worker === 0) await post('serviceaccounts', account);
      else while (n === 0) await new Promise((resolve) => setImmediate(resolve));
      while (n < PODS) await post('pods', podBody(`pod-${String(n++).padStart(6, '0')}`));
      connection.close();
    }),
  );
  return (performance.now() - began) / 1000;
}

const dataDir = mkdtempSync(join(tmpdir(), 'gantry-bench-scale-'));
try {
  const empty = await start(dataDir);
  const emptyRss = rssMb(empty);
  const seconds = await fill(empty);
  const filledRss = rssMb(empty);
  await stop(empty);
  const full = await start(dataDir);
  const fullRss = rssMb(full);
  await stop(full);
  printTable(
    `API server on the embedded store, empty and with ${PODS} pods`,
    ['what', 'value', 'unit'],
    [
      ['start to ready, empty', (empty.readyMs / 1000).toFixed(2), 's'],
      ['start to ready, full', (full.readyMs / 1000).toFixed(2), 's'],
      ['RSS, empty', emptyRss.toFixed(0), 'MB'],
      ['RSS, after creating them', filledRss.toFixed(0), 'MB'],
      ['RSS, after a start with them', fullRss.toFixed(0), 'MB'],
      ['creates on the way', (PODS / seconds).toFixed(0), '1/s'],
    ],
  );
} finally {
  rmSync(dataDir, { recursive: true, force: true });
}
