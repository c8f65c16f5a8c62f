import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import type { Node, Pod } from '#api/types.ts';
import { decide, type Decision, enoughNodes, unschedulableMessage } from '#scheduler/cycle.ts';
import { pluginsFor } from '#scheduler/plugins.ts';
import { podView } from '#scheduler/snapshot.ts';
import { testCluster, testNode, testPod } from '#scheduler/testing.ts';

function place(
  pod: Pod,
  nodes: Node[],
  pods: Pod[] = [],
  profile: 'pack' | 'spread' = 'pack',
): Decision {
  return decide(podView(pod), testCluster(nodes, pods), pluginsFor(profile), {
    random: seededRandom(1),
    start: { index: 0 },
  });
}

const perHost = (app: string) => ({
  labelSelector: { matchLabels: { app } },
  topologyKey: 'kubernetes.io/hostname',
});

const nodeOf = (decision: Decision): string =>
  decision.type === 'bind' ? decision.node : `none: ${unschedulableMessage(decision, '')}`;

describe('a pod gets', () => {
  const cases: {
    name: string;
    pod: Pod;
    nodes: Node[];
    pods?: Pod[];
    profile?: 'spread';
    node: RegExp;
  }[] = [
    {
      name: 'the fuller of two nodes when packing',
      pod: testPod('new', { cpu: '500m', memory: '512Mi' }),
      nodes: [testNode('a'), testNode('b')],
      pods: [testPod('old', { nodeName: 'b', cpu: '1', memory: '2Gi' })],
      node: /^b$/,
    },
    {
      name: 'the emptier of two nodes when spreading',
      pod: testPod('new', { cpu: '500m', memory: '512Mi' }),
      nodes: [testNode('a'), testNode('b')],
      pods: [testPod('old', { nodeName: 'b', cpu: '1', memory: '2Gi' })],
      profile: 'spread',
      node: /^a$/,
    },
    {
      name: 'the next node when the fuller one is full',
      pod: testPod('new', { cpu: '3500m' }),
      nodes: [testNode('a'), testNode('b')],
      pods: [testPod('old', { nodeName: 'b', cpu: '1' })],
      node: /^a$/,
    },
    {
      name: 'no node when cpu is short everywhere',
      pod: testPod('new', { cpu: '5' }),
      nodes: [testNode('a'), testNode('b')],
      node: /^none: 0\/2 nodes are available: 2 Insufficient cpu\. What would help: the pod asks for 5 cpu; a has 4 of 4 free/,
    },
    {
      name: 'no node when there is none',
      pod: testPod('new'),
      nodes: [],
      node: /^none: no nodes available to schedule pods/,
    },
    {
      name: 'the node that its selector names',
      pod: testPod('new', { nodeSelector: { disk: 'ssd' } }),
      nodes: [testNode('a'), testNode('b', { labels: { disk: 'ssd' } })],
      node: /^b$/,
    },
    {
      name: 'no tainted node without a toleration',
      pod: testPod('new'),
      nodes: [testNode('a', { taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }] })],
      node: /1 node\(s\) had untolerated taint\(s\) \{gpu: yes\}\. What would help: add a toleration for gpu/,
    },
    {
      name: 'a tainted node with a toleration',
      pod: testPod('new', { tolerations: [{ key: 'gpu', operator: 'Exists' }] }),
      nodes: [testNode('a', { taints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }] })],
      node: /^a$/,
    },
    {
      name: 'no cordoned node',
      pod: testPod('new'),
      nodes: [testNode('a', { unschedulable: true })],
      node: /1 node\(s\) were unschedulable\. What would help: kubectl uncordon a/,
    },
    {
      name: 'a node whose host port is free',
      pod: testPod('new', {
        containers: [{ name: 'm', image: 'i', ports: [{ containerPort: 80, hostPort: 80 }] }],
      }),
      nodes: [testNode('a'), testNode('b')],
      pods: [
        testPod('old', {
          nodeName: 'a',
          containers: [
            {
              name: 'm',
              image: 'i',
              ports: [{ containerPort: 1, hostPort: 80, hostIP: '10.0.0.1' }],
            },
          ],
        }),
      ],
      node: /^b$/,
    },
    {
      name: 'the node that its preferred affinity weighs most, when spreading evens out the rest',
      pod: testPod('new', {
        affinity: {
          nodeAffinity: {
            preferredDuringSchedulingIgnoredDuringExecution: [
              {
                weight: 80,
                preference: { matchExpressions: [{ key: 'zone', operator: 'In', values: ['x'] }] },
              },
            ],
          },
        },
      }),
      nodes: [testNode('a'), testNode('b', { labels: { zone: 'x' } })],
      profile: 'spread',
      node: /^b$/,
    },
    {
      name: 'another node than the pod it must stay away from',
      pod: testPod('new', {
        affinity: {
          podAntiAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              {
                labelSelector: { matchLabels: { app: 'db' } },
                topologyKey: 'kubernetes.io/hostname',
              },
            ],
          },
        },
      }),
      nodes: [testNode('a'), testNode('b')],
      pods: [testPod('old', { nodeName: 'a', labels: { app: 'db' } })],
      node: /^b$/,
    },
    {
      name: 'the node of the pod it must be near',
      pod: testPod('new', {
        affinity: {
          podAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              {
                labelSelector: { matchLabels: { app: 'db' } },
                topologyKey: 'kubernetes.io/hostname',
              },
            ],
          },
        },
      }),
      nodes: [testNode('a'), testNode('b')],
      pods: [testPod('old', { nodeName: 'b', labels: { app: 'db' } })],
      node: /^b$/,
    },
    {
      name: 'the emptier zone under a spread constraint, against packing',
      pod: testPod('new', {
        labels: { app: 'web' },
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'zone',
            whenUnsatisfiable: 'DoNotSchedule',
            labelSelector: { matchLabels: { app: 'web' } },
          },
        ],
      }),
      nodes: [testNode('a', { labels: { zone: 'x' } }), testNode('b', { labels: { zone: 'y' } })],
      pods: [testPod('old', { nodeName: 'a', labels: { app: 'web' } })],
      node: /^b$/,
    },
    {
      name: 'no node where only different pods match the terms of its affinity',
      pod: testPod('new', {
        affinity: {
          podAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [
              { labelSelector: { matchLabels: { app: 'db' } }, topologyKey: 'zone' },
              { labelSelector: { matchLabels: { tier: 'hot' } }, topologyKey: 'zone' },
            ],
          },
        },
      }),
      nodes: [testNode('a', { labels: { zone: 'x' } })],
      pods: [
        testPod('db', { nodeName: 'a', labels: { app: 'db' } }),
        testPod('hot', { nodeName: 'a', labels: { tier: 'hot' } }),
      ],
      node: /1 node\(s\) didn't match pod affinity rules/,
    },
    {
      name: 'the node of a pod that would like it near, though it has no wish itself',
      pod: testPod('new', { labels: { app: 'web' } }),
      nodes: [testNode('a'), testNode('b')],
      pods: [
        testPod('cache', {
          nodeName: 'b',
          affinity: {
            podAffinity: {
              preferredDuringSchedulingIgnoredDuringExecution: [
                { weight: 100, podAffinityTerm: perHost('web') },
              ],
            },
          },
        }),
      ],
      profile: 'spread',
      node: /^b$/,
    },
    {
      name: 'no node that a pod there wants for itself',
      pod: testPod('new', { labels: { app: 'web' } }),
      nodes: [testNode('a')],
      pods: [
        testPod('shy', {
          nodeName: 'a',
          affinity: {
            podAntiAffinity: {
              requiredDuringSchedulingIgnoredDuringExecution: [perHost('web')],
            },
          },
        }),
      ],
      node: /1 node\(s\) didn't satisfy existing pods anti-affinity rules/,
    },
    {
      name: 'the host with fewer of its like, rather',
      pod: testPod('new', {
        labels: { app: 'web' },
        topologySpreadConstraints: [
          { maxSkew: 1, whenUnsatisfiable: 'ScheduleAnyway', ...perHost('web') },
        ],
      }),
      nodes: [testNode('a'), testNode('b'), { ...testNode('c'), metadata: { name: 'c' } }],
      pods: [
        testPod('a1', { nodeName: 'a', labels: { app: 'web' } }),
        testPod('a2', { nodeName: 'a', labels: { app: 'web' } }),
        testPod('b1', { nodeName: 'b', labels: { app: 'web' } }),
        testPod('other', { nodeName: 'b', labels: { app: 'other' } }),
      ],
      profile: 'spread',
      node: /^b$/,
    },
  ];
  for (const { name, pod, nodes, pods, profile, node } of cases) {
    test(name, () => assert.match(nodeOf(place(pod, nodes, pods, profile)), node));
  }
});

test('the message counts nodes per reason', () => {
  const decision = place(testPod('new', { cpu: '2' }), [
    testNode('a', { unschedulable: true }),
    testNode('b', { allocatable: { cpu: '1' } }),
    testNode('c', { allocatable: { cpu: '1500m' } }),
  ]);
  assert.equal(decision.type, 'unschedulable');
  assert.match(
    nodeOf(decision),
    /0\/3 nodes are available: 1 node\(s\) were unschedulable, 2 Insufficient cpu\./,
  );
});

test('packing fills nodes one after another and never beyond what they have', () => {
  const random = seededRandom(7);
  const nodes = Array.from({ length: 10 }, (_, i) => testNode(`n${i}`));
  const cluster = testCluster(nodes);
  for (let i = 0; i < 60; i++) {
    const view = podView(testPod(`p${i}`, { cpu: '500m', memory: '512Mi' }));
    const decision = decide(view, cluster, pluginsFor('pack'), { random, start: { index: 0 } });
    assert.equal(decision.type, 'bind');
    if (decision.type === 'bind') cluster.assume(view, decision.node);
  }
  const used = cluster.nodes().filter((node) => node.pods.size > 0);
  for (const node of used) assert.ok((node.requested.get('cpu') ?? 0) <= 4000);
  // 60 pods of half a core need 7.5 nodes of four cores.
  assert.equal(used.length, 8);
});

test('large clusters are searched in part, small ones wholly', () => {
  assert.equal(enoughNodes(3), 3);
  assert.equal(enoughNodes(100), 100);
  assert.equal(enoughNodes(5000), 500);
});
