import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node } from '#api/types.ts';
import { metricOf, routeChanges, wantedRoutes } from './node-routes.ts';
import { isNeighbour, overlayId } from './overlay.ts';

const node = (name: string, podCIDRs: string[], address?: string): Node => ({
  metadata: { name },
  spec: { podCIDRs },
  status: { addresses: address ? [{ type: 'InternalIP', address }] : [] },
});

test('every other node with a range and an address is a next hop', () => {
  const nodes = [
    node('own', ['10.244.0.0/24'], '192.0.2.10'),
    node('a', ['fd00::/64', '10.244.1.0/24'], '192.0.2.11'),
    node('without-address', ['10.244.2.0/24']),
    node('without-range', [], '192.0.2.13'),
    node('six', ['10.244.4.0/24'], 'fd00::4'),
  ];
  const own = ['10.244.0.0/24'];
  assert.deepEqual([...wantedRoutes(nodes, 'own', own)], [['10.244.1.0/24', '192.0.2.11']]);
  const both = wantedRoutes(nodes, 'own', [...own, 'fd00:0:0:9::/64']);
  // A node without an IPv6 address has its IPv6 range behind the other: the overlay carries it.
  assert.deepEqual(both.get('fd00::/64'), '192.0.2.11');
  const six = node('b', ['fd00:0:0:1::/64'], 'fd00:1::b');
  assert.equal(wantedRoutes([six], 'own', ['fd00:0:0:9::/64']).get('fd00:0:0:1::/64'), 'fd00:1::b');
});

test('only what differs is changed, and what is gone is removed first', () => {
  const current = new Map([
    ['10.244.1.0/24', { via: '192.0.2.11', device: 'eth0' }],
    ['10.244.2.0/24', { via: '192.0.2.12', device: 'eth0' }],
    ['10.244.3.0/24', { via: '192.0.2.13', device: 'eth0' }],
  ]);
  const wanted = new Map([
    ['10.244.1.0/24', { via: '192.0.2.11' }],
    ['10.244.2.0/24', { via: '192.0.2.99' }],
    ['10.244.4.0/24', { via: '10.244.4.0', device: 'gantryx' }],
  ]);
  assert.deepEqual(
    routeChanges(current, wanted, '7').map((args) => args.join(' ')),
    [
      'route delete 10.244.3.0/24 proto 117 metric 7',
      'route replace 10.244.2.0/24 via 192.0.2.99 proto 117 metric 7',
      'route replace 10.244.4.0/24 via 10.244.4.0 dev gantryx onlink proto 117 metric 7',
    ],
  );
  assert.deepEqual(routeChanges(wanted, wanted, '7'), []);
});

test('who is a neighbour', () => {
  const attached = [{ dst: 'default' }, { dst: '192.0.2.0/24' }, { dst: '198.51.100.7' }];
  assert.ok(isNeighbour('192.0.2.9', attached));
  assert.ok(isNeighbour('198.51.100.7', attached));
  assert.ok(!isNeighbour('198.51.100.8', attached));
  assert.equal(overlayId('10.244.0.0/16'), overlayId('10.244.0.0/16'));
  assert.notEqual(overlayId('10.244.0.0/16'), overlayId('10.245.0.0/16'));
});

test('two networks of one machine can be told apart', () => {
  assert.notEqual(metricOf('gantry'), metricOf('gantry-e2e'));
  assert.match(metricOf('gantry'), /^\d{7,10}$/);
});
