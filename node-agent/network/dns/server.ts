import { createSocket, type Socket } from 'node:dgram';
import { type AddressInfo, createServer, type Server, type Socket as TcpSocket } from 'node:net';
import dnsPacket, { type Answer, type DecodedPacket, type Packet, type Question } from 'dns-packet';
import { errorText, type Log, silentLog } from '#base/log.ts';
import type { Running } from '#base/running.ts';
import { answer, type DnsView } from './answer.ts';
import { type Forwarder, framed } from './forward.ts';

/** Without EDNS, more does not fit a datagram. Source: RFC 1035, 4.2.1. */
const PLAIN_UDP_BYTES = 512;
/** What passes every network in one piece. Source: DNS flag day 2020. */
const MAX_UDP_BYTES = 1232;
const MAX_TCP_CONNECTIONS = 256;
const TCP_IDLE_MS = 10_000;
const MAX_TCP_MESSAGE = 4_096;
/** Tries to find a port that is free for both UDP and TCP. */
const PORT_TRIES = 10;

const RCODE = { noError: 0, formErr: 1, servFail: 2, nxDomain: 3, notImp: 4, refused: 5 } as const;
type Rcode = (typeof RCODE)[keyof typeof RCODE];

export type DnsServerOptions = {
  view: DnsView;
  forwarder: Forwarder;
  /** The address to listen on, not a wildcard: answers must come from it. */
  address: string;
  /** Default 0: any free port. */
  port?: number;
};

/** Answers DNS over UDP and TCP on one port. Rejects when it is taken. */
export async function startDnsServer(
  options: DnsServerOptions,
  { signal, log = silentLog }: { signal: AbortSignal; log?: Log },
): Promise<Running & { port: number }> {
  const { view, forwarder, address } = options;
  signal.throwIfAborted();
  const respond = createResponder(view, forwarder, log);
  const { udp, tcp, port } = await listen(address, options.port ?? 0);

  udp.on('message', (query, from) => {
    void respond(query, 'udp').then((response) => {
      if (response && !signal.aborted) udp.send(response, from.port, from.address, () => {});
    });
  });
  udp.on('error', (error) => log.warn('DNS socket failed', { error: errorText(error) }));
  const connections = new Set<TcpSocket>();
  tcp.maxConnections = MAX_TCP_CONNECTIONS;
  tcp.on('connection', (socket) => {
    connections.add(socket);
    socket.once('close', () => connections.delete(socket));
    serveConnection(socket, respond);
  });
  const done = new Promise<void>((resolve) => {
    const close = (): void => {
      udp.close();
      for (const socket of connections) socket.destroy();
      tcp.close(() => resolve());
    };
    signal.addEventListener('abort', close, { once: true });
  });
  return { port, done };
}

async function listen(
  address: string,
  wanted: number,
): Promise<{ udp: Socket; tcp: Server; port: number }> {
  for (let tries = 1; ; tries++) {
    const tcp = createServer();
    await new Promise<void>((resolve, reject) => {
      tcp.once('error', (cause) => reject(new Error(`cannot serve DNS on ${address}`, { cause })));
      tcp.listen(wanted, address, resolve);
    });
    const { port } = tcp.address() as AddressInfo;
    const udp = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', reuseAddr: false });
    try {
      await new Promise<void>((resolve, reject) => {
        udp.once('error', reject);
        udp.bind(port, address, resolve);
      });
      udp.removeAllListeners('error');
      return { udp, tcp, port };
    } catch (cause) {
      tcp.close();
      if (wanted !== 0 || tries === PORT_TRIES)
        throw new Error(`cannot serve DNS on ${address}:${port}`, { cause });
    }
  }
}

type Responder = (query: Buffer, transport: 'udp' | 'tcp') => Promise<Buffer | undefined>;

function serveConnection(socket: TcpSocket, respond: Responder): void {
  let received = Buffer.alloc(0);
  socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 2) {
      const length = received.readUInt16BE();
      if (length > MAX_TCP_MESSAGE) return void socket.destroy();
      if (received.length < 2 + length) return;
      const query = Buffer.from(received.subarray(2, 2 + length));
      received = received.subarray(2 + length);
      void respond(query, 'tcp').then((response) => {
        if (response && socket.writable) socket.write(framed(response));
      });
    }
  });
}

/** Never rejects: what goes wrong becomes SERVFAIL; what is no query becomes nothing. */
export function createResponder(view: DnsView, forwarder: Forwarder, log: Log): Responder {
  return async (message, transport) => {
    const query = decodeQuery(message);
    if (query === 'ignore') return undefined;
    if (typeof query === 'number') return failure(message, query);
    try {
      return await respondTo(query, message, transport);
    } catch (error) {
      log.debug('cannot answer', { name: query.question.name, error: errorText(error) });
      return failure(message, RCODE.servFail);
    }
  };

  async function respondTo(
    query: Query,
    message: Buffer,
    transport: 'udp' | 'tcp',
  ): Promise<Buffer> {
    const result = answer(query.question, view);
    if (result.type !== 'forward' && !view.isComplete())
      throw new Error('the cluster is not known yet');
    const limit = transport === 'udp' ? query.maxBytes : 0xffff;
    switch (result.type) {
      case 'forward':
        return forwarder.ask(message, transport);
      case 'nxdomain':
        return encode(query, { rcode: RCODE.nxDomain, authorities: result.authorities }, limit);
      case 'found':
        return encode(query, { rcode: RCODE.noError, ...result }, limit);
      case 'alias': {
        const outside = await askFor(result.target, query);
        const answers = [...result.answers, ...(outside.answers ?? [])];
        return encode(query, { rcode: RCODE.noError, answers }, limit);
      }
    }
  }

  /** By TCP, so that nothing is cut off; the records of an alias are usually few. */
  async function askFor(name: string, { question }: Query): Promise<DecodedPacket> {
    const flags = dnsPacket.RECURSION_DESIRED;
    const packet: Packet = { type: 'query', id: 1, flags, questions: [{ ...question, name }] };
    const response = dnsPacket.decode(await forwarder.ask(dnsPacket.encode(packet), 'udp'));
    if (!response.flag_tc) return response;
    return dnsPacket.decode(await forwarder.ask(dnsPacket.encode(packet), 'tcp'));
  }
}

type Query = { id: number; question: Question; flags: number; edns: boolean; maxBytes: number };

function decodeQuery(message: Buffer): Query | Rcode | 'ignore' {
  // Answering an answer, or half a header, would invite loops.
  if (message.length < 12 || (message.readUInt16BE(2) & 0x8000) !== 0) return 'ignore';
  if (((message.readUInt16BE(2) >> 11) & 0xf) !== 0) return RCODE.notImp;
  let packet: DecodedPacket;
  try {
    packet = dnsPacket.decode(message);
  } catch {
    return RCODE.formErr;
  }
  const [question, ...more] = packet.questions ?? [];
  if (!question || more.length > 0) return RCODE.formErr;
  if ((question.class ?? 'IN') !== 'IN') return RCODE.refused;
  const edns = packet.additionals?.find((record) => record.type === 'OPT');
  const offered = edns?.type === 'OPT' ? edns.udpPayloadSize : PLAIN_UDP_BYTES;
  const maxBytes = Math.min(Math.max(offered, PLAIN_UDP_BYTES), MAX_UDP_BYTES);
  const { id = 0, flags = 0 } = packet;
  return { id, question, flags, edns: edns !== undefined, maxBytes };
}

type Content = {
  rcode: Rcode;
  answers?: Answer[];
  additionals?: Answer[];
  authorities?: Answer[];
};

/** What does not fit is left out, with the mark that makes the client ask again over TCP. */
function encode(query: Query, content: Content, maxBytes: number): Buffer {
  const { rcode, answers = [], additionals = [], authorities = [] } = content;
  const base =
    dnsPacket.AUTHORITATIVE_ANSWER |
    dnsPacket.RECURSION_AVAILABLE |
    (query.flags & dnsPacket.RECURSION_DESIRED) |
    rcode;
  const packet = (flags: number, records: Omit<Packet, 'type'>): Packet => ({
    type: 'response',
    id: query.id,
    flags,
    questions: [query.question],
    ...records,
    additionals: [...(records.additionals ?? []), ...(query.edns ? [ednsRecord()] : [])],
  });
  const full = dnsPacket.encode(packet(base, { answers, additionals, authorities }));
  if (full.length <= maxBytes) return full;
  return dnsPacket.encode(packet(base | dnsPacket.TRUNCATED_RESPONSE, {}));
}

function ednsRecord(): Answer {
  return {
    type: 'OPT',
    name: '.',
    udpPayloadSize: MAX_UDP_BYTES,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
}

/** The query's header with an error code, and nothing else. */
function failure(message: Buffer, rcode: Rcode): Buffer {
  const header = Buffer.alloc(12);
  message.copy(header, 0, 0, 4);
  const asked = message.readUInt16BE(2) & 0x7900;
  header.writeUInt16BE(0x8000 | asked | 0x0080 | rcode, 2);
  return header;
}
