import { connect } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { quantile } from '#bench/machine.ts';

/** A client that costs next to nothing, so that the server is what is measured. */

export type Answer = { status: number; bytes: number };

const HEAD_END = Buffer.from('\r\n\r\n');

/** One keep-alive HTTP/1.1 connection; one request at a time. */
export class BenchConnection {
  readonly #socket: TLSSocket;
  #chunks: Buffer[] = [];
  #have = 0;
  /** Whole length of the answer under way; 0 = its head is not complete. */
  #want = 0;
  #status = 0;
  #done: ((answer: Answer) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    const fail = (error?: Error): void => this.#failed?.(error ?? new Error('connection closed'));
    socket.on('error', fail);
    socket.on('close', () => fail());
  }

  static open(port: number): Promise<BenchConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect({
        port,
        host: '127.0.0.1',
        rejectUnauthorized: false,
        ALPNProtocols: ['http/1.1'],
      });
      socket.setNoDelay(true);
      socket.once('secureConnect', () => resolve(new BenchConnection(socket)));
      socket.once('error', reject);
    });
  }

  request(bytes: Buffer): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#done = resolve;
      this.#failed = reject;
      this.#socket.write(bytes);
    });
  }

  close(): void {
    this.#failed = undefined;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#have += chunk.length;
    if (this.#want === 0) {
      this.#chunks.push(chunk);
      const all = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
      const end = all.indexOf(HEAD_END);
      if (end < 0) return;
      const head = all.toString('latin1', 0, end);
      this.#status = Number(head.slice(9, 12));
      const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
      this.#want = end + HEAD_END.length + length;
      this.#chunks = [];
    }
    if (this.#have < this.#want) return;
    const answer = { status: this.#status, bytes: this.#want };
    this.#have = 0;
    this.#want = 0;
    this.#done?.(answer);
  }
}

/** The bytes of a request. */
export function requestBytes(
  method: string,
  path: string,
  { token = '', body }: { token?: string; body?: string } = {},
): Buffer {
  const head = [
    `${method} ${path} HTTP/1.1`,
    'host: localhost',
    ...(token ? [`authorization: Bearer ${token}`] : []),
    'accept: application/json',
    'user-agent: bench/1',
    ...(body === undefined
      ? []
      : ['content-type: application/json', `content-length: ${Buffer.byteLength(body)}`]),
  ];
  return Buffer.from(`${head.join('\r\n')}\r\n\r\n${body ?? ''}`);
}

/** `p50` and `p99` are milliseconds from a request to its whole answer. */
export type Rate = { perSecond: number; bytesPerSecond: number; p50: number; p99: number };

/** Sends requests over `connections` connections for about `ms`; all must be answered `status`. */
export async function load(
  port: number,
  next: () => Buffer,
  { connections, ms, status = 200 }: { connections: number; ms: number; status?: number },
): Promise<Rate> {
  const open = await Promise.all(
    Array.from({ length: connections }, () => BenchConnection.open(port)),
  );
  let count = 0;
  let bytes = 0;
  const latencies: number[] = [];
  const start = performance.now();
  const end = start + ms;
  await Promise.all(
    open.map(async (connection) => {
      for (let now = performance.now(); now < end; ) {
        const answer = await connection.request(next());
        const then = now;
        now = performance.now();
        latencies.push(now - then);
        if (answer.status !== status) throw new Error(`answered ${answer.status}, not ${status}`);
        count++;
        bytes += answer.bytes;
      }
    }),
  );
  const seconds = (performance.now() - start) / 1000;
  for (const connection of open) connection.close();
  return {
    perSecond: count / seconds,
    bytesPerSecond: bytes / seconds,
    p50: quantile(latencies, 0.5),
    p99: quantile(latencies, 0.99),
  };
}
