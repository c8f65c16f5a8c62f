import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cidrContains, formatAddress, gatewayOf, parseAddress, parseCidr } from './addresses.ts';

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
