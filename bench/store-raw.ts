import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import { DatabaseSync } from 'node:sqlite';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { loadProto } from '#proto/load.ts';

/**
 * The floors that the stores are measured against: what the disk and SQLite give to a bare loop,
 * and what etcd gives to one HTTP/2 connection that sends ready-made bytes.
 */
export type Sample = { commits: number; seconds: number; latenciesMs: number[] };

type RawSettings = { directory: string; inFlight: number; durationMs: number; valueBytes: number };

/** One insert per commit, `inFlight` of them per transaction, in a worker, nothing else. */
export async function rawSqlite(settings: RawSettings): Promise<Sample> {
  const worker = new Worker(new URL(import.meta.url), { workerData: settings });
  const [sample] = await once(worker, 'message');
  return sample as Sample;
}

function insertLoop({ directory, inFlight, durationMs, valueBytes }: RawSettings): Sample {
  const db = new DatabaseSync(join(directory, 'raw.db'));
  db.exec('PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
  db.exec('PRAGMA wal_autocheckpoint = 4096');
  db.exec('CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, key TEXT, value BLOB)');
  const insert = db.prepare('INSERT INTO t (key, value) VALUES (?, ?)');
  const value = new Uint8Array(valueBytes).fill(7);
  const latenciesMs: number[] = [];
  const start = performance.now();
  let commits = 0;
  while (performance.now() - start < durationMs) {
    const began = performance.now();
    db.exec('BEGIN IMMEDIATE');
    for (let n = 0; n < inFlight; n++) insert.run(`/raw/${commits++}`, value);
    db.exec('COMMIT');
    latenciesMs.push(performance.now() - began);
  }
  const seconds = (performance.now() - start) / 1000;
  db.close();
  return { commits, seconds, latenciesMs };
}

/** Creates over one connection, `inFlight` at once, without gRPC library and without answers read. */
export async function rawEtcd(
  endpoint: string,
  { inFlight, durationMs, valueBytes }: Omit<RawSettings, 'directory'>,
): Promise<Sample> {
  const session = connect(endpoint);
  await once(session, 'connect');
  const value = new Uint8Array(valueBytes).fill(7);
  const run = `${Date.now()}`;
  const latenciesMs: number[] = [];
  const start = performance.now();
  let commits = 0;
  const writeOn = async (): Promise<void> => {
    while (performance.now() - start < durationMs) {
      const began = performance.now();
      await createRaw(session, `/raw/${run}/${commits++}`, value);
      latenciesMs.push(performance.now() - began);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, writeOn));
  const seconds = (performance.now() - start) / 1000;
  session.close();
  return { commits, seconds, latenciesMs };
}

const txn = loadProto('etcd.proto').lookupType('TxnRequest');

function createRaw(session: ClientHttp2Session, name: string, value: Uint8Array): Promise<void> {
  const key = Buffer.from(name);
  const message = txn
    .encode({
      compare: [{ target: 2, key, modRevision: 0 }],
      success: [{ requestPut: { key, value } }],
      failure: [{ requestRange: { key } }],
    })
    .finish();
  const frame = Buffer.alloc(5 + message.length);
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, 5);
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/etcdserverpb.KV/Txn',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    stream.on('trailers', (trailers) => {
      if (trailers['grpc-status'] !== '0') reject(new Error(String(trailers['grpc-message'])));
    });
    stream.on('error', reject);
    stream.on('end', resolve);
    stream.resume();
    stream.end(frame);
  });
}

if (!isMainThread) parentPort?.postMessage(insertLoop(workerData as RawSettings));
