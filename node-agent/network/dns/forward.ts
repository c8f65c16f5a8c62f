import { randomInt } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { readFileSync, statSync } from 'node:fs';
import { connect, isIP } from 'node:net';
import type { Clock } from '#base/clock.ts';

/** A server that is silent for so long is passed over. */
const SERVER_TIMEOUT_MS = 2_000;
const MAX_SERVERS = 3;
/** More questions at once wait for nobody: a stub resolver asks again by itself. */
const MAX_IN_FLIGHT = 512;
const MAX_CACHED = 2_000;
/** Short, because answers are given again as they came, without counting their TTL down. */
const MAX_CACHE_MS = 10_000;
const RESOLV_CONF_CHECK_MS = 5_000;
const DNS_PORT = 53;

const RCODE = { noError: 0, nxDomain: 3 };

export type ForwarderOptions = {
  /** Path of a resolv.conf; read again when it changes. */
  resolvConf: string;
  /** Addresses that are ourselves, where a question would come back. */
  ownAddresses: readonly string[];
  clock: Clock;
  /** Default 53; for tests. */
  port?: number;
};

/** Passes questions on, as the bytes they are. */
export type Forwarder = {
  /**
   * The answer of the first upstream server that gives one, with the question's own id. Rejects
   * when none does, when none is configured, or when too many questions are waiting.
   */
  ask(query: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer>;
};

export function createForwarder(options: ForwarderOptions): Forwarder {
  const { clock, port = DNS_PORT } = options;
  const servers = serverList(options);
  const cache = new Map<string, { answer: Buffer; until: number }>();
  const waiting = new Map<string, Promise<Buffer>>();

  async function askServers(query: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer> {
    const known = servers();
    if (known.length === 0) throw new Error(`${options.resolvConf} names no usable nameserver`);
    let failure: unknown;
    for (const server of known) {
      try {
        const send = transport === 'udp' ? askByUdp : askByTcp;
        return await send(query, server, port);
      } catch (error) {
        failure = error;
      }
    }
    throw new Error(`no nameserver answers (${known.join(', ')})`, { cause: failure });
  }

  function remember(key: string, answer: Buffer): void {
    const ttlMs = cacheableMs(answer);
    if (ttlMs === 0) return;
    cache.delete(key);
    cache.set(key, { answer, until: clock.now() + ttlMs });
    const [oldest] = cache.keys();
    if (cache.size > MAX_CACHED && oldest !== undefined) cache.delete(oldest);
  }

  return {
    async ask(query, transport) {
      const key = `${transport} ${query.toString('latin1', 2)}`;
      const cached = cache.get(key);
      if (cached && cached.until > clock.now()) return withId(cached.answer, query);
      let pending = waiting.get(key);
      if (!pending) {
        if (waiting.size >= MAX_IN_FLIGHT) throw new Error('too many questions are waiting');
        pending = askServers(query, transport).finally(() => waiting.delete(key));
        waiting.set(key, pending);
      }
      const answer = await pending;
      remember(key, answer);
      return withId(answer, query);
    },
  };
}

/** The servers of a resolv.conf, in order. Source: resolv.conf(5). */
export function parseResolvConf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? '')
    .filter((address) => isIP(address.replace(/%.*$/, '')) !== 0)
    .slice(0, MAX_SERVERS);
}

function serverList({ resolvConf, ownAddresses, clock }: ForwarderOptions): () => string[] {
  let servers: string[] = [];
  let readAt = Number.NEGATIVE_INFINITY;
  let version = '';
  return () => {
    if (clock.now() - readAt < RESOLV_CONF_CHECK_MS) return servers;
    readAt = clock.now();
    try {
      const { mtimeMs, ino } = statSync(resolvConf);
      if (version === `${mtimeMs} ${ino}`) return servers;
      version = `${mtimeMs} ${ino}`;
      servers = parseResolvConf(readFileSync(resolvConf, 'utf8')).filter(
        (address) => !ownAddresses.includes(address),
      );
    } catch {
      // A machine without resolv.conf has no upstream; the cluster's own names work all the same.
      servers = [];
    }
    return servers;
  };
}

function withId(answer: Buffer, query: Buffer): Buffer {
  const copy = Buffer.from(answer);
  query.copy(copy, 0, 0, 2);
  return copy;
}

/** A question of our own: another id, from another port, each time, against forged answers. */
function askByUdp(query: Buffer, server: string, port: number): Promise<Buffer> {
  const own = Buffer.from(query);
  own.writeUInt16BE(randomInt(0x10000));
  return new Promise((resolve, reject) => {
    const socket: Socket = createSocket(server.includes(':') ? 'udp6' : 'udp4');
    const timer = setTimeout(() => finish(new Error('timed out')), SERVER_TIMEOUT_MS);
    const finish = (result: Error | Buffer): void => {
      clearTimeout(timer);
      socket.close();
      if (Buffer.isBuffer(result)) resolve(result);
      else reject(new Error(`${server}: ${result.message}`, { cause: result }));
    };
    socket.once('error', finish);
    socket.on('message', (message) => {
      if (message.length >= 12 && message.readUInt16BE() === own.readUInt16BE()) finish(message);
    });
    // Connected, the kernel drops what others send and reports a port that nobody serves.
    socket.connect(port, server, () => socket.send(own));
  });
}

function askByTcp(query: Buffer, server: string, port: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: server, timeout: SERVER_TIMEOUT_MS });
    let received = Buffer.alloc(0);
    const fail = (error: Error): void => {
      socket.destroy();
      reject(new Error(`${server}: ${error.message}`, { cause: error }));
    };
    socket.once('timeout', () => fail(new Error('timed out')));
    socket.once('error', fail);
    socket.once('close', () => reject(new Error(`${server}: closed without an answer`)));
    socket.once('connect', () => socket.write(framed(query)));
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE()) return;
      resolve(received.subarray(2, 2 + received.readUInt16BE()));
      socket.destroy();
    });
  });
}

/** A message as TCP carries it: its length first. Source: RFC 1035, 4.2.2. */
export function framed(message: Buffer): Buffer {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  return Buffer.concat([length, message]);
}

/** For how long an answer may be given again: the smallest TTL in it, bounded; 0 for never. */
export function cacheableMs(answer: Buffer): number {
  const flags = answer.readUInt16BE(2);
  const truncated = (flags & 0x0200) !== 0;
  const rcode = flags & 0xf;
  if (truncated || (rcode !== RCODE.noError && rcode !== RCODE.nxDomain)) return 0;
  let smallest = MAX_CACHE_MS;
  try {
    let at = 12;
    for (let i = 0; i < answer.readUInt16BE(4); i++) at = skipName(answer, at) + 4;
    const records = answer.readUInt16BE(6) + answer.readUInt16BE(8);
    for (let i = 0; i < records; i++) {
      at = skipName(answer, at);
      smallest = Math.min(smallest, answer.readUInt32BE(at + 4) * 1000);
      at += 10 + answer.readUInt16BE(at + 8);
    }
    return records === 0 ? 0 : smallest;
  } catch {
    // Too short for what it announces: passed on as it is, but not kept.
    return 0;
  }
}

function skipName(message: Buffer, start: number): number {
  let at = start;
  for (;;) {
    const length = message.readUInt8(at);
    if (length >= 0xc0) return at + 2;
    if (length === 0) return at + 1;
    at += length + 1;
  }
}
