import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { silentLog } from '#base/log.ts';
import type { EndpointSlice, Service } from '#api/types.ts';
import { findProgram } from '#node-agent/runtime/containerd-config.ts';
import {
  BRIDGE,
  createTestbed,
  NODE_ADDRESS,
  OUTSIDE_ADDRESS,
  type Testbed,
  testbedMissing,
} from './netns-testbed.ts';
import { forgetFlows, staleFlows } from './conntrack.ts';
import { createNftWriter, type NftWriter } from './nft-writer.ts';
import { serviceRules, type ServiceRulesInput } from './service-rules.ts';
import { type NodeFacts, tableSkeleton } from './service-table.ts';

const skip = testbedMissing();

const node: NodeFacts = {
  nodeName: 'n1',
  zone: '',
  family: 'IPv4',
  clusterCidr: '10.244.0.0/16',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  bridge: BRIDGE,
  dns: { clusterIp: '10.96.0.10', address: '10.244.0.1', port: 8053 },
};

const PODS = { a: '10.244.0.2', b: '10.244.0.3' } as const;

function service(name: string, clusterIP: string, spec: Service['spec'] = {}): Service {
  return {
    metadata: { name, namespace: 'ns' },
    spec: { type: 'ClusterIP', clusterIP, ports: [{ port: 80, protocol: 'TCP' }], ...spec },
  };
}

function slice(name: string, addresses: readonly string[], nodeName = 'n1'): EndpointSlice {
  return {
    metadata: { name, namespace: 'ns', labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080, protocol: 'TCP' }],
    endpoints: addresses.map((address) => ({
      addresses: [address],
      conditions: { ready: true },
      nodeName,
    })),
  };
}

const both = [PODS.a, PODS.b];
const nodePort = (port: number): Service['spec'] => ({
  type: 'NodePort',
  ports: [{ port: 80, protocol: 'TCP', nodePort: port }],
});

const input: ServiceRulesInput = {
  node,
  services: [
    service('two', '10.96.0.1'),
    service('self', '10.96.0.2'),
    service('none', '10.96.0.3', nodePort(30003)),
    service('sticky', '10.96.0.4', { sessionAffinity: 'ClientIP' }),
    service('open', '10.96.0.5', {
      ...nodePort(30005),
      externalIPs: ['192.0.2.99'],
    }),
    service('near', '10.96.0.6', { ...nodePort(30006), externalTrafficPolicy: 'Local' }),
    service('far', '10.96.0.7', {
      ...nodePort(30007),
      externalTrafficPolicy: 'Local',
      internalTrafficPolicy: 'Local',
    }),
    service('headless', 'None'),
  ],
  slices: [
    slice('two', both),
    slice('self', [PODS.a]),
    slice('sticky', both),
    slice('open', both),
    slice('near', [PODS.b]),
    slice('far', [PODS.b], 'n2'),
    slice('headless', both),
  ],
  hostPorts: [
    { protocol: 'TCP', port: 4000, hostIp: '', target: { address: PODS.a, port: 8080 } },
    { protocol: 'TCP', port: 4001, hostIp: '127.0.0.1', target: { address: PODS.b, port: 8080 } },
  ],
};

let bed: Testbed;
let writer: NftWriter;

/** What the server says, or why there is no answer. */
function ask(from: string, address: string, port = 80): string {
  try {
    return bed.run(from, `timeout 0.3 busybox nc ${address} ${port} </dev/null`).trim();
  } catch (error) {
    const { status, stderr } = error as { status: number; stderr: string };
    return /refused/.test(stderr) ? 'refused' : status === 124 ? 'no answer' : stderr.trim();
  }
}

const names = (answers: readonly string[]): Set<string> =>
  new Set(answers.map((answer) => answer.split(' ')[0] ?? ''));

function times<T>(count: number, ask: () => T): T[] {
  return Array.from({ length: count }, ask);
}

before(async () => {
  if (skip) return;
  bed = createTestbed();
  bed.addPod('a', PODS.a);
  bed.addPod('b', PODS.b);
  await Promise.all([bed.serve('a', 'a', 8080), bed.serve('b', 'b', 8080)]);
  const table = { family: 'ip', name: 'gantry-test' } as const;
  writer = createNftWriter({ table, skeleton: tableSkeleton(node), command: bed.nft });
  await writer.apply(serviceRules(input));
});

after(() => {
  if (!skip) bed?.close();
});

test('a cluster address reaches every endpoint, from pods and from the node', { skip }, () => {
  assert.deepEqual(names(times(12, () => ask('a', '10.96.0.1'))), new Set(['a', 'b']));
  assert.deepEqual(names(times(12, () => ask('node', '10.96.0.1'))), new Set(['a', 'b']));
  assert.deepEqual(names(times(12, () => ask('outside', '10.96.0.1'))), new Set(['a', 'b']));
});

test('pods see each other without translation; a pod reaches itself (hairpin)', { skip }, () => {
  assert.match(ask('b', '10.96.0.2'), /^a (::ffff:)?10\.244\.0\.3$/);
  assert.match(ask('a', '10.96.0.2'), /^a (::ffff:)?10\.244\.0\.1$/);
});

test('without endpoints the connection is refused, and so is an unknown address', { skip }, () => {
  for (const from of ['a', 'node', 'outside']) {
    assert.equal(ask(from, '10.96.0.3'), 'refused', `from ${from}`);
    assert.equal(ask(from, '10.96.77.77'), 'refused', `from ${from}`);
  }
  assert.equal(ask('outside', NODE_ADDRESS, 30003), 'refused');
});

test('session affinity keeps a client on one endpoint', { skip }, () => {
  for (const from of ['a', 'b', 'node'])
    assert.equal(names(times(8, () => ask(from, '10.96.0.4'))).size, 1, `from ${from}`);
});

test('a node port answers outside, on the node, on loopback and to pods', { skip }, () => {
  const cases = [
    ['outside', NODE_ADDRESS],
    ['node', NODE_ADDRESS],
    ['node', '127.0.0.1'],
    ['a', NODE_ADDRESS],
    ['a', '10.244.0.1'],
  ] as const;
  for (const [from, address] of cases)
    assert.match(ask(from, address, 30005), /^[ab] /, `${from} to ${address}`);
  assert.match(ask('outside', NODE_ADDRESS, 30005), /10\.244\.0\.1$/, 'by way of the node');
  bed.run('outside', `ip route add 192.0.2.99/32 via ${NODE_ADDRESS}`);
  assert.match(ask('outside', '192.0.2.99'), /^[ab] /);
});

test('the Local policy keeps the client address, and drops where nothing is local', {
  skip,
}, () => {
  assert.equal(ask('outside', NODE_ADDRESS, 30006), `b ${OUTSIDE_ADDRESS}`);
  assert.match(ask('node', NODE_ADDRESS, 30006), /^b /);
  assert.equal(ask('outside', NODE_ADDRESS, 30007), 'no answer');
  assert.equal(ask('a', '10.96.0.7'), 'no answer');
  assert.match(ask('a', NODE_ADDRESS, 30007), /^b /, 'inside the cluster any endpoint will do');
});

test('host ports', { skip }, () => {
  assert.match(ask('outside', NODE_ADDRESS, 4000), /^a 192\.0\.2\.20$/);
  assert.match(ask('node', '127.0.0.1', 4000), /^a /);
  assert.match(ask('a', NODE_ADDRESS, 4000), /^a /, 'hairpin');
  assert.match(ask('node', '127.0.0.1', 4001), /^b /);
  assert.equal(ask('outside', NODE_ADDRESS, 4001), 'refused');
});

test('pods cannot reach the loopback services of the node', { skip }, async () => {
  await bed.serve('node', 'secret', 5000);
  assert.match(ask('node', '127.0.0.1', 5000), /^secret /);
  // What a pod with the right to do so could try: sending the node packets for its loopback.
  bed.run(
    'a',
    'echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet; ip route del local 127.0.0.0/8 dev lo;' +
      'ip route del local 127.0.0.1 dev lo; ip route add 127.0.0.0/8 via 10.244.0.1',
  );
  const segmentsIn = (): number => {
    const lines = bed.run('node', 'grep ^Tcp: /proc/net/snmp').trim().split('\n');
    const [names = [], values = []] = lines.map((line) => line.split(' '));
    return Number(values[names.indexOf('InSegs')]);
  };
  const before = segmentsIn();
  ask('a', '127.0.0.1', 5000);
  assert.equal(segmentsIn(), before);
  bed.run('node', 'nft flush chain ip gantry-test guard-loopback');
  ask('a', '127.0.0.1', 5000);
  assert.ok(segmentsIn() > before, 'it is the guard that keeps them away');
});

test('leaving the cluster, a pod has the node address', { skip }, async () => {
  await bed.serve('outside', 'world', 6000);
  assert.equal(ask('a', OUTSIDE_ADDRESS, 6000), `world ${NODE_ADDRESS}`);
});

test('changes are written alone, and the table heals', { skip }, async () => {
  const slices = input.slices.map((s) => (s.metadata.name === 'two' ? slice('two', [PODS.b]) : s));
  const changed = await writer.apply(serviceRules({ ...input, slices }));
  assert.deepEqual([changed.whole, changed.commands < 5], [false, true]);
  assert.deepEqual(names(times(6, () => ask('a', '10.96.0.1'))), new Set(['b']));
  assert.equal((await writer.apply(serviceRules({ ...input, slices }))).commands, 0);

  bed.run('node', 'nft flush ruleset');
  assert.equal(await writer.verify(), true);
  assert.equal(await writer.verify(), false);
  assert.match(ask('a', '10.96.0.1'), /^b /);

  bed.run('node', 'nft flush chain ip gantry-test services; nft delete table ip gantry-test');
  const healed = await writer.apply(serviceRules(input));
  assert.equal(healed.whole, true, 'a refused change is followed by the whole table');
  assert.deepEqual(names(times(12, () => ask('a', '10.96.0.1'))), new Set(['a', 'b']));
});

const noConntrack = !findProgram('conntrack', process.env.PATH) && 'conntrack is not installed';
test('a UDP client follows its Service, though it never changes its port', {
  skip: skip || noConntrack,
}, async () => {
  const ports = [{ port: 53, protocol: 'UDP' }];
  const to = (addresses: string[]): ServiceRulesInput => {
    const endpoints = slice('udp', addresses);
    return {
      ...input,
      services: [service('udp', '10.96.0.9', { ports })],
      slices: [{ ...endpoints, ports: [{ name: '', port: 8080, protocol: 'UDP' }] }],
    };
  };
  const change = async (addresses: string[]): Promise<void> => {
    const rules = serviceRules(to(addresses));
    const { before } = await writer.apply(rules);
    const command = [...bed.nft.slice(0, -1), 'conntrack'];
    await forgetFlows(staleFlows(before, rules), silentLog, command);
  };
  const ask = (): string => bed.askByUdp('outside', '10.96.0.9', 53);
  await change([PODS.a]);
  assert.equal(ask(), 'a');
  await writer.apply(serviceRules(to([PODS.b])));
  assert.equal(ask(), 'a', 'the kernel alone goes on as before');
  await writer.apply(serviceRules(to([PODS.a])));
  await change([PODS.b]);
  assert.equal(ask(), 'b');
  await change([]);
  assert.equal(ask(), 'ECONNREFUSED');
  await change([PODS.a]);
  assert.equal(ask(), 'a');
});

test('DNS leads to the node; while nobody answers there, resolvers hear nothing', {
  skip,
}, async () => {
  await writer.apply(serviceRules(input));
  assert.equal(bed.askByUdp('a', '10.244.0.1', 8054), 'ECONNREFUSED');
  assert.equal(bed.askByUdp('a', '10.96.0.10', 53), '');
  await bed.serve('node', 'dns', 8053);
  assert.equal(bed.askByUdp('a', '10.96.0.10', 53), 'dns');
  assert.equal(bed.askByUdp('node', '10.96.0.10', 53), 'dns');
});

test('Services go and come without leaving chains or sets behind', { skip }, async () => {
  await writer.apply(serviceRules({ ...input, services: [], slices: [], hostPorts: [] }));
  const listed = bed.run('node', 'nft list table ip gantry-test');
  assert.doesNotMatch(listed, /chain (svc|ext|loc|end)-|set aff-/);
  assert.equal(ask('a', '10.96.0.1'), 'refused');
  await writer.apply(serviceRules(input));
  assert.match(ask('a', '10.96.0.1'), /^[ab] /);
  await writer.remove();
  await writer.remove();
  assert.equal(bed.run('node', 'nft list tables'), '');
});
