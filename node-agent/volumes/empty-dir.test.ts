import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '#api/types.ts';
import { pageSize } from '#node-agent/volumes/empty-dir.ts';

const MIB = 1024 ** 2;

const asking = (...sizes: string[]): Pod => ({
  metadata: { name: 'p' },
  spec: {
    containers: sizes.map((size) => ({
      name: `c-${size.toLowerCase()}`,
      resources: { requests: { cpu: '1', [`hugepages-${size}`]: size } },
    })),
  },
});

test('the size of a volume’s huge pages is what the medium names and the pod asks for', () => {
  const table: [string[], string, number | RegExp][] = [
    [['2Mi'], 'HugePages', 2 * MIB],
    [['2Mi', '2Mi'], 'HugePages', 2 * MIB],
    [['2Mi', '1Gi'], 'HugePages-1Gi', 1024 * MIB],
    [['2Mi', '1Gi'], 'HugePages', /"v".*of one size; these are 2Mi and 1Gi/],
    [['1Gi'], 'HugePages-2Mi', /"v".*requests hugepages-2Mi/],
    [[], 'HugePages', /requests hugepages-<size>/],
  ];
  for (const [sizes, medium, wanted] of table) {
    const find = () => pageSize(asking(...sizes), 'v', medium);
    if (typeof wanted === 'number') assert.equal(find(), wanted, medium);
    else assert.throws(find, wanted);
  }
});
