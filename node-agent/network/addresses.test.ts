import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  byFamily,
  cidrContains,
  formatAddress,
  gatewayOf,
  parseAddress,
  parseCidr,
} from './addresses.ts';
import { usedRanges } from './start.ts';

test('addresses come back as they are usually written', () => {
  const cases: [string, string][] = [
    ['10.244.0.1', '10.244.0.1'],
    ['fd00::1', 'fd00::1'],
    ['FD00:0:0:0:1:0:0:1', 'fd00::1:0:0:1'],
    ['::', '::'],
    ['::1', '::1'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8'],
    ['1:0:3:4:5:6:7::', '1:0:3:4:5:6:7:0'],
    ['1::', '1::'],
  ];
  for (const [text, expected] of cases) {
    const parsed = parseAddress(text);
    assert.ok(parsed, text);
    assert.equal(formatAddress(parsed), expected);
  }
});

test('what is no address is none', () => {
  for (const text of ['', '1.2.3', '1.2.3.256', '1.2.3.4.5', ':', '1::2::3', 'g::', '12345::'])
    assert.equal(parseAddress(text), undefined, text);
});

test('networks contain their addresses and no others', () => {
  const cidr = parseCidr('10.244.3.77/24');
  assert.equal(cidrContains(cidr, '10.244.3.0'), true);
  assert.equal(cidrContains(cidr, '10.244.3.255'), true);
  assert.equal(cidrContains(cidr, '10.244.4.0'), false);
  assert.equal(cidrContains(cidr, 'fd00::1'), false);
  assert.equal(cidrContains(parseCidr('fd00::/64'), 'fd00::ffff'), true);
  assert.equal(cidrContains(parseCidr('0.0.0.0/0'), '8.8.8.8'), true);
  assert.deepEqual(gatewayOf('10.244.3.0/24'), { address: '10.244.3.1', prefix: 24 });
  for (const text of ['10.0.0.0', '10.0.0.0/33', '10.0.0/8', 'x/8', '10.0.0.0/'])
    assert.throws(() => parseCidr(text), /is no network in CIDR form/);
});

test('ranges of a family that the cluster no longer has are left out', () => {
  const both = '10.244.1.0/24,fd00:1::/64';
  const used = (podCidr: string, clusterCidr: string) => usedRanges({ podCidr, clusterCidr });
  assert.deepEqual(used(both, '10.244.0.0/16,fd00::/48'), ['10.244.1.0/24', 'fd00:1::/64']);
  assert.deepEqual(used(both, '10.244.0.0/16'), ['10.244.1.0/24']);
  assert.throws(() => used('fd00:1::/64', '10.244.0.0/16'), /delete the Node object/);
  assert.deepEqual(byFamily('fd00::1,192.0.2.1'), { IPv6: 'fd00::1', IPv4: '192.0.2.1' });
  assert.throws(() => byFamily('10.0.0.0/8,10.1.0.0/16'), /two parts of IPv4/);
  assert.throws(() => byFamily('nonsense'), /is no IP address/);
});
