import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import type { NetworkPolicy, Pod } from '#api/types.ts';
import {
  BRIDGE,
  createTestbed,
  NODE_ADDRESS,
  OUTSIDE_ADDRESS,
  type Testbed,
  testbedMissing,
} from './netns-testbed.ts';
import { createNftWriter, type NftWriter } from './nft-writer.ts';
import { policyRules } from './policy-rules.ts';
import { joinRulesets } from './ruleset.ts';
import { serviceRules } from './service-rules.ts';
import { type NodeFacts, tableSkeleton } from './service-table.ts';

const skip = testbedMissing();

type Spec = NonNullable<NetworkPolicy['spec']>;

const node: NodeFacts = {
  nodeName: 'n1',
  zone: '',
  family: 'IPv4',
  clusterCidr: '10.244.0.0/16',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  bridge: BRIDGE,
};

/** a and b are in one namespace, c in another. */
const ADDRESS = { a: '10.244.0.2', b: '10.244.0.3', c: '10.244.0.4' } as const;
const namespaces = [
  { metadata: { name: 'x', labels: { name: 'x' } } },
  { metadata: { name: 'y', labels: { name: 'y' } } },
];
let labels: Record<string, Record<string, string>> = {};

const pods = (): Pod[] =>
  Object.entries(ADDRESS).map(([name, podIP]) => ({
    metadata: { name, namespace: name === 'c' ? 'y' : 'x', labels: { app: name, ...labels[name] } },
    spec: {
      nodeName: 'n1',
      containers: [
        { name: 'c', image: 'i', ports: [{ name: 'web', containerPort: name === 'a' ? 81 : 80 }] },
      ],
    },
    status: { podIP, phase: 'Running' },
  }));

const app = (name: string) => ({ matchLabels: { app: name } });
const forA = (spec: Partial<Spec>): NetworkPolicy => ({
  metadata: { name: 'for-a', namespace: 'x' },
  spec: { podSelector: app('a'), ...spec },
});

let bed: Testbed;
let writer: NftWriter;

/** Two ports of `a` behind one address each, as Services are. */
const services = ['10.96.0.1', '10.96.0.2'].map((clusterIP, i) => ({
  metadata: { name: `s${i}`, namespace: 'x' },
  spec: {
    type: 'NodePort',
    clusterIP,
    ports: [{ port: 8000, protocol: 'TCP', nodePort: 30080 + i }],
  },
}));
const slices = services.map(({ metadata }, i) => ({
  metadata: { ...metadata, labels: { 'kubernetes.io/service-name': metadata.name } },
  addressType: 'IPv4',
  ports: [{ name: '', port: 80 + i, protocol: 'TCP' }],
  endpoints: [{ addresses: [ADDRESS.a], conditions: { ready: true }, nodeName: 'n1' }],
}));

async function apply(...policies: NetworkPolicy[]): Promise<void> {
  const ofServices = serviceRules({ node, services, slices, hostPorts: [] });
  const ofPolicies = policyRules({ policies, pods: pods(), namespaces, node });
  await writer.apply(joinRulesets(ofServices, ofPolicies));
}

/** `from>to` or `from>to:port` that are open, of those asked for. */
function open(...ways: string[]): string[] {
  return ways.filter((way) => {
    const [from = '', to = ''] = way.split('>');
    const [target = '', port = '80'] = to.split(':');
    const address = ADDRESS[target as keyof typeof ADDRESS] ?? target;
    const command = `timeout 0.25 busybox nc ${address} ${port} </dev/null || true`;
    return bed.run(from, command).trim() !== '';
  });
}

before(async () => {
  if (skip) return;
  bed = createTestbed();
  for (const [name, address] of Object.entries(ADDRESS)) bed.addPod(name, address);
  const places = [...Object.keys(ADDRESS), 'node', 'outside'];
  await Promise.all(places.flatMap((name) => [80, 81].map((port) => bed.serve(name, name, port))));
  const table = { family: 'ip', name: 'gantry-test' } as const;
  writer = createNftWriter({ table, skeleton: tableSkeleton(node), command: bed.nft });
  await apply();
});

after(() => {
  if (!skip) bed?.close();
});

test('default deny: nobody reaches the pod but its node and itself', { skip }, async () => {
  const ways = ['b>a', 'c>a', 'outside>a', 'node>a', 'a>a', 'a>b', 'a>c', 'b>c'];
  assert.deepEqual(open(...ways), ways);
  await apply(forA({}));
  assert.deepEqual(open(...ways), ['node>a', 'a>a', 'a>b', 'a>c', 'b>c']);
  await apply(forA({ policyTypes: ['Ingress', 'Egress'] }));
  assert.deepEqual(open(...ways), ['node>a', 'a>a', 'b>c']);
  assert.deepEqual(open(`a>${OUTSIDE_ADDRESS}`, `a>${NODE_ADDRESS}`), [`a>${NODE_ADDRESS}`]);
  await apply();
  assert.deepEqual(open(...ways), ways);
});

test('ingress by pod, namespace, both, and address', { skip }, async () => {
  type From = NonNullable<NonNullable<Spec['ingress']>[number]['from']>;
  const ways = ['b>a', 'c>a', 'outside>a'];
  const cases: [From, string[]][] = [
    [[{ podSelector: app('b') }], ['b>a']],
    [[{ podSelector: app('c') }], []],
    [[{ namespaceSelector: { matchLabels: { name: 'y' } } }], ['c>a']],
    [[{ namespaceSelector: {}, podSelector: app('b') }], ['b>a']],
    [[{ namespaceSelector: {} }], ['b>a', 'c>a']],
    [[{ ipBlock: { cidr: '0.0.0.0/0' } }], ways],
    [[{ ipBlock: { cidr: '0.0.0.0/0', except: ['10.244.0.0/16'] } }], ['outside>a']],
    [[{ ipBlock: { cidr: '0.0.0.0/0', except: ['192.0.2.0/24', '10.244.0.4/32'] } }], ['b>a']],
    [
      [{ ipBlock: { cidr: '192.0.2.0/24' } }, { podSelector: app('b') }],
      ['b>a', 'outside>a'],
    ],
  ];
  for (const [from, wanted] of cases) {
    await apply(forA({ ingress: [{ from }] }));
    assert.deepEqual(open(...ways), wanted, JSON.stringify(from));
  }
});

test('ports, ranges, names and protocols', { skip }, async () => {
  type Ports = NonNullable<NonNullable<Spec['ingress']>[number]['ports']>;
  const cases: [Ports, string[], boolean][] = [
    [[{ port: 80 }], ['b>a:80'], false],
    [[{ port: 80, endPort: 81 }], ['b>a:80', 'b>a:81'], false],
    [[{ port: 'web' }], ['b>a:81'], false],
    [[{ protocol: 'TCP' }], ['b>a:80', 'b>a:81'], false],
    [[{ port: 80, protocol: 'UDP' }], [], true],
    [[], ['b>a:80', 'b>a:81'], true],
  ];
  for (const [ports, tcp, udp] of cases) {
    await apply(forA({ ingress: [{ ports }] }));
    assert.deepEqual(open('b>a:80', 'b>a:81'), tcp, JSON.stringify(ports));
    const answer = bed.askByUdp('b', ADDRESS.a, 80);
    assert.equal(answer, udp ? 'a' : '', `UDP ${JSON.stringify(ports)}`);
    bed.run('node', 'command -v conntrack >/dev/null && conntrack -D -p udp 2>/dev/null || true');
  }
});

test('egress, by pod, address, port and name', { skip }, async () => {
  type Egress = NonNullable<Spec['egress']>;
  const ways = ['a>b', 'a>b:81', 'a>c', `a>${OUTSIDE_ADDRESS}`];
  const cases: [Egress, string[]][] = [
    [[{ to: [{ podSelector: app('b') }] }], ['a>b', 'a>b:81']],
    [[{ to: [{ podSelector: app('b') }], ports: [{ port: 'web' }] }], ['a>b']],
    [[{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }], [`a>${OUTSIDE_ADDRESS}`]],
    [[{ ports: [{ port: 81 }] }], ['a>b:81']],
    [[{}], ways],
  ];
  for (const [egress, wanted] of cases) {
    await apply(forA({ policyTypes: ['Egress'], egress }));
    assert.deepEqual(open(...ways), wanted, JSON.stringify(egress));
    assert.deepEqual(open('b>a'), ['b>a'], 'ingress is another matter');
  }
});

test('both ends must agree, and policies add up', { skip }, async () => {
  const toB = forA({ policyTypes: ['Egress'], egress: [{ to: [{ podSelector: app('b') }] }] });
  const intoB = (from: string): NetworkPolicy => ({
    metadata: { name: `b-from-${from}`, namespace: 'x' },
    spec: {
      podSelector: app('b'),
      ingress: [{ from: [{ namespaceSelector: {}, podSelector: app(from) }] }],
    },
  });
  await apply(toB, intoB('c'));
  assert.deepEqual(open('a>b', 'c>b', 'a>c'), ['c>b']);
  await apply(toB, intoB('c'), intoB('a'));
  assert.deepEqual(open('a>b', 'c>b', 'a>c'), ['a>b', 'c>b']);
});

test('Services: judged by the pod behind them', { skip }, async () => {
  await apply(forA({ ingress: [{ from: [{ podSelector: app('b') }], ports: [{ port: 81 }] }] }));
  const ways = ['b>10.96.0.1:8000', 'b>10.96.0.2:8000', 'c>10.96.0.2:8000'];
  assert.deepEqual(open(...ways, 'a>10.96.0.1:8000'), ['b>10.96.0.2:8000', 'a>10.96.0.1:8000']);
  const nodePort = `outside>${NODE_ADDRESS}:30080`;
  assert.deepEqual(open(nodePort), []);
  await apply(forA({ ingress: [{ from: [{ ipBlock: { cidr: `${OUTSIDE_ADDRESS}/32` } }] }] }));
  assert.deepEqual(open(nodePort), [nodePort]);
});

test('a label changes, and within 100 ms so does the rule', { skip }, async () => {
  const friends = forA({
    ingress: [{ from: [{ podSelector: { matchLabels: { friend: 'yes' } } }] }],
  });
  await apply(friends);
  assert.deepEqual(open('b>a'), []);
  labels = { b: { friend: 'yes' } };
  const started = performance.now();
  await apply(friends);
  const elapsedMs = performance.now() - started;
  assert.deepEqual(open('b>a'), ['b>a']);
  assert.ok(elapsedMs < 100, `${elapsedMs} ms`);
  labels = {};
});

test('connections that were allowed go on', { skip }, async () => {
  await apply();
  const within = (pod: string, ...command: string[]) => {
    const space = `--net=/run/netns/${bed.node.replace(/node$/, pod)}`;
    return spawn('nsenter', [space, ...command], { stdio: ['pipe', 'pipe', 'inherit'] });
  };
  const server = within('a', 'busybox', 'nc', '-l', '-p', '90', '-e', 'cat');
  bed.run('a', 'until busybox netstat -ltn | grep -q :90; do sleep 0.02; done');
  const client = within('b', 'busybox', 'nc', ADDRESS.a, '90');
  try {
    const answer = async (text: string): Promise<string> => {
      const answered = once(client.stdout, 'data', { signal: AbortSignal.timeout(3_000) });
      client.stdin.write(text);
      return String((await answered)[0]);
    };
    assert.equal(await answer('one'), 'one');
    await apply(forA({}));
    assert.equal(await answer('two'), 'two');
    assert.deepEqual(open('b>a'), []);
  } finally {
    client.kill();
    server.kill();
  }
});
