import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Pod } from '#api/types.ts';
import { treeUsage } from '#node-agent/node/disk-walk.ts';
import {
  type Candidate,
  chooseVictim,
  exceededLimit,
  judgePressure,
  NO_PRESSURE,
  type PressureState,
  rank,
  type Usage,
} from '#node-agent/node/eviction.ts';
import { readThresholds } from '#node-agent/node/eviction-thresholds.ts';

const MI = 1024 ** 2;

test('thresholds: defaults, soft ones with their time, mistakes by name', () => {
  assert.deepEqual(
    readThresholds({}).map(({ signal, least }) => [signal, Object.values(least)[0]]),
    [
      ['memory.available', 100 * MI],
      ['nodefs.available', 0.1],
      ['nodefs.inodesFree', 0.05],
      ['imagefs.available', 0.15],
      ['imagefs.inodesFree', 0.05],
      ['pid.available', 0.1],
    ],
  );
  assert.deepEqual(
    readThresholds({
      evictionHard: 'memory.available<1Gi',
      evictionSoft: 'memory.available<30%',
      evictionSoftGracePeriod: 'memory.available=1m30s',
      evictionMinimumReclaim: 'memory.available=10Mi',
    }),
    [
      {
        signal: 'memory.available',
        graceMs: 0,
        least: { value: 1024 * MI },
        reclaim: { value: 10 * MI },
      },
      {
        signal: 'memory.available',
        graceMs: 90_000,
        least: { share: 0.3 },
        reclaim: { value: 10 * MI },
      },
    ],
  );
  const wrong: [Parameters<typeof readThresholds>[0], RegExp][] = [
    [{ evictionHard: 'memory<1Gi' }, /--eviction-hard: "memory<1Gi": signal must be one of memory/],
    [{ evictionHard: 'memory.available=1Gi' }, /--eviction-hard/],
    [{ evictionHard: 'memory.available<' }, /want memory.available<…/],
    [{ evictionHard: 'memory.available<101%' }, /"101%" is no percentage/],
    [{ evictionSoft: 'memory.available<1Gi' }, /no --eviction-soft-grace-period/],
    [{ evictionSoftGracePeriod: 'memory.available=soon' }, /"soon" is no duration/],
  ];
  for (const [flags, message] of wrong) assert.throws(() => readThresholds(flags), message);
});

test('pressure: hard at once, soft after its time, until enough is reclaimed, shown a while', () => {
  const thresholds = readThresholds({
    evictionHard: 'memory.available<100,nodefs.available<10%',
    evictionSoft: 'memory.available<200',
    evictionSoftGracePeriod: 'memory.available=60s',
    evictionMinimumReclaim: 'nodefs.available=50',
  });
  let state: PressureState = NO_PRESSURE;
  const at = (seconds: number, memory: number, disk: number) => {
    const measures = {
      'memory.available': { available: memory, capacity: 1000 },
      'nodefs.available': { available: disk, capacity: 1000 },
    };
    const verdict = judgePressure(thresholds, measures, state, seconds * 1000);
    state = verdict.state;
    return `${[...verdict.conditions].sort().join()}|${verdict.due?.resource ?? ''}`;
  };
  assert.equal(at(0, 500, 500), '|');
  assert.equal(at(1, 150, 500), 'MemoryPressure|', 'soft: not yet');
  assert.equal(at(60, 150, 500), 'MemoryPressure|');
  assert.equal(at(61, 150, 500), 'MemoryPressure|memory');
  assert.equal(at(62, 500, 500), 'MemoryPressure|', 'relieved, but still shown');
  assert.equal(at(63, 99, 500), 'MemoryPressure|memory', 'hard: at once');
  assert.equal(at(64, 500, 99), 'DiskPressure,MemoryPressure|ephemeral-storage');
  assert.equal(at(65, 500, 120), 'DiskPressure,MemoryPressure|ephemeral-storage', 'reclaim more');
  assert.equal(at(66, 50, 120), 'DiskPressure,MemoryPressure|memory', 'memory goes first');
  assert.equal(at(67, 500, 150), 'DiskPressure,MemoryPressure|');
  assert.equal(at(366, 500, 500), '|');
});

function candidate(
  name: string,
  of: { [K in keyof Usage]?: Usage[K] },
  spec: object = {},
): Candidate {
  const usage: Usage = {
    memoryBytes: 0,
    diskBytes: 0,
    inodes: 0,
    pids: 0,
    containers: new Map(),
    emptyDirBytes: new Map(),
    ...of,
  };
  const pod = { metadata: { name, uid: name }, spec: { containers: [{ name: 'a' }], ...spec } };
  return { pod: pod as unknown as Pod, usage };
}
const asks = (memory: string, more: object = {}) => ({
  containers: [{ name: 'a', resources: { requests: { memory } } }],
  ...more,
});
const names = (list: readonly Candidate[]) => list.map(({ pod }) => pod.metadata.name).join(' ');

test('those above their requests go first, then by priority, then by how much above', () => {
  const list = [
    candidate('within', { memoryBytes: 90 * MI }, asks('100Mi')),
    candidate('little', { memoryBytes: 110 * MI }, asks('100Mi')),
    candidate('much', { memoryBytes: 300 * MI }, asks('100Mi')),
    candidate('precious', { memoryBytes: 900 * MI }, asks('100Mi', { priority: 1000 })),
    candidate('nothing', { memoryBytes: 5 * MI }),
    candidate('critical', { memoryBytes: 999 * MI }, { priority: 2_000_001_000 }),
  ];
  assert.equal(names(rank(list, 'memory')), 'much little nothing precious within');
  const processes = [
    candidate('few', { pids: 2 }),
    candidate('many', { pids: 200 }),
    candidate('low', { pids: 3 }, { priority: -1 }),
  ];
  assert.equal(names(rank(processes, 'pids')), 'low many few');
  const files = [candidate('some', { inodes: 5 }), candidate('lots', { inodes: 50 })];
  assert.equal(names(rank(files, 'inodes')), 'lots some');
});

test('a victim is told why; soft thresholds leave it time', () => {
  const [hard, soft] = readThresholds({
    evictionHard: 'memory.available<100Mi',
    evictionSoft: 'memory.available<200Mi',
    evictionSoftGracePeriod: 'memory.available=1s',
  });
  assert.ok(hard && soft);
  const due = { threshold: hard, resource: 'memory' as const, available: 92 * MI, least: 100 * MI };
  const containers = new Map([['a', { memoryBytes: 50 * MI, diskBytes: 0 }]]);
  const one = candidate('one', { memoryBytes: 50 * MI, containers }, asks('10Mi'));
  assert.deepEqual(chooseVictim(due, [one], 5), {
    pod: one.pod,
    graceSeconds: 0,
    message:
      'The node was low on resource: memory. Threshold quantity: 100Mi, available: 92Mi. ' +
      'Container a was using 50Mi, request is 10Mi, has larger consumption of memory. ',
  });
  assert.equal(chooseVictim({ ...due, threshold: soft }, [one], 5)?.graceSeconds, 5);
  assert.equal(chooseVictim({ ...due, threshold: soft }, [one], 90)?.graceSeconds, 30);
  assert.equal(chooseVictim(due, []), undefined);
});

test('limits of local storage: of a volume, of all containers, of one', () => {
  const limited = (limit: string) => ({
    containers: [{ name: 'a', resources: { limits: { 'ephemeral-storage': limit } } }],
    volumes: [{ name: 'tmp', emptyDir: { sizeLimit: '10Mi' } }],
  });
  const reason = (of: { dir?: number; container?: number; all?: number }) =>
    exceededLimit(
      candidate(
        'p',
        {
          diskBytes: (of.all ?? 0) * MI,
          containers: new Map([['a', { memoryBytes: 0, diskBytes: (of.container ?? 0) * MI }]]),
          emptyDirBytes: new Map([['tmp', (of.dir ?? 0) * MI]]),
        },
        limited('20Mi'),
      ),
    );
  assert.equal(reason({ dir: 10, container: 20, all: 20 }), undefined);
  assert.equal(reason({ dir: 11 }), 'Usage of EmptyDir volume "tmp" exceeds the limit "10Mi". ');
  assert.equal(
    reason({ all: 21 }),
    'Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. ',
  );
  assert.equal(
    reason({ container: 21 }),
    'Container a exceeded its local ephemeral storage limit "20Mi". ',
  );
});

test('a tree is measured once, hard links and all', async (t) => {
  const dir = mkdtempSync('/tmp/G-walk-');
  t.after(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'sub'));
  writeFileSync(join(dir, 'sub/file'), Buffer.alloc(MI));
  linkSync(join(dir, 'sub/file'), join(dir, 'again'));
  const { bytes, inodes } = await treeUsage(dir);
  assert.equal(inodes, 3);
  assert.ok(bytes >= MI && bytes < 1.1 * MI, String(bytes));
  assert.deepEqual(await treeUsage(join(dir, 'none')), { bytes: 0, inodes: 0 });
});
