import { execFile } from 'node:child_process';
import { Agent, request } from 'node:http';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';

export const MAX_CONCURRENCY = 64;
export const MAX_SECONDS = 600;
const TICK_MS = 2_000;
const REQUEST_TIMEOUT_MS = 10_000;
/** An error answers at once; without a pause, failing clients would only spin. */
const PAUSE_AFTER_ERROR_MS = 200;
const PRODUCTS = ['tea', 'bread', 'honey', 'cheese', 'apples'];

/** What happened since the last tick. */
export type LoadTick = {
  seconds: number;
  requestsPerSecond: number;
  errors: number;
  /** Milliseconds. */
  median: number;
  p99: number;
  /** Pods of the pricing service that answered. */
  pods: string[];
  lastError: string | undefined;
};

export type LoadOptions = {
  /** The shop's address, on this machine: load never goes anywhere else. */
  url: string;
  concurrency: number;
  seconds: number;
  signal?: AbortSignal;
  onTick: (tick: LoadTick) => void | Promise<void>;
};

/**
 * Asks the shop for prices, `concurrency` requests at a time, for `seconds`. Throws an Error when
 * a bound is passed or the address is not this machine's own.
 */
export async function runLoad(options: LoadOptions): Promise<{ requests: number; errors: number }> {
  const { url, concurrency, seconds, onTick } = options;
  checkBounds(options);
  const end = Date.now() + seconds * 1000;
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const total = { requests: 0, errors: 0 };
  let window = emptyWindow();
  const running = (): boolean => Date.now() < end && !options.signal?.aborted;

  async function client(number: number): Promise<void> {
    for (let turn = number; running(); turn++) {
      const start = performance.now();
      const id = PRODUCTS[turn % PRODUCTS.length];
      try {
        window.pods.add(await ask(agent, `${url}/api/price?id=${id}&quantity=${1 + (turn % 9)}`));
        window.times.push(performance.now() - start);
        total.requests += 1;
      } catch (error) {
        window.errors += 1;
        total.errors += 1;
        window.lastError = (error as Error).message;
        await pause(PAUSE_AFTER_ERROR_MS);
      }
    }
  }

  async function report(): Promise<void> {
    const start = Date.now();
    while (running()) {
      const since = Date.now();
      await pause(Math.min(TICK_MS, Math.max(1, end - since)));
      const done = window;
      window = emptyWindow();
      const elapsed = (Date.now() - since) / 1000;
      await onTick({ ...summary(done, elapsed), seconds: Math.round((Date.now() - start) / 1000) });
    }
  }

  await Promise.all([report(), ...Array.from({ length: concurrency }, (_, i) => client(i))]);
  agent.destroy();
  return total;
}

type Window = { times: number[]; errors: number; pods: Set<string>; lastError: string | undefined };

function emptyWindow(): Window {
  return { times: [], errors: 0, pods: new Set(), lastError: undefined };
}

function summary(window: Window, seconds: number): Omit<LoadTick, 'seconds'> {
  const sorted = window.times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? 0;
  return {
    requestsPerSecond: sorted.length / seconds,
    errors: window.errors,
    median: at(0.5),
    p99: at(0.99),
    pods: [...window.pods].sort(),
    lastError: window.lastError,
  };
}

function checkBounds({ url, concurrency, seconds }: LoadOptions): void {
  const inside = (value: number, max: number): boolean =>
    Number.isInteger(value) && value >= 1 && value <= max;
  if (!inside(concurrency, MAX_CONCURRENCY))
    throw new Error(`concurrency must be 1 to ${MAX_CONCURRENCY}, not ${concurrency}`);
  if (!inside(seconds, MAX_SECONDS))
    throw new Error(`seconds must be 1 to ${MAX_SECONDS}, not ${seconds}`);
  const { hostname } = new URL(url);
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  const address = hostname.replace(/^\[|\]$/g, '');
  if (hostname !== 'localhost' && !own.some((known) => known.address === address))
    throw new Error(`${hostname} is not this machine; the load program only drives its own`);
}

/** One price; resolves to the pricing pod that made it. */
function ask(agent: Agent, url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent, timeout: REQUEST_TIMEOUT_MS }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        if (response.statusCode !== 200) return reject(new Error(`${response.statusCode} ${text}`));
        resolve((JSON.parse(text) as { pods: { pricing: string } }).pods.pricing);
      });
      response.on('error', reject);
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error('no answer in time')));
    outgoing.on('error', reject);
    outgoing.end();
  });
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** One line of the table that a load run prints. */
export function tickLine(tick: LoadTick, replicas: string): string {
  const column = (value: string | number, width: number): string => `${value}`.padStart(width);
  const line =
    column(`${tick.seconds}s`, 5) +
    column(tick.requestsPerSecond.toFixed(0), 10) +
    column(tick.errors, 8) +
    column(tick.median.toFixed(0), 9) +
    column(tick.p99.toFixed(0), 8) +
    column(replicas, 10) +
    column(tick.pods.length, 10);
  return tick.lastError === undefined ? line : `${line}  ${tick.lastError.slice(0, 120)}`;
}

export const TICK_HEADER = ' time  requests/s  errors  median ms  p99 ms  replicas  answering';

/** Ready and wanted pods of the pricing Deployment, as `gantry get` tells. */
async function replicasNow(): Promise<string> {
  const gantry = join(import.meta.dirname, '../../gantry');
  const args = ['get', 'deployment', 'pricing', '--namespace', 'demo', '--output', 'json'];
  try {
    const { stdout } = await promisify(execFile)(gantry, args, { timeout: REQUEST_TIMEOUT_MS });
    const { spec, status } = JSON.parse(stdout) as {
      spec: { replicas?: number };
      status?: { readyReplicas?: number };
    };
    return `${status?.readyReplicas ?? 0}/${spec.replicas ?? 0}`;
  } catch {
    return '?';
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      url: { type: 'string', default: 'http://127.0.0.1:30080' },
      concurrency: { type: 'string', default: '12' },
      seconds: { type: 'string', default: '90' },
    },
  });
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const { url } = values;
  const numbers = { concurrency: Number(values.concurrency), seconds: Number(values.seconds) };
  console.log(`${numbers.concurrency} clients on ${url} for ${numbers.seconds} s`);
  console.log(TICK_HEADER);
  const onTick = async (tick: LoadTick): Promise<void> =>
    console.log(tickLine(tick, await replicasNow()));
  try {
    const total = await runLoad({ url, ...numbers, signal: stop.signal, onTick });
    console.log(`${total.requests} requests, ${total.errors} errors`);
    process.exitCode = total.requests > 0 && total.errors === 0 ? 0 : 1;
  } catch (error) {
    console.error(`load: ${(error as Error).message}`);
    process.exitCode = 2;
  }
}
