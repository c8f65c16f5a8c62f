import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cgroupLayout, slicesOf } from '#node-agent/node/cgroup-layout.ts';
import {
  cpuWeight,
  type GroupLimits,
  limitFiles,
  sharesOfWeight,
  sliceProperties,
} from '#node-agent/node/cgroup-limits.ts';
import { startSliceArgs, systemdUnits } from '#node-agent/node/systemd-units.ts';

const UID = '0b3f6c1e-9a1d-4c55-8d0e-2f6a7b8c9d10';
const ESCAPED = '0b3f6c1e_9a1d_4c55_8d0e_2f6a7b8c9d10';

test('names of pods’ groups', () => {
  const table = [
    ['cgroupfs', 'gantry/n1-ab', 'Guaranteed', `/gantry/n1-ab/kubepods/pod${UID}`],
    ['cgroupfs', 'gantry/n1-ab', 'BestEffort', `/gantry/n1-ab/kubepods/besteffort/pod${UID}`],
    ['cgroupfs', '', 'Burstable', `/kubepods/burstable/pod${UID}`],
    ['systemd', '', 'Guaranteed', `/kubepods.slice/kubepods-pod${ESCAPED}.slice`],
    [
      'systemd',
      '',
      'Burstable',
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${ESCAPED}.slice`,
    ],
    [
      'systemd',
      'my-node',
      'BestEffort',
      '/my_node.slice/my_node-kubepods.slice/my_node-kubepods-besteffort.slice/' +
        `my_node-kubepods-besteffort-pod${ESCAPED}.slice`,
    ],
  ] as const;
  for (const [driver, root, qos, path] of table) {
    const layout = cgroupLayout(driver, root);
    assert.equal(layout.pod(UID, qos), path);
    const [folder = ''] = path.split('/').slice(-1);
    assert.equal(layout.sandboxParent(UID, qos), driver === 'systemd' ? folder : path);
    assert.equal(layout.uidOf(folder), UID);
    for (const other of ['besteffort', 'kubepods-besteffort.slice', 'cgroup.procs'])
      assert.equal(layout.uidOf(other), undefined, other);
  }
  assert.deepEqual(slicesOf('/a.slice/a-b.slice'), ['a.slice', 'a-b.slice']);
});

test('limits as files and as properties of a slice', () => {
  const tight: GroupLimits = {
    cpuShares: 1024,
    cpuQuotaUs: 25_500,
    cpuPeriodUs: 100_000,
    memoryBytes: 2 ** 20,
    pids: 100,
    hugepages: [{ pageSize: '2MB', limit: 2 ** 21 }],
  };
  const open: GroupLimits = { cpuShares: 2, cpuPeriodUs: 100_000 };
  const files = (version: 1 | 2, limits: GroupLimits) =>
    limitFiles(version, limits).map(({ file, value }) => `${file}=${value}`);
  assert.deepEqual(files(2, tight), [
    'cpu.weight=39',
    'cpu.max=25500 100000',
    'memory.max=1048576',
    'pids.max=100',
    'hugetlb.2MB.max=2097152',
  ]);
  assert.deepEqual(files(1, open), [
    'cpu.shares=2',
    'cpu.cfs_period_us=100000',
    'cpu.cfs_quota_us=-1',
    'memory.limit_in_bytes=-1',
  ]);
  assert.deepEqual(files(2, { cpuShares: 2 }), ['cpu.weight=1'], 'a class has nothing else');
  const told = (version: 1 | 2, limits: GroupLimits) =>
    sliceProperties(version, limits).map((property) => property.join(' '));
  assert.deepEqual(told(2, tight), [
    'CPUWeight t 39',
    'CPUQuotaPeriodUSec t 100000',
    'CPUQuotaPerSecUSec t 260000',
    'MemoryMax t 1048576',
    'TasksMax t 100',
  ]);
  assert.deepEqual(told(1, open), [
    'CPUShares t 2',
    'CPUQuotaPeriodUSec t 100000',
    'CPUQuotaPerSecUSec t 18446744073709551615',
    'MemoryLimit t 18446744073709551615',
  ]);
});

test('weights and shares are each other’s inverse, within a weight', () => {
  for (const shares of [2, 102, 1024, 4096, 262_144])
    assert.equal(cpuWeight(sharesOfWeight(cpuWeight(shares))), cpuWeight(shares));
  assert.deepEqual([cpuWeight(2), cpuWeight(262_144)], [1, 10_000]);
});

test('a slice is started, and changed when it is there', async () => {
  assert.deepEqual(startSliceArgs('a.slice', 'pods', [['TasksMax', 't', '5']]).slice(5), [
    ...['StartTransientUnit', 'ssa(sv)a(sa(sv))', 'a.slice', 'replace'],
    ...['2', 'Description', 's', 'pods', 'TasksMax', 't', '5', '0'],
  ]);
  const calls: string[] = [];
  const units = systemdUnits(async (args) => {
    calls.push(`${args[5]} ${args[7]}`);
    if (args[5] === 'StartTransientUnit')
      throw new Error('Unit a.slice was already loaded or has a fragment file.');
    if (args[5] === 'StopUnit') throw new Error('Unit a.slice not loaded.');
  });
  await units.ensureSlice('a.slice', 'pods', []);
  await units.stop('a.slice');
  assert.deepEqual(calls, [
    'StartTransientUnit a.slice',
    'SetUnitProperties a.slice',
    'StartUnit a.slice',
    'StopUnit a.slice',
  ]);
  const refusing = systemdUnits(() => Promise.reject(new Error('Access denied')));
  await assert.rejects(refusing.ensureSlice('a.slice', 'pods', []), /Access denied/);
  await assert.rejects(refusing.stop('a.slice'), /Access denied/);
});
