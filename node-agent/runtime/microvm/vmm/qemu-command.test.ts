import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type QemuCommand, qemuArguments, templateMemoryMib } from './qemu-command.ts';

const base: QemuCommand = {
  name: 'gantry-a',
  accelerator: 'TCG',
  memoryMib: 256,
  vcpus: 2,
  start: { kind: 'cold', tscKhz: 2_600_000 },
};
const text = (change: Partial<QemuCommand>): string =>
  qemuArguments({ ...base, ...change }).join(' ');

const TABLE: { is: string; change: Partial<QemuCommand>; has: RegExp[]; lacks: RegExp[] }[] = [
  {
    is: 'a cold boot has memory of its own and the clock rate',
    change: {},
    has: [
      /-kernel \/guest\/vmlinux/,
      /tsc_early_khz=2600000/,
      /memory-backend-ram/,
      /-accel tcg,tb-size=96/,
    ],
    lacks: [/-incoming/, /mem-path/],
  },
  {
    is: "a template's memory outlives it",
    change: { start: { kind: 'template', tscKhz: 1 } },
    has: [/mem-path=\/proc\/self\/fd\/3,share=on/, /-kernel/],
    lacks: [/-incoming/],
  },
  {
    is: 'a restored VM copies the memory on write and boots nothing',
    change: { start: { kind: 'restore' } },
    has: [/share=off/, /-incoming defer/],
    lacks: [/-kernel/, /-append/, /share=on/],
  },
  {
    is: 'mitigations stay on where a real processor runs the guest',
    change: { accelerator: 'KVM' },
    has: [/-cpu host/, /-accel kvm/],
    lacks: [/mitigations=off/],
  },
];

for (const { is, change, has, lacks } of TABLE)
  test(is, () => {
    for (const pattern of has) assert.match(text(change), pattern);
    for (const pattern of lacks) assert.doesNotMatch(text(change), pattern);
  });

test('a template and what is restored from it have the same devices', () => {
  const devices = (kind: 'template' | 'restore'): string[] =>
    qemuArguments({ ...base, start: kind === 'restore' ? { kind } : { kind, tscKhz: 1 } }).filter(
      (word, at, all) => all[at - 1] === '-device' || all[at - 1] === '-M' || word === '-cpu',
    );
  assert.deepEqual(devices('template'), devices('restore'));
});

test('nothing that could discard memory of a template, and the seccomp filter is on', () => {
  for (const kind of ['cold', 'template'] as const) {
    const line = text({ start: { kind, tscKhz: 1 } });
    assert.doesNotMatch(line, /balloon|free-page|virtio-mem/);
    assert.match(line, /-sandbox on,.*spawn=deny/);
  }
});

test('memory is rounded up to few sizes', () => {
  const sizes = [1, 128, 129, 200, 257, 513, 1025, 5000].map(templateMemoryMib);
  assert.deepEqual(sizes, [128, 128, 192, 256, 512, 1024, 2048, 8192]);
});
