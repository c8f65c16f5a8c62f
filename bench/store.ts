import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import { openEtcdStore } from '#apiserver/store/etcd.ts';
import { findEtcd, startEtcd } from '#apiserver/store/etcd-testing.ts';
import type { Store } from '#apiserver/store/store.ts';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { figure, median, printTable, quantile } from '#bench/machine.ts';
import { rawEtcd, rawSqlite, type Sample } from '#bench/store-raw.ts';

/**
 * Durable creates per second and their latency, by writers in flight, beside the raw floor of the
 * same run. The floors get the same values and the same number of commits at once.
 */
const IN_FLIGHT = [1, 16, 64] as const;
const ROUNDS = 3;
const DURATION_MS = 1_000;
/** A pod as it is stored. */
const VALUE_BYTES = 2_500;

type Contender = { name: string; floor: string | null; run: (inFlight: number) => Promise<Sample> };

async function main(): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'gantry-bench-'));
  const embedded = await openEmbeddedStore(directory, { clock: systemClock, log: silentLog });
  const etcd = findEtcd() === undefined ? null : await startEtcd();
  const etcdStore =
    etcd &&
    (await openEtcdStore({ endpoints: [etcd.endpoint], clock: systemClock, log: silentLog }));
  const settings = { durationMs: DURATION_MS, valueBytes: VALUE_BYTES };
  const contenders: Contender[] = [
    {
      name: 'raw SQLite + fsync',
      floor: null,
      run: (inFlight) => rawSqlite({ ...settings, directory, inFlight }),
    },
    {
      name: 'embedded store',
      floor: 'raw SQLite + fsync',
      run: (inFlight) => createThrough(embedded, inFlight),
    },
  ];
  if (etcd && etcdStore) {
    contenders.push(
      {
        name: 'raw etcd, one connection',
        floor: null,
        run: (inFlight) => rawEtcd(etcd.endpoint, { ...settings, inFlight }),
      },
      {
        name: 'etcd store',
        floor: 'raw etcd, one connection',
        run: (inFlight) => createThrough(etcdStore, inFlight),
      },
    );
  } else console.log('etcd: skipped, it is not installed (package etcd-server)');
  try {
    await measure(contenders);
  } finally {
    await Promise.all([embedded.close(), etcdStore?.close()]);
    await etcd?.stop();
    await rm(directory, { recursive: true });
  }
}

let created = 0;

/** Each writer creates one key after the other. */
async function createThrough(store: Store, inFlight: number): Promise<Sample> {
  const value = new Uint8Array(VALUE_BYTES).fill(7);
  const latenciesMs: number[] = [];
  const start = performance.now();
  const writeOn = async (): Promise<void> => {
    while (performance.now() - start < DURATION_MS) {
      const began = performance.now();
      await store.commit({ key: `/bench/${created++}`, expect: 'absent', value });
      latenciesMs.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, writeOn));
  const seconds = (performance.now() - start) / 1000;
  return { commits: latenciesMs.length, seconds, latenciesMs };
}

const rateOf = ({ commits, seconds }: Sample): number => commits / seconds;

async function measure(contenders: readonly Contender[]): Promise<void> {
  const rows: string[][] = [];
  for (const inFlight of IN_FLIGHT) {
    const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
    // Side by side, so that a slow moment of the machine meets all of them.
    for (let round = 0; round < ROUNDS; round++) {
      for (const { name, run } of contenders) samples.get(name)?.push(await run(inFlight));
    }
    for (const { name, floor } of contenders) {
      rows.push([name, String(inFlight), ...figures(samples, name, floor)]);
    }
  }
  const headers = ['store', 'in flight', 'commits/s', 'of raw', 'p50 ms', 'p99 ms'];
  printTable('Durable creates (2,500 bytes each), median of 3 rounds', headers, rows);
}

function figures(samples: Map<string, Sample[]>, name: string, floor: string | null): string[] {
  const own = samples.get(name) ?? [];
  const rates = own.map(rateOf);
  const shares = (samples.get(floor ?? '') ?? []).map((raw, n) => (rates[n] ?? 0) / rateOf(raw));
  const latencies = own.flatMap((sample) => sample.latenciesMs);
  return [
    figure(median(rates)),
    floor === null ? '' : median(shares).toFixed(2),
    quantile(latencies, 0.5).toFixed(2),
    quantile(latencies, 0.99).toFixed(2),
  ];
}

await main();
