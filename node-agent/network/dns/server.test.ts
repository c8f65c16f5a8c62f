import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import dnsPacket, { type DecodedPacket, type Packet, type Question } from 'dns-packet';
import { manualClock } from '#base/clock.ts';
import type { EndpointSlice, Service } from '#api/types.ts';
import { parseCidr } from '../addresses.ts';
import type { DnsView } from './answer.ts';
import { cacheableMs, createForwarder, framed, parseResolvConf } from './forward.ts';
import { startDnsServer } from './server.ts';

const many: EndpointSlice = {
  metadata: { name: 'many-1', namespace: 'ns' },
  addressType: 'IPv4',
  ports: [],
  endpoints: Array.from({ length: 100 }, (_, i) => ({ addresses: [`10.244.1.${i}`] })),
};
const services: Record<string, Service['spec']> = {
  many: { clusterIP: 'None' },
  one: { clusterIP: '10.96.0.9' },
  out: { type: 'ExternalName', externalName: 'outside.test' },
};
let complete = true;
const view: DnsView = {
  isComplete: () => complete,
  domain: 'cluster.local',
  ttlSeconds: 5,
  service: (namespace, name) =>
    services[name] && { metadata: { namespace, name }, spec: services[name] },
  slices: (_, name) => (name === 'many' ? [many] : []),
  hasNamespace: () => true,
  serviceByAddress: () => undefined,
  slicesByAddress: () => [],
  ownNetworks: [parseCidr('10.96.0.0/16')],
};

const dir = mkdtempSync(join(tmpdir(), 'gantry-dns-'));
const stop = new AbortController();
const clock = manualClock();
const upstream = createSocket('udp4');
const seen: string[] = [];
let port = 0;
let done: Promise<void>;

before(async () => {
  upstream.on('message', (message, from) => {
    const query = dnsPacket.decode(message);
    const name = query.questions?.[0]?.name ?? '';
    seen.push(name);
    const found = name === 'outside.test';
    const response: Packet = {
      type: 'response',
      id: query.id,
      flags: found ? 0 : 3,
      questions: query.questions,
      answers: found ? [{ type: 'A', name, ttl: 60, data: '192.0.2.1' }] : [],
    };
    upstream.send(dnsPacket.encode(response), from.port, from.address);
  });
  await new Promise<void>((listening) => upstream.bind(0, '127.0.0.1', listening));
  const resolvConf = join(dir, 'resolv.conf');
  writeFileSync(resolvConf, 'search x\nnameserver 10.96.0.10\nnameserver 127.0.0.1\n');
  const forwarder = createForwarder({
    resolvConf,
    ownAddresses: ['10.96.0.10'],
    clock,
    port: upstream.address().port,
  });
  const options = { view, forwarder, address: '127.0.0.1' };
  ({ port, done } = await startDnsServer(options, { signal: stop.signal }));
});

after(async () => {
  stop.abort();
  upstream.close();
  await done;
  rmSync(dir, { recursive: true, force: true });
});

function sendUdp(message: Buffer): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.once('message', (response) => {
      socket.close();
      resolve(response);
    });
    socket.send(message, port, '127.0.0.1');
  });
}

function sendTcp(messages: Buffer): Promise<Buffer> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(messages));
    let received = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 + received.readUInt16BE()) return;
      socket.destroy();
      resolve(received.subarray(2));
    });
  });
}

function query(name: string, extra: Packet = {}): Buffer {
  const question: Question = { type: 'A', name };
  const flags = dnsPacket.RECURSION_DESIRED;
  return dnsPacket.encode({ type: 'query', id: 77, flags, questions: [question], ...extra });
}

const ask = async (name: string): Promise<DecodedPacket> =>
  dnsPacket.decode(await sendUdp(query(name)));
const data = (packet: DecodedPacket): unknown[] =>
  (packet.answers ?? []).map((record) => ('data' in record ? record.data : ''));
const rcode = (packet: DecodedPacket): number => (packet.flags ?? 0) & 0xf;

test('an own name is answered, with authority and the id of the question', async () => {
  const packet = await ask('one.ns.svc.cluster.local');
  assert.deepEqual([packet.id, data(packet), rcode(packet)], [77, ['10.96.0.9'], 0]);
  assert.equal(packet.flag_aa, true);
  assert.equal(packet.flag_ra, true);
});

test('what does not fit a datagram is cut off, and comes whole over TCP and EDNS', async () => {
  const short = await ask('many.ns.svc.cluster.local');
  assert.deepEqual([short.flag_tc, data(short)], [true, []]);
  const tcp = dnsPacket.decode(await sendTcp(framed(query('many.ns.svc.cluster.local'))));
  assert.equal(data(tcp).length, 100);
  const edns = { name: '.', type: 'OPT', udpPayloadSize: 4096 } as const;
  const opt = { ...edns, extendedRcode: 0, ednsVersion: 0, flags: 0, flag_do: false, options: [] };
  const big = await sendUdp(query('one.ns.svc.cluster.local', { additionals: [opt] }));
  assert.equal(dnsPacket.decode(big).additionals?.[0]?.type, 'OPT');
});

test('other names are asked upstream, once while the answer holds', async () => {
  assert.deepEqual(data(await ask('outside.test')), ['192.0.2.1']);
  assert.deepEqual(data(await ask('outside.test')), ['192.0.2.1']);
  assert.equal(seen.filter((name) => name === 'outside.test').length, 1);
  await clock.advance(11_000);
  await ask('outside.test');
  assert.equal(seen.filter((name) => name === 'outside.test').length, 2);
  assert.equal(rcode(await ask('nowhere.test')), 3);
});

test('an external name comes with the addresses it leads to', async () => {
  assert.deepEqual(data(await ask('out.ns.svc.cluster.local')), ['outside.test', '192.0.2.1']);
});

test('nothing is denied before the cluster is known', async () => {
  complete = false;
  assert.equal(rcode(await ask('none.ns.svc.cluster.local')), 2);
  complete = true;
  assert.equal(rcode(await ask('none.ns.svc.cluster.local')), 3);
});

test('bad messages get an error or silence, never harm', async () => {
  const header = (flags: number, questions: number): Buffer => {
    const message = Buffer.alloc(12);
    message.writeUInt16BE(9);
    message.writeUInt16BE(flags, 2);
    message.writeUInt16BE(questions, 4);
    return message;
  };
  const cases: [Buffer, number][] = [
    [header(0, 1), 1],
    [header(0, 0), 1],
    [header(0x2800, 1), 4],
    [query('x.test', { questions: [{ type: 'A', name: 'x', class: 'CH' }] }), 5],
  ];
  for (const [message, expected] of cases)
    assert.equal((await sendUdp(message)).readUInt16BE(2) & 0xf, expected);
  // An answer gets no answer: the next question's reply is the first thing to come back.
  const silent = createSocket('udp4');
  silent.send(header(0x8000, 0), port, '127.0.0.1');
  silent.send(Buffer.from([1, 2]), port, '127.0.0.1');
  silent.send(query('one.ns.svc.cluster.local'), port, '127.0.0.1');
  const first = await new Promise<Buffer>((resolve) => silent.once('message', resolve));
  silent.close();
  assert.equal(first.readUInt16BE(), 77);
});

test('a server that is away is passed over with SERVFAIL', async () => {
  const resolvConf = join(dir, 'none.conf');
  const forwarder = createForwarder({ resolvConf, ownAddresses: [], clock });
  await assert.rejects(forwarder.ask(query('x.test'), 'udp'), /names no usable nameserver/);
});

test('resolv.conf: the first three addresses count', () => {
  const text = '# x\nnameserver 1.1.1.1\noptions a\n nameserver\tfe80::1%eth0\nnameserver bad\n';
  assert.deepEqual(parseResolvConf(text), ['1.1.1.1', 'fe80::1%eth0']);
  assert.equal(parseResolvConf('nameserver 1.1.1.1\n'.repeat(5)).length, 3);
});

test('only whole answers are kept, as long as their shortest record', () => {
  const response = (flags: number, ttl: number): Buffer =>
    dnsPacket.encode({
      type: 'response',
      flags,
      questions: [{ type: 'A', name: 'x.test' }],
      answers: [{ type: 'A', name: 'x.test', ttl, data: '1.2.3.4' }],
    });
  assert.equal(cacheableMs(response(0, 3)), 3_000);
  assert.equal(cacheableMs(response(0, 300)), 10_000);
  assert.equal(cacheableMs(response(2, 300)), 0);
  assert.equal(cacheableMs(response(dnsPacket.TRUNCATED_RESPONSE, 300)), 0);
  assert.equal(cacheableMs(response(0, 300).subarray(0, 30)), 0);
});
