import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { failure } from '#api/status.ts';
import { clusterConfig, defaultNodeIp } from '#cli/cluster.ts';
import { clusterDnsIp } from '#cli/cluster-dns.ts';
import {
  agentRecords,
  kubeconfigCandidates,
  writeAgentRecord,
  writeSettings,
} from '#cli/data-dir.ts';
import { explainFailure, pathSegments } from '#cli/explain-failure.ts';
import { furtherNodeNames } from '#cli/further-nodes.ts';
import { parseManifest } from '#cli/manifest.ts';
import { addressIn, overlaps } from '#cli/node-spaces.ts';
import { age, formatRows, formatTable } from '#cli/output.ts';
import { preflight } from '#cli/preflight.ts';
import { isSameProcess, startTicks } from '#cli/process.ts';
import { type DiscoveredResource, findResource, parseTargets } from '#cli/resources.ts';
import { nearest } from '#cli/suggest.ts';
import { durationSeconds } from '#cli/verbs/logs.ts';
import { parsePorts } from '#cli/verbs/port-forward.ts';
import { rolloutState } from '#cli/verbs/rollout.ts';
import { tree } from '#cli/verbs/describe.ts';

const resource = (
  parts: Partial<DiscoveredResource> & { resource: string; kind: string },
): DiscoveredResource => ({
  group: '',
  version: 'v1',
  namespaced: true,
  singular: parts.kind.toLowerCase(),
  shortNames: [],
  categories: [],
  verbs: ['list', 'get'],
  ...parts,
});

const known = [
  resource({ resource: 'pods', kind: 'Pod', shortNames: ['po'], categories: ['all'] }),
  resource({ resource: 'services', kind: 'Service', shortNames: ['svc'], categories: ['all'] }),
  resource({ resource: 'deployments', kind: 'Deployment', group: 'apps', shortNames: ['deploy'] }),
];

describe('resource words', () => {
  const cases: [string, string][] = [
    ['pods', 'pods'],
    ['pod', 'pods'],
    ['po', 'pods'],
    ['Pod', 'pods'],
    ['deployments.apps', 'deployments'],
    ['deploy', 'deployments'],
  ];
  for (const [word, found] of cases) {
    test(`${word} is ${found}`, () => assert.equal(findResource(known, word).resource, found));
  }
  test('a misspelt one is refused with the nearest', () => {
    assert.throws(
      () => findResource(known, 'deployment s'),
      /no resource type "deployment s"; did you mean/,
    );
  });
  test('all is a category, and slashes name objects', () => {
    assert.deepEqual(
      parseTargets(known, ['all']).map((t) => t.resource.resource),
      ['pods', 'services'],
    );
    assert.deepEqual(
      parseTargets(known, ['pod/a', 'svc/b']).map((t) => [t.resource.resource, ...t.names]),
      [
        ['pods', 'a'],
        ['services', 'b'],
      ],
    );
  });
});

test('suggestions are near or absent', () => {
  assert.equal(nearest('replcas', ['replicas', 'selector']), 'replicas');
  assert.equal(nearest('imagee', ['image', 'images']), 'image');
  assert.equal(nearest('zebra', ['replicas', 'selector']), undefined);
});

describe('mistakes in a manifest are told by file, line and column', () => {
  const text =
    'apiVersion: v1\nkind: Pod\nmetadata: { name: a }\nspec:\n  containers:\n  - nmae: x\n    image: 7\n';
  const [manifest] = parseManifest(text, 'pod.yaml');
  test('unknown fields, with a suggestion', () => {
    assert.ok(manifest);
    const error = failure(
      400,
      'BadRequest',
      'strict decoding error: unknown field "spec.containers[0].nmae"',
    );
    assert.equal(
      explainFailure(error, manifest),
      'pod.yaml:6:5: Pod a: unknown field "spec.containers[0].nmae"; did you mean "name"?',
    );
  });
  test('fields that server-side apply does not know, named by their keys', () => {
    assert.ok(manifest);
    const text =
      'failed to create typed patch object: errors:\n  .spec.containers[name="x"].nmae: field not declared in schema\n' +
      '  .spec.containerz: field not declared in schema';
    assert.deepEqual(explainFailure(failure(500, '', text), manifest).split('\n'), [
      'pod.yaml:6:5: Pod a: unknown field "spec.containers[0].nmae"; did you mean "name"?',
      'pod.yaml:4:1: Pod a: unknown field "spec.containerz"; did you mean "containers"?',
    ]);
  });
  test('broken rules at the field, or at the nearest thing around it', () => {
    assert.ok(manifest);
    const causes = [
      { field: 'spec.containers[0].image', message: 'Invalid value', reason: 'FieldValueInvalid' },
      { field: 'spec.restartPolicy', message: 'Required value', reason: 'FieldValueRequired' },
    ];
    assert.deepEqual(
      explainFailure(failure(422, 'Invalid', 'x', { causes }), manifest).split('\n'),
      [
        'pod.yaml:7:5: Pod a: spec.containers[0].image: Invalid value',
        'pod.yaml:4:1: Pod a: spec.restartPolicy: Required value',
      ],
    );
  });
  test('what is no object, or names no kind, or says a thing twice', () => {
    assert.throws(() => parseManifest('- a\n', 'x.yaml'), /x\.yaml:1: an object was expected/);
    assert.throws(() => parseManifest('kind: Pod\n', 'x.yaml'), /x\.yaml:1: apiVersion is missing/);
    assert.throws(
      () => parseManifest('apiVersion: v1\nkind: Pod\nkind: Node\n', 'x.yaml'),
      /x\.yaml:3:1: "kind" stands here twice/,
    );
    assert.throws(() => parseManifest('a: [1\n', 'x.yaml'), /x\.yaml:/);
  });
  test('the items of a List are found in their own place', () => {
    const list =
      'apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: { name: b }\n  spec:\n    nope: 1\n';
    const [item] = parseManifest(list, 'list.yaml');
    assert.ok(item);
    const error = failure(400, 'BadRequest', 'strict decoding error: unknown field "spec.nope"');
    assert.match(explainFailure(error, item), /^list\.yaml:8:5: Pod b: unknown field "spec\.nope"/);
  });
});

test('paths are taken apart', () => {
  assert.deepEqual(pathSegments('spec.containers[0].env[1].name'), [
    'spec',
    'containers',
    0,
    'env',
    1,
    'name',
  ]);
  assert.deepEqual(pathSegments('metadata.labels[a/b]'), ['metadata', 'labels', 'a/b']);
});

test('tables are padded, and narrow unless asked', () => {
  assert.equal(
    formatRows([
      ['A', 'LONGER'],
      ['value', 'x'],
    ]),
    'A       LONGER\nvalue   x\n',
  );
  const table = {
    kind: 'Table' as const,
    metadata: {},
    columnDefinitions: [
      { name: 'Name', type: 'string' },
      { name: 'IP', type: 'string', priority: 1 },
    ],
    rows: [{ cells: ['a', null] }],
  };
  const options = { wide: false, namespaces: false, headers: true };
  assert.equal(formatTable(table, options), 'NAME\na\n');
  assert.equal(formatTable(table, { ...options, wide: true }), 'NAME   IP\na      <none>\n');
});

test('ages read as kubectl prints them', () => {
  const now = Date.parse('2026-01-10T00:00:00Z');
  const ago = (seconds: number) => age(new Date(now - seconds * 1000).toISOString(), now);
  assert.deepEqual(
    [5, 119, 150, 3600 * 2, 3600 * 5 + 120, 3600 * 30, 86400 * 3, 86400 * 30].map(ago),
    ['5s', '119s', '2m30s', '120m', '5h2m', '30h', '3d', '30d'],
  );
});

test('ports and durations', () => {
  assert.deepEqual(parsePorts('8080:80'), { local: 8080, remote: 80 });
  assert.deepEqual(parsePorts('80'), { local: 80, remote: 80 });
  assert.deepEqual(parsePorts('0:80'), { local: 0, remote: 80 });
  for (const bad of ['a', '80:', '1:2:3', '70000', '80:0']) {
    assert.throws(() => parsePorts(bad), /is no port pair/, bad);
  }
  assert.deepEqual(['90', '90s', '5m', '2h'].map(durationSeconds), [90, 90, 300, 7200]);
  assert.throws(() => durationSeconds('soon'), /is no duration/);
});

test('rollout status tells what is awaited', () => {
  const deployment = (status: object) => ({
    metadata: { name: 'web', generation: 2 },
    spec: { replicas: 3, selector: {}, template: {} },
    status: { observedGeneration: 2, ...status },
  });
  const textOf = (status: object) => rolloutState(deployment(status)).text;
  assert.match(textOf({ observedGeneration: 1 }), /spec update to be observed/);
  assert.match(textOf({ updatedReplicas: 1, replicas: 3 }), /1 out of 3 new replicas/);
  assert.match(textOf({ updatedReplicas: 3, replicas: 4 }), /1 old replicas are pending/);
  assert.match(textOf({ updatedReplicas: 3, replicas: 3, availableReplicas: 2 }), /2 of 3 updated/);
  const done = { updatedReplicas: 3, replicas: 3, availableReplicas: 3 };
  assert.deepEqual(rolloutState(deployment(done)), {
    done: true,
    text: 'deployment "web" successfully rolled out',
  });
});

test('describe prints values as an indented tree', () => {
  assert.equal(
    tree({ a: 1, list: [{ name: 'x', more: { y: true } }, 'z'], empty: {} }, '  '),
    '  a: 1\n  list:\n    - name: x\n      more:\n        y: true\n    - z\n',
  );
});

describe('the machine is looked at before a cluster starts', () => {
  const options = (dataDir: string) => ({
    dataDir,
    ports: [],
    networkName: 'gantry-test',
    microvms: 'auto',
    nodes: 1,
    ownRuntime: true,
    env: process.env,
    platform: 'linux',
    uid: 0,
  });
  test('each obstacle is named with its way out', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'gantry-preflight-'));
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
    const address = server.address();
    const port = typeof address === 'object' && address ? address.port : 0;
    try {
      const problems = await preflight({
        ...options(dataDir),
        ports: [{ port, flag: '--secure-port', use: 'API server' }],
        uid: 1000,
      });
      assert.match(problems.join('\n'), /a node needs root/);
      assert.match(
        problems.join('\n'),
        new RegExp(`port ${port} \\(API server\\) is in use; .*--secure-port`),
      );
    } finally {
      server.close();
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
  test('another system can run the API server only', async () => {
    const [problem] = await preflight({ ...options('/nowhere'), platform: 'darwin' });
    assert.match(problem ?? '', /pods run on Linux; this is darwin.*gantry apiserver/);
  });
});

test('the kubeconfig: flag, environment, local cluster, the user', () => {
  assert.deepEqual(kubeconfigCandidates('f', { KUBECONFIG: 'e' }, '/d'), ['f']);
  assert.deepEqual(kubeconfigCandidates(undefined, { KUBECONFIG: 'e:g' }, '/d'), ['e', 'g']);
  assert.equal(kubeconfigCandidates(undefined, {}, '/d')[0], '/d/admin.kubeconfig');
});

test('without --nodes a cluster has as many as at its last start', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'gantry-cli-'));
  try {
    const flags = {
      securePort: '6443',
      kubeletPort: '10250',
      nodeName: 'n',
      nodeIp: '10.0.0.1',
      clusterCidr: '10.244.0.0/16',
      serviceClusterIpRange: '10.96.0.0/16',
      schedulingProfile: 'pack',
      networkName: 'gantry',
      microvms: 'auto',
    };
    assert.equal(clusterConfig(dataDir, flags, {}).nodes, 1);
    const three = clusterConfig(dataDir, { ...flags, nodes: '3' }, {});
    assert.deepEqual(furtherNodeNames(three), ['n-2', 'n-3']);
    writeSettings(dataDir, { networkName: 'gantry', furtherNodes: ['n-2', 'n-3'] });
    assert.equal(clusterConfig(dataDir, flags, {}).nodes, 3);
    assert.equal(clusterConfig(dataDir, { ...flags, nodes: '1' }, {}).nodes, 1);
    assert.deepEqual(agentRecords(dataDir), []);
    writeAgentRecord(dataDir, 'n-2', { pid: 7, startTicks: '1' });
    assert.deepEqual(agentRecords(dataDir), ['n-2'], 'what down looks for');
  } finally {
    rmSync(dataDir, { recursive: true });
  }
});

test('addresses of further nodes, and networks in the way', () => {
  assert.equal(addressIn('10.243.7.0/24', 3), '10.243.7.3');
  assert.ok(overlaps('10.243.7.0/24', '10.243.0.0/16'));
  assert.ok(overlaps('10.243.7.9', '10.243.7.0/24'));
  assert.ok(!overlaps('10.243.6.0/24', '10.243.7.0/24'));
});

test('flags of up are checked', () => {
  const flags = {
    securePort: '6443',
    kubeletPort: '10250',
    nodeIp: '10.0.0.1',
    clusterCidr: '10.244.0.0/16',
    serviceClusterIpRange: '10.96.0.0/16',
    schedulingProfile: 'pack',
    networkName: 'gantry',
    microvms: 'auto',
  };
  assert.equal(clusterConfig('/d', flags, {}).securePort, 6443);
  assert.throws(
    () => clusterConfig('/d', { ...flags, securePort: '0' }, {}),
    /--secure-port takes a port/,
  );
  assert.throws(
    () => clusterConfig('/d', { ...flags, schedulingProfile: 'x' }, {}),
    /is pack or spread/,
  );
  assert.throws(
    () => clusterConfig('/d', { ...flags, networkName: 'A B' }, {}),
    /--network-name takes/,
  );
  for (const [wrong, complaint] of [
    [{ nodes: '0' }, /--nodes takes a number between 1 and 250, not "0"/],
    [{ nodes: 'x' }, /--nodes takes a number/],
    [{ nodes: '2', containerRuntimeEndpoint: 'unix:///s' }, /not both/],
    [{ nodeNetwork: '10.1.2.3/24' }, /--node-network takes/],
    [{ clusterCidr: '10.244.0.0' }, /--cluster-cidr: "10.244.0.0" is no range/],
    [{ clusterCidr: '10.1.0.0/16,10.2.0.0/16' }, /at most one range of each family/],
    [{ clusterCidr: '10.244.0.0/16,fd00::/56' }, /must have the same families/],
    [{ nodeIp: '10.0.0.1,10.0.0.2' }, /--node-ip takes an address, or one of each family/],
  ] as const)
    assert.throws(() => clusterConfig('/d', { ...flags, ...wrong }, {}), complaint);
  assert.equal(clusterDnsIp('10.96.0.0/16'), '10.96.0.10');
  assert.equal(clusterDnsIp('fd00:10:96::/112,10.96.0.0/16'), 'fd00:10:96::a');
  assert.throws(() => clusterDnsIp('nonsense'), /takes a range like 10.96.0.0\/16/);
});

test('a process is known by its pid and start', () => {
  const self = { pid: process.pid, startTicks: startTicks(process.pid) ?? '' };
  assert.equal(isSameProcess(self), true);
  assert.equal(isSameProcess({ ...self, startTicks: '1' }), false);
  assert.equal(startTicks(2 ** 22 + 1), null);
});

test('the node address is the one of the default route', () => {
  assert.match(defaultNodeIp(), /^\d+\.\d+\.\d+\.\d+$/);
});
