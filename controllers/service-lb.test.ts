import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { EndpointSlice, Node, Service } from '#api/types.ts';
import { nodes, services } from '#client/resources.ts';
import {
  type BalancerWorld,
  NODE_ADDRESS_CLASS,
  planBalancer,
  serviceLbController,
} from '#controllers/service-lb-controller.ts';
import { simulate } from '#controllers/simulation.ts';

const node = (name: string, address: string, extra: Partial<Node> = {}): Node => ({
  metadata: { name },
  status: {
    addresses: [{ type: 'InternalIP', address }],
    conditions: [{ type: 'Ready', status: 'True' }],
  },
  ...extra,
});

const a = node('a', '192.0.2.1');
const b = node('b', '192.0.2.2');

function balanced(
  spec: Partial<NonNullable<Service['spec']>> = {},
  ingress?: string[],
  name = 's',
): Service {
  return {
    metadata: { name, namespace: 'ns', uid: name, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { type: 'LoadBalancer', ports: [{ port: 80, protocol: 'TCP' }], ...spec },
    status: ingress ? { loadBalancer: { ingress: ingress.map((ip) => ({ ip })) } } : {},
  };
}

/** Addresses the plan gives; undefined when it changes nothing. */
function given(service: Service, world: Partial<BalancerWorld> = {}): string[] | undefined {
  const plan = planBalancer({
    service,
    nodes: [b, a],
    slices: [],
    services: [service],
    reserved: [],
    ...world,
  });
  const [action] = plan.actions.filter((one) => one.type === 'updateStatus');
  if (action?.type !== 'updateStatus') return undefined;
  const { status } = action.object as Service;
  return (status?.loadBalancer?.ingress ?? []).map(({ ip, ipMode }) => {
    assert.equal(ipMode, 'VIP');
    return ip ?? '';
  });
}

const both = ['192.0.2.1', '192.0.2.2'];

test('a balancer has the addresses of all ready nodes', () => {
  assert.deepEqual(given(balanced()), both);
  assert.equal(given(balanced({}, both)), undefined, 'nothing to change');
  assert.deepEqual(given(balanced({ loadBalancerClass: NODE_ADDRESS_CLASS })), both);
  const down = { status: { ...b.status, conditions: [{ type: 'Ready', status: 'Unknown' }] } };
  assert.deepEqual(given(balanced({}, both), { nodes: [a, node('b', '192.0.2.2', down)] }), [
    '192.0.2.1',
  ]);
  const gone = balanced({}, ['192.0.2.1', '192.0.2.3']);
  assert.deepEqual(given(gone), both, 'a node that is gone makes room');
  const labels = { 'node.kubernetes.io/exclude-from-external-load-balancers': '' };
  const excluded = node('b', '192.0.2.2', { metadata: { name: 'b', labels } });
  assert.deepEqual(given(balanced(), { nodes: [a, excluded] }), ['192.0.2.1']);
  const addresses = [
    { type: 'InternalIP', address: '10.0.0.1' },
    { type: 'ExternalIP', address: '203.0.113.1' },
  ];
  const outside = node('c', '', { status: { ...a.status, addresses } });
  assert.deepEqual(given(balanced(), { nodes: [outside] }), ['203.0.113.1']);
});

test('with the Local policy, of those that have an endpoint', () => {
  const local = balanced({ externalTrafficPolicy: 'Local' });
  const slices: EndpointSlice[] = [
    {
      metadata: {},
      addressType: 'IPv4',
      endpoints: [
        { addresses: ['10.244.0.2'], nodeName: 'b' },
        { addresses: ['10.244.0.3'], nodeName: 'a', conditions: { ready: false } },
      ],
    },
  ];
  assert.deepEqual(given(local, { slices }), ['192.0.2.2']);
});

test("what is another's is left alone", () => {
  assert.equal(given(balanced({ loadBalancerClass: 'example.com/lb' })), undefined);
  assert.equal(given(balanced({}, ['203.0.113.9'])), undefined);
  assert.equal(given(balanced({ type: 'NodePort' })), undefined);
  assert.deepEqual(given(balanced({ type: 'ClusterIP' }, both)), [], 'no balancer any more');
});

test('a port is for one: the cluster itself, then the older Service', () => {
  assert.equal(given(balanced(), { reserved: [80] }), undefined);
  assert.deepEqual(given(balanced({}, both), { reserved: [80] }), []);
  const older = balanced({}, both, 'a-first');
  const services = [older, balanced()];
  const plan = planBalancer({
    ...{ service: balanced(), nodes: [a], slices: [], services, reserved: [] },
  });
  assert.deepEqual(
    plan.actions.map((action) => (action.type === 'event' ? action.note.message : action.type)),
    ["port 80 of the nodes' addresses is that of ns/a-first"],
  );
  assert.equal(given(older, { services }), undefined);
  const udp = balanced({ ports: [{ port: 80, protocol: 'UDP' }] });
  assert.deepEqual(given(udp, { services: [older, udp], reserved: [80] }), both);
});

test('follows nodes that come, and the Service whose port becomes free', async () => {
  const world = simulate({ seed: 1, controllers: [serviceLbController], runPods: false });
  const ingressOf = (name: string): string[] => {
    const found = world.api.all(services).find(({ metadata }) => metadata.name === name);
    return (found?.status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip ?? '');
  };
  await world.api.create(nodes, a);
  const { metadata: _, ...rest } = balanced();
  await world.api.create(services, { ...rest, metadata: { name: 'one', namespace: 'ns' } });
  await world.until(() => ingressOf('one').join() === '192.0.2.1', 'an address');
  await world.api.create(nodes, b);
  await world.until(() => ingressOf('one').join() === both.join(), 'both addresses');
  await world.advance(2000);
  await world.api.create(services, { ...rest, metadata: { name: 'two', namespace: 'ns' } });
  await world.until(() => world.said.some((text) => text.includes('PortInUse')), 'a complaint');
  assert.deepEqual(ingressOf('two'), []);
  await world.api.delete(services, { namespace: 'ns', name: 'one' });
  await world.until(() => ingressOf('two').join() === both.join(), 'the free port');
  await world.stop();
});
