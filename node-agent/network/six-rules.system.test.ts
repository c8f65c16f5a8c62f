import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import type { EndpointSlice, NetworkPolicy, Pod, Service } from '#api/types.ts';
import { policyRules } from './policy-rules.ts';
import { joinRulesets, wholeTable } from './ruleset.ts';
import { serviceRules } from './service-rules.ts';
import { type NodeFacts, tableSkeleton } from './service-table.ts';

const skip =
  process.platform !== 'linux' || process.getuid?.() !== 0
    ? 'needs root on Linux for a network namespace'
    : false;

const node: NodeFacts = {
  nodeName: 'n0',
  zone: '',
  family: 'IPv6',
  clusterCidr: 'fd00:10:244::/56',
  podCidr: 'fd00:10:244::/64',
  serviceCidr: 'fd00:10:96::/112',
  bridge: 'b0',
};

const services: Service[] = [
  {
    metadata: { namespace: 'd', name: 'dual' },
    spec: {
      type: 'LoadBalancer',
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1', 'fd00:10:96::1'],
      externalIPs: ['2001:db8::1'],
      externalTrafficPolicy: 'Local',
      loadBalancerSourceRanges: ['2001:db8:1::/48'],
      ports: [{ port: 80, nodePort: 30_080, protocol: 'TCP', targetPort: 8080 }],
    },
    status: { loadBalancer: { ingress: [{ ip: '2001:db8::2' }] } },
  },
  {
    metadata: { namespace: 'd', name: 'sticky' },
    spec: {
      clusterIP: 'fd00:10:96::2',
      clusterIPs: ['fd00:10:96::2'],
      sessionAffinity: 'ClientIP',
      ports: [{ port: 53, protocol: 'UDP', targetPort: 53 }],
    },
  },
];
const sliceOf = (name: string, port: number, protocol: string): EndpointSlice => ({
  metadata: { namespace: 'd', name, labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv6',
  ports: [{ name: '', port, protocol }],
  endpoints: [1, 2].map((k) => ({ addresses: [`fd00:10:244::${k}`], nodeName: `n${k - 1}` })),
});
const pod: Pod = {
  metadata: { namespace: 'd', name: 'p', labels: { app: 'p' } },
  spec: {
    nodeName: 'n0',
    containers: [{ name: 'c', ports: [{ name: 'web', containerPort: 80 }] }],
  },
  status: { podIPs: [{ ip: '10.244.0.1' }, { ip: 'fd00:10:244::1' }] },
};
const policy: NetworkPolicy = {
  metadata: { namespace: 'd', name: 'np' },
  spec: {
    podSelector: {},
    policyTypes: ['Ingress', 'Egress'],
    ingress: [
      {
        from: [
          { ipBlock: { cidr: 'fd00:10:244::/56', except: ['fd00:10:244:1::/64'] } },
          { ipBlock: { cidr: '10.0.0.0/8' } },
          { podSelector: { matchLabels: { app: 'p' } } },
        ],
        ports: [{ port: 'web' }, { port: 8000, endPort: 8010 }, { port: 53, protocol: 'UDP' }],
      },
    ],
  },
};

/** What nftables makes of the rules, asked in a namespace of its own. */
function loaded(commands: readonly string[]): string {
  const program = 'nft -f - && nft list table ip6 gtest';
  const input = commands.join('\n');
  return execFileSync('unshare', ['-n', 'sh', '-c', program], { input, encoding: 'utf8' });
}

test('nftables takes the rules of IPv6, and none of IPv4 among them', { skip }, () => {
  const ofServices = serviceRules({
    node,
    services,
    slices: [sliceOf('dual', 8080, 'TCP'), sliceOf('sticky', 53, 'UDP')],
    hostPorts: [
      { protocol: 'TCP', port: 80, hostIp: '', target: { address: 'fd00:10:244::1', port: 8080 } },
      { protocol: 'UDP', port: 53, hostIp: '::1', target: { address: 'fd00:10:244::1', port: 53 } },
    ],
  });
  const ofPolicies = policyRules({
    policies: [policy],
    pods: [pod],
    namespaces: [{ metadata: { name: 'd' } }],
    node,
  });
  const rules = joinRulesets(ofServices, ofPolicies);
  const text = loaded(wholeTable({ family: 'ip6', name: 'gtest' }, tableSkeleton(node), rules));
  for (const wanted of [
    /fd00:10:96::1 \. tcp \. 80 : goto/,
    /2001:db8::1 \. tcp \. 80 : goto/,
    /tcp \. 30080 : goto/,
    /ip6 saddr != 2001:db8:1::\/48 drop/,
    /update @aff-/,
    /fd00:10:244::1 : goto isolated-ingress/,
    /ip6 saddr fd00:10:244::\/56 ip6 saddr != fd00:10:244:1::\/64 tcp dport 8000-8010 accept/,
    /masquerade fully-random/,
  ])
    assert.match(text, wanted);
  assert.doesNotMatch(text, /10\.(96|244|0)\./);
});
