import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import {
  capabilityMask,
  configureRequest,
  decodeAttached,
  decodeReply,
  decodeStats,
  startRequest,
  updateRequest,
} from './messages.ts';

test('capabilities are bits by their place in the kernel, with or without prefix', () => {
  assert.equal(
    capabilityMask(['CHOWN', 'CAP_NET_ADMIN', 'bpf']),
    (1n << 0n) | (1n << 12n) | (1n << 39n),
  );
  assert.equal(capabilityMask(['CHECKPOINT_RESTORE']), 1n << 40n);
  assert.throws(() => capabilityMask(['FLY']), /no capability is named "FLY"/);
});

test('strings carry their NUL; what holds one cannot be sent', () => {
  assert.deepEqual([...startRequest('ab')], [3, 3, 0, 0, 0, 97, 98, 0]);
  assert.throws(() => startRequest('a\0b'), /NUL byte/);
});

test('CPU shares become a weight, limits that are absent are zero', () => {
  const weight = (cpuShares: number): bigint =>
    updateRequest('a', { cpuShares }).readBigUInt64LE(1 + 6);
  assert.deepEqual([2, 1024, 262144].map(weight), [1n, 39n, 10000n]);
  const request = updateRequest('a', { memoryBytes: 5 });
  const values = [0, 1, 2, 3, 4].map((n) => request.readBigUInt64LE(7 + 8 * n));
  assert.deepEqual(values, [0n, 0n, 0n, 5n, 0n]);
});

test('a network that is none is refused before the guest is asked', () => {
  const network = { hostname: 'a', mac: '02:00:00:00:00:01', mtu: 1500, routes: [], sysctls: {} };
  assert.throws(() => configureRequest({ ...network, addresses: ['nowhere/24'] }), /CIDR/);
  assert.throws(() => configureRequest({ ...network, mac: '02:00', addresses: [] }), /MAC/);
});

test('answers of a hostile guest decode to something or nothing', () => {
  const random = seededRandom(7);
  for (let round = 0; round < 500; round++) {
    const bytes = Buffer.from(
      Array.from({ length: randomInt(random, 70) }, () => randomInt(random, 256)),
    );
    const reply = decodeReply(bytes);
    assert.ok(reply === undefined || reply.data.length <= bytes.length);
    decodeAttached(bytes);
    decodeStats(bytes);
  }
  assert.equal(decodeReply(Buffer.from([0, 0, 0, 0, 255, 255, 255, 255])), undefined);
});
