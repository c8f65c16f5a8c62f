import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { amountsOf } from '#api/pod-resources.ts';
import { readThresholds } from '#node-agent/node/eviction-thresholds.ts';
import { readCapacity, readHugePages } from '#node-agent/node/node-facts.ts';

test('huge pages that were set aside, by their resource names', () => {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-pages-'));
  try {
    for (const [kib, count] of [
      [2048, 8],
      [1048576, 0],
      [64, 3],
    ]) {
      mkdirSync(join(dir, `hugepages-${kib}kB`));
      writeFileSync(join(dir, `hugepages-${kib}kB/nr_hugepages`), `${count}\n`);
    }
    assert.deepEqual(
      readHugePages(dir),
      new Map([
        ['hugepages-1Gi', 0],
        ['hugepages-2Mi', 16 * 1024 ** 2],
      ]),
    );
    assert.equal(readHugePages(join(dir, 'none')).get('hugepages-2Mi'), 0);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test('pods may use what the machine has, less what is reserved for the system and the agent', () => {
  const plain = amountsOf(readCapacity('/tmp').allocatable);
  const reserved = [{ cpu: '100m', memory: '64Mi' }, { cpu: '50m' }];
  const less = amountsOf(readCapacity('/tmp', { reserved }).allocatable);
  assert.equal((plain.get('cpu') ?? 0) - (less.get('cpu') ?? 0), 150);
  assert.equal((plain.get('memory') ?? 0) - (less.get('memory') ?? 0), 64 * 1024 ** 2);
  const thresholds = readThresholds({ evictionHard: 'memory.available<1124Mi' });
  const careful = amountsOf(readCapacity('/tmp', { thresholds }).allocatable);
  assert.equal((plain.get('memory') ?? 0) - (careful.get('memory') ?? 0), 1024 ** 3);
});
