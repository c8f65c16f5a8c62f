import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { silentLog } from '#base/log.ts';
import { openCgroups } from '#node-agent/node/cgroups.ts';

const dir = mkdtempSync('/tmp/G-cgroups-');
after(() => rmSync(dir, { recursive: true, force: true }));

const limits = {
  cpuShares: 1024,
  cpuQuotaUs: 50_000,
  cpuPeriodUs: 100_000,
  memoryBytes: 2 ** 20,
  pids: 100,
};

/** A plain folder stands for the kernel's: what would be written to it can be read back. */
test('v1: each hierarchy gets its own limits', async () => {
  const mount = join(dir, 'v1');
  for (const name of ['cpu', 'memory', 'pids', 'systemd']) {
    mkdirSync(join(mount, name), { recursive: true });
    writeFileSync(join(mount, name, 'cgroup.procs'), '');
  }
  const cgroups = openCgroups({ root: 'gantry/n1', mount, log: silentLog, version: 1 });
  assert.equal(cgroups.podPath('u1', 'Guaranteed'), '/gantry/n1/kubepods/podu1');
  assert.equal(cgroups.podPath('u1', 'BestEffort'), '/gantry/n1/kubepods/besteffort/podu1');
  await cgroups.setNode({ cpuShares: 2048, memoryBytes: 2 ** 30 });
  await cgroups.create('u1', 'Burstable', limits);
  const pod = 'gantry/n1/kubepods/burstable/podu1';
  const read = (file: string): string => readFileSync(join(mount, file), 'utf8');
  assert.equal(read(`cpu/${pod}/cpu.shares`), '1024');
  assert.equal(read(`cpu/${pod}/cpu.cfs_quota_us`), '50000');
  assert.equal(read(`memory/${pod}/memory.limit_in_bytes`), '1048576');
  assert.equal(read(`pids/${pod}/pids.max`), '100');
  assert.equal(existsSync(join(mount, 'systemd', pod)), false);
  const kubepods = 'gantry/n1/kubepods';
  assert.equal(read(`memory/${kubepods}/memory.limit_in_bytes`), String(2 ** 30));
  assert.equal(read(`cpu/${kubepods}/besteffort/cpu.shares`), '2');
  await cgroups.create('u4', 'Burstable', { cpuShares: 100, cpuPeriodUs: 100_000 });
  assert.equal(read(`cpu/${kubepods}/burstable/cpu.shares`), '1124', 'the sum of its pods');
  const again = openCgroups({ root: 'gantry/n1', mount, log: silentLog, version: 1 });
  await again.setNode({});
  await again.update('u4', 'Burstable', { cpuShares: 1, cpuPeriodUs: 100_000 });
  assert.equal(read(`cpu/${kubepods}/burstable/cpu.shares`), '1025', 'also after a restart');
  await cgroups.update('u1', 'Burstable', { cpuShares: 2, cpuPeriodUs: 100_000 });
  assert.equal(read(`cpu/${pod}/cpu.cfs_quota_us`), '-1');
  assert.deepEqual(cgroups.pods().sort(), ['u1', 'u4']);
});

test('v2: weight, quota and memory in one group, controllers passed on from above', async () => {
  const mount = join(dir, 'v2');
  mkdirSync(mount);
  writeFileSync(join(mount, 'cgroup.controllers'), 'cpuset cpu io memory pids misc\n');
  const cgroups = openCgroups({ root: 'gantry/n1', mount, log: silentLog, version: 2 });
  await cgroups.create('u2', 'Guaranteed', limits);
  const read = (file: string): string => readFileSync(join(mount, file), 'utf8');
  const pod = 'gantry/n1/kubepods/podu2';
  assert.equal(read('cgroup.subtree_control'), '+cpu +memory +pids +cpuset +io');
  assert.equal(read(`${pod}/cpu.weight`), '39');
  assert.equal(read(`${pod}/cpu.max`), '50000 100000');
  assert.equal(read(`${pod}/memory.max`), '1048576');
  await cgroups.update('u2', 'Guaranteed', { cpuShares: 262_144, cpuPeriodUs: 100_000 });
  assert.equal(read(`${pod}/cpu.weight`), '10000');
  assert.equal(read(`${pod}/cpu.max`), 'max 100000');
});

test('without a root of its own a node removes nothing but its pods’ groups', async () => {
  const mount = join(dir, 'shared');
  mkdirSync(join(mount, 'others'), { recursive: true });
  const cgroups = openCgroups({ root: '', mount, log: silentLog, version: 2 });
  mkdirSync(join(mount, 'kubepods'));
  await cgroups.removeAll();
  assert.deepEqual(readdirSync(mount), ['others']);
});

test('groups on this machine come and go without a trace', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, async () => {
  const prefix = `gantry-test/${process.pid}`;
  const cgroups = openCgroups({ root: prefix, log: silentLog });
  try {
    await cgroups.create('u3', 'Burstable', { cpuShares: 128, cpuPeriodUs: 100_000 });
    assert.deepEqual(cgroups.pods(), ['u3']);
    const child = spawn('sleep', ['60'], { stdio: 'ignore' });
    const ended = once(child, 'exit');
    const hierarchy = cgroups.version === 1 ? '/sys/fs/cgroup/cpu' : '/sys/fs/cgroup';
    // As a container would be: v2 lets nobody live in a group that passes controllers on.
    const group = join(hierarchy, cgroups.podPath('u3', 'Burstable'), 'container');
    mkdirSync(group);
    writeFileSync(join(group, 'cgroup.procs'), String(child.pid));
    assert.equal(await cgroups.remove('u3'), false, 'somebody lives in it');
    assert.equal(cgroups.killLeft('u3'), 1);
    await ended;
    while (!(await cgroups.remove('u3'))) await immediate();
    assert.deepEqual(cgroups.pods(), []);
    assert.equal(await cgroups.remove('u3'), true);
  } finally {
    await cgroups.removeAll();
  }
  assert.equal(existsSync('/sys/fs/cgroup/cpu/gantry-test'), false);
  assert.equal(existsSync('/sys/fs/cgroup/gantry-test'), false);
});
