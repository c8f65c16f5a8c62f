import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Endpoint, EndpointSlice, Pod, Service } from '#api/types.ts';
import { cniConflist } from './cni.ts';
import { deleteArguments, staleFlows } from './conntrack.ts';
import { hostPortsOf } from './host-ports.ts';
import { serviceRules, type ServiceRulesCache } from './service-rules.ts';
import type { NodeFacts } from './service-table.ts';

const node: NodeFacts = {
  nodeName: 'n1',
  zone: 'east',
  family: 'IPv4',
  clusterCidr: '10.244.0.0/16',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  bridge: 'gantry0',
};

function service(spec: NonNullable<Service['spec']>, extra: Partial<Service> = {}): Service {
  const ports = [{ port: 80, protocol: 'TCP' }];
  return { metadata: { name: 's', namespace: 'ns' }, spec: { ports, ...spec }, ...extra };
}

function slice(endpoints: Endpoint[], extra: Partial<EndpointSlice> = {}): EndpointSlice {
  const labels = { 'kubernetes.io/service-name': 's' };
  return {
    metadata: { name: 's-1', namespace: 'ns', labels },
    addressType: 'IPv4',
    ports: [{ name: '', port: 8080, protocol: 'TCP' }],
    endpoints,
    ...extra,
  };
}

const endpoint = (address: string, extra: Partial<Endpoint> = {}): Endpoint => ({
  addresses: [address],
  nodeName: 'n2',
  ...extra,
});

function rulesOf(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  facts: Partial<NodeFacts> = {},
) {
  return serviceRules({ services, slices, hostPorts: [], node: { ...node, ...facts } });
}

/** Where a Service's traffic may go, read from its chain. */
function targets(slices: readonly EndpointSlice[], facts: Partial<NodeFacts> = {}): string[] {
  const rules = rulesOf([service({ clusterIP: '10.96.0.1' })], slices, facts);
  const [chain] = [...rules.chains].filter(([name]) => name.startsWith('svc-'));
  return chain?.[1].join(' ').match(/10\.244\.\d+\.\d+(?= \.|:)/g) ?? [];
}

const elements = (rules: ReturnType<typeof rulesOf>, map: string): Record<string, string> =>
  Object.fromEntries(rules.elements.get(map) ?? []);

test('a cluster address leads to its chain, which picks among all endpoints', () => {
  const slices = [slice([endpoint('10.244.1.2'), endpoint('10.244.1.1')])];
  const rules = rulesOf([service({ clusterIP: '10.96.0.1' })], slices);
  const [name = ''] = rules.chains.keys();
  assert.match(name, /^svc-[0-9a-f]{8}-ns\/s\/tcp\/80$/);
  assert.deepEqual(elements(rules, 'service-ips'), { '10.96.0.1 . tcp . 80': `goto ${name}` });
  assert.deepEqual(rules.chains.get(name), [
    'ip saddr != 10.244.0.0/16 meta mark set meta mark or 0x4000',
    'meta l4proto tcp dnat ip addr . port to numgen random mod 2 map ' +
      '{ 0 : 10.244.1.1 . 8080, 1 : 10.244.1.2 . 8080 }',
  ]);
});

test('headless, external and unaddressed Services, and those of another proxy, have no rules', () => {
  const labels = { 'service.kubernetes.io/service-proxy-name': 'other' };
  const services = [
    service({ clusterIP: 'None' }),
    service({ type: 'ExternalName', externalName: 'x.test' }),
    service({}),
    service({ clusterIP: '10.96.0.1' }, { metadata: { name: 's', namespace: 'ns', labels } }),
  ];
  const rules = rulesOf(services, [slice([endpoint('10.244.1.1')])]);
  assert.deepEqual([rules.chains.size, rules.elements.size], [0, 0]);
});

test('slices that say they are headless give no endpoints', () => {
  const labels = { ...slice([]).metadata.labels, 'service.kubernetes.io/headless': '' };
  const marked = slice([endpoint('10.244.1.1')], { metadata: { ...slice([]).metadata, labels } });
  const services = [service({ clusterIP: '10.96.0.1' })];
  assert.deepEqual(rulesOf(services, [marked]), rulesOf(services, []));
});

test('the order of endpoints, slices and Services does not matter', () => {
  const [a, b] = [endpoint('10.244.1.1'), endpoint('10.244.1.2')];
  const services = [service({ clusterIP: '10.96.0.1' })];
  const other = { metadata: { ...slice([]).metadata, name: 's-2' } };
  assert.deepEqual(
    rulesOf(services, [slice([a]), slice([b], other)]),
    rulesOf(services, [slice([b], other), slice([a])]),
  );
  assert.deepEqual(rulesOf(services, [slice([a, b])]), rulesOf(services, [slice([b, a, a])]));
});

test('unready endpoints are left out; terminating ones serve when there is no other', () => {
  const ready = endpoint('10.244.1.1', { conditions: { ready: true } });
  const unready = endpoint('10.244.1.2', { conditions: { ready: false } });
  const ending = endpoint('10.244.1.3', {
    conditions: { ready: false, serving: true, terminating: true },
  });
  assert.deepEqual(targets([slice([ready, unready, ending])]), ['10.244.1.1']);
  assert.deepEqual(targets([slice([unready, ending])]), ['10.244.1.3']);
  assert.deepEqual(targets([slice([unready])]), []);
});

test('hints keep traffic in the zone or on the node, if all endpoints have them', () => {
  const inZone = (address: string, name: string): Endpoint =>
    endpoint(address, { hints: { forZones: [{ name }] } });
  const east = inZone('10.244.1.1', 'east');
  const west = inZone('10.244.1.2', 'west');
  assert.deepEqual(targets([slice([east, west])]), ['10.244.1.1']);
  assert.deepEqual(targets([slice([east, west])], { zone: '' }).length, 2);
  assert.deepEqual(targets([slice([east, west])], { zone: 'north' }).length, 2);
  assert.deepEqual(targets([slice([east, endpoint('10.244.1.3')])]).length, 2);
  const onNode = (address: string, name: string): Endpoint =>
    endpoint(address, { hints: { forNodes: [{ name }] } });
  const hinted = slice([onNode('10.244.1.1', 'n1'), onNode('10.244.1.2', 'n2')]);
  assert.deepEqual(targets([hinted]), ['10.244.1.1']);
});

test('ports are matched by name and protocol; slices of the other family are not', () => {
  const ports = [
    { name: 'a', port: 80, protocol: 'TCP' },
    { name: 'b', port: 81, protocol: 'UDP' },
  ];
  const slices = [
    slice([endpoint('10.244.1.1')], {
      ports: [
        { name: 'a', port: 1000, protocol: 'TCP' },
        { name: 'b', port: 2000, protocol: 'UDP' },
      ],
    }),
  ];
  const rules = rulesOf([service({ clusterIP: '10.96.0.1', ports })], slices);
  const texts = [...rules.chains.values()].map((chain) => chain.at(-1));
  assert.deepEqual(texts, [
    'meta l4proto tcp dnat to 10.244.1.1:1000',
    'meta l4proto udp dnat to 10.244.1.1:2000',
  ]);
  const six = slice([endpoint('fd00::1')], { addressType: 'IPv6' });
  const clusterIPs = ['10.96.0.1', 'fd01::1'];
  const dual = service({ clusterIP: '10.96.0.1', clusterIPs });
  const forSix = rulesOf([dual], [six], { family: 'IPv6', clusterCidr: 'fd00::/48' });
  assert.deepEqual(Object.keys(elements(forSix, 'service-ips')), ['fd01::1 . tcp . 80']);
  assert.equal([...forSix.chains.values()][0]?.[1], 'meta l4proto tcp dnat to [fd00::1]:8080');
  assert.deepEqual(elements(rulesOf([dual], [six]), 'no-endpoint-ips'), {
    '10.96.0.1 . tcp . 80': 'goto refuse',
  });
});

test('a balancer address may be kept to some sources', () => {
  const balanced = service(
    { clusterIP: '10.96.0.1', loadBalancerSourceRanges: ['192.0.2.0/24', '198.51.100.1/32'] },
    { status: { loadBalancer: { ingress: [{ ip: '203.0.113.5' }, { hostname: 'x' }] } } },
  );
  const rules = rulesOf([balanced], [slice([endpoint('10.244.1.1')])]);
  const [chain = ''] = [...rules.chains.keys()].filter((name) => name.startsWith('src-'));
  assert.equal(elements(rules, 'service-ips')['203.0.113.5 . tcp . 80'], `goto ${chain}`);
  assert.equal(rules.chains.get(chain)?.[0], 'ip saddr != { 192.0.2.0/24, 198.51.100.1/32 } drop');
});

test('DNS is the node until the Service has endpoints', () => {
  const dns = { clusterIp: '10.96.0.10', address: '10.244.0.1', port: 5353 };
  const ports = [{ name: 'dns', port: 53, protocol: 'UDP' }];
  const kubeDns = service({ clusterIP: '10.96.0.10', ports });
  const without = rulesOf([kubeDns], [], { dns });
  assert.equal(elements(without, 'service-ips')['10.96.0.10 . udp . 53'], 'goto dns-udp');
  assert.deepEqual(elements(without, 'no-endpoint-ips'), {});
  assert.deepEqual(without.chains.get('dns-tcp'), ['meta l4proto tcp dnat to 10.244.0.1:5353']);
  const own = slice([endpoint('10.244.1.1')], {
    ports: [{ name: 'dns', port: 53, protocol: 'UDP' }],
  });
  const withOwn = rulesOf([kubeDns], [own], { dns });
  assert.match(elements(withOwn, 'service-ips')['10.96.0.10 . udp . 53'] ?? '', /^goto svc-/);
});

test('two Services that claim one external address: the first has it', () => {
  const externalIPs = ['203.0.113.9'];
  const first = service({ clusterIP: '10.96.0.1', externalIPs });
  const second: Service = {
    ...service({ clusterIP: '10.96.0.2', externalIPs }),
    metadata: { name: 'other', namespace: 'ns' },
  };
  const rules = rulesOf([first, second], [slice([endpoint('10.244.1.1')])]);
  assert.match(elements(rules, 'service-ips')['203.0.113.9 . tcp . 80'] ?? '', /ns\/s\/tcp/);
});

test('host ports are those of living pods with an address of their own', () => {
  const pod = (spec: Partial<Pod['spec']>, status: NonNullable<Pod['status']>): Pod => {
    const ports = [{ containerPort: 80, hostPort: 8080, hostIP: '0.0.0.0' }, { containerPort: 81 }];
    return { metadata: {}, spec: { containers: [{ name: 'c', ports }], ...spec }, status };
  };
  const alive = { phase: 'Running', podIP: '10.244.0.2' };
  const expected = {
    protocol: 'TCP',
    port: 8080,
    hostIp: '',
    target: { address: '10.244.0.2', port: 80 },
  };
  assert.deepEqual(hostPortsOf([pod({}, alive)]), [expected]);
  assert.deepEqual(hostPortsOf([pod({ hostNetwork: true }, alive)]), []);
  assert.deepEqual(hostPortsOf([pod({}, { phase: 'Succeeded', podIP: '10.244.0.2' })]), []);
  assert.deepEqual(hostPortsOf([pod({}, { phase: 'Pending' })]), []);
});

test('UDP flows are forgotten when their target goes, or when a first one comes', () => {
  const ports = [{ port: 53, protocol: 'UDP', nodePort: 30053 }];
  const udp = service({ clusterIP: '10.96.0.1', ports });
  const at = (...addresses: string[]) =>
    rulesOf(
      [udp],
      [
        slice(
          addresses.map((a) => endpoint(a)),
          { ports: [{ name: '', port: 53, protocol: 'UDP' }] },
        ),
      ],
    );
  assert.deepEqual(staleFlows(at('10.244.1.1', '10.244.1.2'), at('10.244.1.2', '10.244.1.3')), [
    { address: '10.96.0.1', port: 53, target: '10.244.1.1' },
    { address: '', port: 30053, target: '10.244.1.1' },
  ]);
  assert.deepEqual(staleFlows(at(), at('10.244.1.1')), [
    { address: '10.96.0.1', port: 53, target: '' },
    { address: '', port: 30053, target: '' },
  ]);
  assert.deepEqual(staleFlows(at('10.244.1.1'), at('10.244.1.1')), []);
  assert.deepEqual(deleteArguments({ address: '10.96.0.1', port: 53, target: '10.244.1.1' }), [
    '--delete',
    '--proto=udp',
    '--orig-port-dst=53',
    '--orig-dst=10.96.0.1',
    '--dst-nat=10.244.1.1',
  ]);
});

test('with and without what is remembered, the rules are the same', () => {
  const random = seededRandom(7);
  const pick = (bound: number): number => randomInt(random, bound);
  const make = (i: number): Service =>
    ({
      metadata: { namespace: 'd', name: `s${i}` },
      spec: {
        clusterIP: `10.96.0.${1 + i}`,
        // Some share an external address: the first keeps it.
        externalIPs: pick(2) ? ['192.0.2.1'] : [],
        internalTrafficPolicy: pick(4) ? 'Cluster' : 'Local',
        sessionAffinity: pick(4) ? 'None' : 'ClientIP',
        ports: [
          { port: 80, protocol: pick(2) ? 'TCP' : 'UDP', ...(pick(2) && { nodePort: 30_000 + i }) },
        ],
      },
    }) as Service;
  const sliceOf = (i: number): EndpointSlice => ({
    metadata: {
      namespace: 'd',
      name: `s${i}-a`,
      labels: { 'kubernetes.io/service-name': `s${i}` },
    },
    addressType: 'IPv4',
    ports: [
      { name: '', port: 8080, protocol: 'TCP' },
      { name: '', port: 8080, protocol: 'UDP' },
    ],
    endpoints: Array.from({ length: pick(4) }, (_, k) => ({
      addresses: [`10.244.${k}.${1 + pick(200)}`],
      nodeName: `n${k}`,
      conditions: { ready: pick(5) > 0 },
    })),
  });
  const cache: ServiceRulesCache = new WeakMap();
  const services = Array.from({ length: 20 }, (_, i) => make(i));
  const slices = services.map((_, i) => sliceOf(i));
  for (let round = 0; round < 200; round++) {
    const changed = pick(20);
    if (pick(2)) services[changed] = make(changed);
    else slices[changed] = sliceOf(changed);
    const zone = pick(10) ? '' : 'z';
    const input = { node: { ...node, zone }, services, slices: [...slices], hostPorts: [] };
    assert.deepEqual(serviceRules(input, cache), serviceRules(input));
  }
});

test('affinity holds at the node port and external addresses as at the cluster address', () => {
  const { elements, chains, sets } = rulesOf(
    [
      service({
        clusterIP: '10.96.0.1',
        sessionAffinity: 'ClientIP',
        externalIPs: ['192.0.2.1'],
        ports: [{ port: 80, nodePort: 30_080, targetPort: 8080 }],
      }),
    ],
    [slice([endpoint('10.244.0.1'), endpoint('10.244.0.2')])],
  );
  const chainOf = (map: string, key: string): string =>
    (elements.get(map)?.get(key) ?? '').replace('goto ', '');
  const atNodePort = chainOf('service-nodeports', 'tcp . 30080');
  assert.equal(chainOf('service-ips', '192.0.2.1 . tcp . 80'), atNodePort);
  const next = chains.get(atNodePort)?.at(-1)?.replace('goto ', '') ?? '';
  const known = chains.get(next)?.filter((rule) => rule.includes('@aff-')) ?? [];
  assert.equal(known.length, 2);
  assert.ok([...sets.values()].every((set) => set.includes('timeout 10800s')));
});

test('flows of IPv6 are looked for in its own table', () => {
  const flow = { address: 'fd00:10:96::1', port: 53, target: '' };
  assert.deepEqual(deleteArguments(flow).slice(1, 2), ['--family=ipv6']);
});

test('host ports go to the pod in the family that is asked for', () => {
  const port = (hostIP?: string) => ({
    hostPort: 80,
    containerPort: 8080,
    ...(hostIP && { hostIP }),
  });
  const pod = (hostIP?: string, ips = ['10.244.0.5', 'fd00::5']): Pod => ({
    metadata: { name: 'p' },
    spec: { containers: [{ name: 'c', ports: [port(hostIP)] }] },
    status: { podIP: ips[0] ?? '', podIPs: ips.map((ip) => ({ ip })) },
  });
  const targets = (of: Pod, family: 'IPv4' | 'IPv6') =>
    hostPortsOf([of], family).map(({ hostIp, target }) => `${hostIp}>${target.address}`);
  assert.deepEqual(targets(pod(), 'IPv4'), ['>10.244.0.5']);
  assert.deepEqual(targets(pod(), 'IPv6'), ['>fd00::5']);
  assert.deepEqual(targets(pod('127.0.0.1'), 'IPv4'), ['127.0.0.1>10.244.0.5']);
  assert.deepEqual(targets(pod('127.0.0.1'), 'IPv6'), []);
  assert.deepEqual(targets(pod('fd00:1::1'), 'IPv4'), []);
  assert.deepEqual(targets(pod('fd00:1::1'), 'IPv6'), ['fd00:1::1>fd00::5']);
  assert.deepEqual(targets(pod(undefined, ['10.244.0.5']), 'IPv6'), []);
});

test('the CNI configuration names bridge, range and where addresses are kept', () => {
  const config = {
    bridge: 'b0',
    podCidrs: ['10.1.0.0/24', 'fd00:1::/64'],
    mtu: 1400,
    addressDir: '/d',
  };
  const { plugins } = JSON.parse(cniConflist(config)) as { plugins: Record<string, unknown>[] };
  assert.deepEqual(plugins[0]?.ipam, {
    type: 'host-local',
    dataDir: '/d',
    ranges: [[{ subnet: '10.1.0.0/24' }], [{ subnet: 'fd00:1::/64' }]],
  });
  assert.deepEqual([plugins[0]?.bridge, plugins[0]?.mtu, plugins[0]?.ipMasq], ['b0', 1400, false]);
});
