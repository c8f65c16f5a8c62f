import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { NetworkPolicy, Pod } from '#api/types.ts';
import { portMatches } from './policy-ports.ts';
import { policyRules } from './policy-rules.ts';
import { type Ruleset, rulesetChanges } from './ruleset.ts';
import type { NodeFacts } from './service-table.ts';

type Spec = NonNullable<NetworkPolicy['spec']>;

const node: NodeFacts = {
  nodeName: 'n1',
  zone: '',
  family: 'IPv4',
  clusterCidr: '10.244.0.0/16',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  bridge: 'gantry0',
};

const namespaces = [
  { metadata: { name: 'shop', labels: { team: 'a' } } },
  { metadata: { name: 'bank', labels: { team: 'b' } } },
];

function pod(name: string, address: string, extra: Partial<Pod> & { nodeName?: string } = {}): Pod {
  const { nodeName = 'n1', spec, ...rest } = extra;
  return {
    metadata: { name, namespace: 'shop', labels: { app: name } },
    status: { podIP: address, phase: 'Running' },
    ...rest,
    spec: { containers: [], ...spec, nodeName },
  };
}

const web = pod('web', '10.244.0.2');
const client = pod('client', '10.244.1.3', { nodeName: 'n2' });
const far = pod('far', '10.244.1.4', {
  nodeName: 'n2',
  metadata: { name: 'far', namespace: 'bank', labels: { app: 'client' } },
});
const all = [web, client, far];

function policy(spec: Partial<Spec>, name = 'p'): NetworkPolicy {
  return {
    metadata: { name, namespace: 'shop' },
    spec: { podSelector: { matchLabels: { app: 'web' } }, ...spec },
  };
}

const rulesOf = (policies: NetworkPolicy[], pods: readonly Pod[] = all): Ruleset =>
  policyRules({ policies, pods, namespaces, node });

/** Addresses that a map isolates. */
const isolated = (rules: Ruleset, map: string): string[] => [
  ...(rules.elements.get(map)?.keys() ?? []),
];

/** What the policies' own chains accept, sets replaced by what they hold. */
function accepted(rules: Ruleset): string[] {
  return [...rules.chains]
    .filter(([name]) => !name.startsWith('isolated-'))
    .flatMap(([, lines]) => lines)
    .map((line) =>
      line.replace(/@(\S+)/g, (_, set: string) => {
        const members = [...(rules.elements.get(set)?.keys() ?? [])];
        return `{${members.join(', ')}}`;
      }),
    );
}

test('without policies there is nothing', () => {
  const rules = rulesOf([]);
  assert.deepEqual([rules.chains.size, rules.elements.size, rules.sets.size], [0, 0, 0]);
});

test('which directions a policy is about', () => {
  const cases: [Partial<Spec>, boolean, boolean][] = [
    [{}, true, false],
    [{ egress: [{}] }, true, true],
    [{ egress: [] }, true, false],
    [{ policyTypes: ['Egress'] }, false, true],
    [{ policyTypes: ['Ingress'], egress: [{}] }, true, false],
    [{ policyTypes: ['Ingress', 'Egress'] }, true, true],
  ];
  for (const [spec, ingress, egress] of cases) {
    const rules = rulesOf([policy(spec)]);
    const found = ['isolated-receivers', 'isolated-senders'].map((map) => isolated(rules, map));
    const both = [ingress, egress].map((is) => (is ? ['10.244.0.2'] : []));
    assert.deepEqual(found, both, JSON.stringify(spec));
  }
});

test('only running pods of this node with an address of their own are isolated', () => {
  const everyone = policy({ podSelector: {} });
  const pods = [
    web,
    client,
    pod('host', '192.0.2.10', { spec: { containers: [], hostNetwork: true } }),
    pod('done', '10.244.0.9', { status: { podIP: '10.244.0.9', phase: 'Succeeded' } }),
    pod('young', '', { status: { phase: 'Pending' } }),
    pod('other', '10.244.0.5', { metadata: { name: 'other', namespace: 'bank' } }),
  ];
  assert.deepEqual(isolated(rulesOf([everyone], pods), 'isolated-receivers'), ['10.244.0.2']);
});

test('who may come', () => {
  const clients = { matchLabels: { app: 'client' } };
  type From = NonNullable<NonNullable<Spec['ingress']>[number]['from']>;
  const cases: [From | undefined, string[]][] = [
    [undefined, ['accept']],
    [[], ['accept']],
    [[{ podSelector: clients }], ['ip saddr {10.244.1.3} accept']],
    [[{ podSelector: {} }], ['ip saddr {10.244.0.2, 10.244.1.3} accept']],
    [[{ namespaceSelector: { matchLabels: { team: 'b' } } }], ['ip saddr {10.244.1.4} accept']],
    [
      [{ namespaceSelector: {}, podSelector: clients }],
      ['ip saddr {10.244.1.3, 10.244.1.4} accept'],
    ],
    [[{ podSelector: { matchLabels: { app: 'none' } } }], ['ip saddr {} accept']],
    [
      [{ ipBlock: { cidr: '192.0.2.7/24', except: ['192.0.2.8/32', '192.0.2.0/28'] } }],
      ['ip saddr 192.0.2.0/24 ip saddr != 192.0.2.8/32 ip saddr != 192.0.2.0/28 accept'],
    ],
    [[{ ipBlock: { cidr: '2001:db8::/32' } }], []],
  ];
  for (const [from, wanted] of cases) {
    const rules = rulesOf([policy({ ingress: [from ? { from } : {}] })]);
    assert.deepEqual(accepted(rules), wanted, JSON.stringify(from));
  }
});

test('ports: numbers and ranges merge, protocols stay apart, names ask the pod', () => {
  assert.deepEqual(portMatches([], 'ip').matches, ['']);
  assert.deepEqual(
    portMatches(
      [
        { port: 80 },
        { port: 443, protocol: 'TCP' },
        { port: 1000, endPort: 2000 },
        { port: 1500, endPort: 2500 },
        { port: 81 },
        { protocol: 'UDP' },
        { port: 5, protocol: 'SCTP' },
      ],
      'ip',
    ).matches,
    [
      'meta l4proto tcp th dport { 80-81, 443, 1000-2500 }',
      'meta l4proto udp',
      'meta l4proto sctp th dport { 5 }',
    ],
  );
  const ports = [
    { name: 'http', containerPort: 8080 },
    { name: 'dns', containerPort: 53, protocol: 'UDP' },
  ];
  const named = pod('web', '10.244.0.2', {
    spec: { containers: [{ name: 'c', image: 'i', ports }] },
  });
  const rules = rulesOf([policy({ ingress: [{ ports: [{ port: 'http' }] }] })], [named]);
  assert.deepEqual(accepted(rules), [
    'ip daddr . meta l4proto . th dport {10.244.0.2 . tcp . 8080} accept',
  ]);
});

test('several policies add up: a pod passes through the chain of each', () => {
  const rules = rulesOf([policy({}, 'none'), policy({ ingress: [{}] }, 'all')]);
  const verdict = rules.elements.get('isolated-receivers')?.get('10.244.0.2') ?? '';
  const chain = rules.chains.get(verdict.replace('goto ', ''));
  assert.equal(chain?.length, 3);
  assert.match(chain?.join('; ') ?? '', /shop\/(none|all); .*shop\/(none|all); drop$/);
});

test('a peer more is one element; a policy less takes its chains and sets away', () => {
  const table = { family: 'ip', name: 't' } as const;
  const peers = policy({
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'client' } } }] }],
  });
  const more = pod('client', '10.244.1.9', { nodeName: 'n2' });
  const before = rulesOf([peers]);
  const [change, ...rest] = rulesetChanges(table, before, rulesOf([peers], [...all, more]));
  assert.match(change ?? '', /^add element ip t peers-\w+ { 10\.244\.1\.9 }$/);
  assert.deepEqual(rest, []);
  const commands = rulesetChanges(table, before, rulesOf([]));
  assert.deepEqual(
    commands.map((command) => command.split(' ').slice(0, 2).join(' ')),
    [
      'delete element',
      'delete element',
      'flush chain',
      'flush chain',
      'delete chain',
      'delete chain',
      'delete set',
    ],
  );
});
