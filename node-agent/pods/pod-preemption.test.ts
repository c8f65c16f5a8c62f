import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#api/types.ts';
import { admitPod } from '#node-agent/pods/pod-admission.ts';
import { choosePreempted } from '#node-agent/pods/pod-preemption.ts';

const SYSTEM_CRITICAL = 2_000_000_000;
type Asks = { cpu?: string; memory?: string };

function pod(name: string, requests?: Asks, more: { priority?: number; limits?: Asks } = {}): Pod {
  const { limits, ...spec } = more;
  const resources = requests && { requests, ...(limits ? { limits } : {}) };
  return {
    metadata: { name, uid: name },
    spec: { containers: [{ name: 'c', ...(resources ? { resources } : {}) }], ...spec },
  };
}
const guaranteed = (name: string, asks: Required<Asks>): Pod => pod(name, asks, { limits: asks });
const critical = pod('critical', undefined, { priority: SYSTEM_CRITICAL });

test('cheapest class first, and of each as few as will do', () => {
  const best = [pod('b1'), pod('b2')];
  const burst = [
    pod('s100', { cpu: '100m' }),
    pod('s300', { cpu: '300m' }),
    pod('s300m', { cpu: '300m', memory: '50' }),
  ];
  const dear = [guaranteed('g500', { cpu: '500m', memory: '10' })];
  const all = [...dear, ...burst, ...best];
  const table: [string, [string, number][], Pod[], string][] = [
    ['a place', [['pods', 1]], all, 'b1'],
    ['two places', [['pods', 2]], all, 'b1 b2'],
    ['three places', [['pods', 3]], all, 'b1 b2 s100'],
    ['what one gives', [['cpu', 300]], all, 's300'],
    ['the smallest that suffices', [['cpu', 50]], all, 's100'],
    ['two are needed', [['cpu', 400]], all, 's300 s100'],
    [
      'one that has both',
      [
        ['cpu', 200],
        ['memory', 40],
      ],
      all,
      's300m',
    ],
    ['no guaranteed one while others do', [['cpu', 700]], all, 's300 s300m s100'],
    ['a guaranteed one, and then fewer of the others', [['cpu', 800]], all, 's300 g500'],
    [
      'places come with it',
      [
        ['cpu', 100],
        ['pods', 1],
      ],
      all,
      's100',
    ],
    ['nothing is missing', [], all, ''],
  ];
  for (const [what, short, others, wanted] of table) {
    const found = choosePreempted(critical, others, new Map(short));
    assert.ok(Array.isArray(found), what);
    assert.equal(found.map(({ metadata }) => metadata.name).join(' '), wanted, what);
  }
});

test('critical pods stay, but for more important ones; without enough room nobody goes', () => {
  const others = [
    pod('system', { cpu: '500m' }, { priority: SYSTEM_CRITICAL }),
    pod('user', { cpu: '100m' }, { priority: 5 }),
  ];
  const why = (short: number): string => {
    const found = choosePreempted(critical, others, new Map([['cpu', short]]));
    return Array.isArray(found) ? found.map((p) => p.metadata.name).join() : found.message;
  };
  assert.equal(why(100), 'user');
  assert.match(why(150), /no set of running pods found .*: \[\(res: cpu, q: 50\), \]$/);
  const first = { ...critical, spec: { ...critical.spec, priority: SYSTEM_CRITICAL + 1000 } };
  const found = choosePreempted(first, others, new Map([['cpu', 150]]));
  assert.ok(Array.isArray(found) && found[0]?.metadata.name === 'system');
  const isStatic = { 'kubernetes.io/config.source': 'file' };
  const manifest = { ...pod('m', { cpu: '1' }), metadata: { name: 'm', annotations: isStatic } };
  assert.ok(!Array.isArray(choosePreempted(critical, [manifest], new Map([['cpu', 1]]))));
});

test('admission says all that is short, and nothing where room would not be enough', () => {
  const facts = {
    node: { metadata: { name: 'n' } },
    allocatable: new Map([
      ['cpu', 1000],
      ['memory', 100],
      ['pods', 1],
    ]),
    hasAppArmor: false,
    features: { supplementalGroupsPolicy: false },
    allowedUnsafeSysctls: [],
  };
  const other = pod('other', { cpu: '800m', memory: '60' });
  const wants = pod('wants', { cpu: '500m', memory: '30' }, { priority: SYSTEM_CRITICAL });
  const refusal = admitPod(wants, [other], facts);
  assert.equal(refusal?.reason, 'OutOfpods');
  assert.deepEqual(
    [...(refusal.short ?? [])],
    [
      ['pods', 1],
      ['cpu', 300],
    ],
  );
  const withPort = (p: Pod): Pod => ({
    ...p,
    spec: {
      containers: [
        { ...p.spec.containers[0], name: 'c', ports: [{ containerPort: 1, hostPort: 80 }] },
      ],
      priority: SYSTEM_CRITICAL,
    },
  });
  const clash = admitPod(withPort(wants), [withPort(other)], facts);
  assert.deepEqual([clash?.reason, clash?.short], ['NodePorts', undefined]);
});
