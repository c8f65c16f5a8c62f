import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seededRandom } from '#base/random.ts';
import { strategicMergePatch } from '#api/patch.ts';
import type { Definitions, Schema } from '#api/schema.ts';

const item: Schema = {
  type: 'object',
  properties: {
    name: { type: 'string' },
    image: { type: 'string' },
    args: { type: 'array', items: { type: 'string' } },
    env: {
      type: 'array',
      items: { type: 'object', properties: { name: { type: 'string' } } },
      'x-kubernetes-patch-merge-key': 'name',
      'x-kubernetes-patch-strategy': 'merge',
    },
  },
};
const definitions: Definitions = new Map<string, Schema>([
  ['Item', item],
  [
    'Root',
    {
      type: 'object',
      properties: {
        items: {
          type: 'array',
          items: { ref: 'Item' },
          'x-kubernetes-patch-merge-key': 'name',
          'x-kubernetes-patch-strategy': 'merge',
        },
        volumes: {
          type: 'array',
          items: { type: 'object', properties: { name: { type: 'string' } } },
          'x-kubernetes-patch-merge-key': 'name',
          'x-kubernetes-patch-strategy': 'merge,retainKeys',
        },
        words: {
          type: 'array',
          items: { type: 'string' },
          'x-kubernetes-patch-strategy': 'merge',
        },
        plain: { type: 'array', items: { type: 'object' } },
        labels: { type: 'object', additionalProperties: { type: 'string' } },
        whole: {
          type: 'object',
          additionalProperties: { type: 'string' },
          'x-kubernetes-patch-strategy': 'replace',
        },
        strategy: { type: 'object', properties: { type: { type: 'string' } } },
        child: { ref: 'Root' },
      },
    },
  ],
]);
const patch = (target: unknown, change: unknown): unknown =>
  strategicMergePatch(target, change, { ref: 'Root' }, definitions);
const names = (...all: string[]) => all.map((name) => ({ name }));

test('objects merge, null removes, what is new comes without nulls', () => {
  assert.deepEqual(patch({ labels: { a: '1', b: '2' } }, { labels: { a: null, c: '3' } }), {
    labels: { b: '2', c: '3' },
  });
  assert.deepEqual(patch({}, { child: { labels: { a: null, b: '1' } } }), {
    child: { labels: { b: '1' } },
  });
  assert.deepEqual(patch({ whole: { a: '1' } }, { whole: { b: '2' } }), { whole: { b: '2' } });
});

test('lists merge by their key; items of the patch that are new come first', () => {
  const target = {
    items: [
      { name: 'a', image: 'x' },
      { name: 'b', image: 'y', args: ['1'] },
    ],
  };
  assert.deepEqual(patch(target, { items: [{ name: 'b', image: 'y2' }] }), {
    items: [
      { name: 'a', image: 'x' },
      { name: 'b', image: 'y2', args: ['1'] },
    ],
  });
  assert.deepEqual(patch(target, { items: [{ name: 'c', args: null }] }), {
    items: [{ name: 'c' }, ...target.items],
  });
  assert.deepEqual(patch(target, { items: [{ name: 'a', $patch: 'delete' }] }), {
    items: [target.items[1]],
  });
  assert.deepEqual(patch(target, { items: [{ name: 'b', args: ['2'] }] }), {
    items: [target.items[0], { name: 'b', image: 'y', args: ['2'] }],
  });
  assert.deepEqual(patch({ plain: [{ a: 1 }] }, { plain: [{ b: 1 }] }), { plain: [{ b: 1 }] });
  assert.deepEqual(target.items.length, 2, 'the target stays as it was');
});

test('$patch replaces and deletes', () => {
  assert.deepEqual(patch({ labels: { a: '1' } }, { labels: { $patch: 'replace', b: '2' } }), {
    labels: { b: '2' },
  });
  assert.deepEqual(patch({ labels: { a: '1' } }, { labels: { $patch: 'delete' } }), { labels: {} });
  assert.deepEqual(
    patch({ items: names('a', 'b') }, { items: [{ $patch: 'replace' }, { name: 'z' }] }),
    { items: names('z') },
  );
  assert.deepEqual(
    patch({ items: names('a') }, { items: [...names('y', 'y', 'z'), { $patch: 'replace' }] }),
    { items: names('y', 'y', 'z') },
    'as it stands: a node has two addresses of one type',
  );
  assert.deepEqual(patch({}, { labels: { $patch: 'explode', a: '1' } }), { labels: { a: '1' } });
});

test('primitive lists are sets', () => {
  const target = { words: ['a'] };
  assert.deepEqual(patch(target, { words: ['b', 'a', 'c'] }), { words: ['b', 'a', 'c'] });
  assert.deepEqual(patch(target, { words: ['b', 'c'] }), { words: ['b', 'c', 'a'] });
  const three = { words: ['a', 'b', 'c'] };
  assert.deepEqual(patch(three, { '$deleteFromPrimitiveList/words': ['a', 'x'] }), {
    words: ['b', 'c'],
  });
  assert.deepEqual(patch(three, { '$deleteFromPrimitiveList/words': ['a', 'b', 'c'] }), {
    words: [],
  });
  assert.deepEqual(
    patch({ words: ['b', 'c'] }, { '$deleteFromPrimitiveList/words': ['b'], words: ['d'] }),
    { words: ['d', 'c'] },
  );
});

test('$setElementOrder orders what is merged', () => {
  const target = { items: names('a', 'b') };
  const order = (...all: string[]) => ({ '$setElementOrder/items': names(...all) });
  assert.deepEqual(patch(target, order('b', 'a')), { items: names('b', 'a') });
  assert.deepEqual(patch(target, { ...order('c', 'b', 'a'), items: names('c') }), {
    items: names('c', 'b', 'a'),
  });
  assert.deepEqual(
    patch({ items: names('c', 'b', 'a') }, { ...order('a'), items: [{ name: 'a', image: 'x' }] }),
    { items: [{ name: 'c' }, { name: 'b' }, { name: 'a', image: 'x' }] },
  );
  assert.deepEqual(
    patch({ words: ['a', 'b'] }, { '$setElementOrder/words': ['c', 'b', 'a'], words: ['c'] }),
    { words: ['c', 'b', 'a'] },
  );
  assert.deepEqual(patch({}, order('a')), {});
});

test('$retainKeys drops what is not named', () => {
  const target = { strategy: { type: 'RollingUpdate', rollingUpdate: {} } };
  assert.deepEqual(patch(target, { strategy: { $retainKeys: ['type'], type: 'Recreate' } }), {
    strategy: { type: 'Recreate' },
  });
  assert.deepEqual(
    patch(
      { volumes: [{ name: 'v', emptyDir: {} }] },
      { volumes: [{ name: 'v', $retainKeys: ['name', 'hostPath'], hostPath: {} }] },
    ),
    { volumes: [{ name: 'v', hostPath: {} }] },
  );
  const cleared = { $retainKeys: ['type'], type: 'Recreate', rollingUpdate: null };
  assert.deepEqual(patch(target, { strategy: cleared }), { strategy: { type: 'Recreate' } });
  assert.throws(() => patch(target, { strategy: { $retainKeys: [], type: 'x' } }), {
    code: 422,
    reason: 'Invalid',
  });
  assert.throws(() => patch(target, { strategy: { $retainKeys: 'type' } }), {
    code: 400,
    message: 'invalid patch format of retainKeys',
  });
});

test('patches that cannot be obeyed are refused in upstream words', () => {
  const target = { items: [{ name: 'c', image: 'n', args: [] }], labels: { a: '1' } };
  const table: [object, string][] = [
    [{ items: [{ image: 'x' }] }, 'map: map[image:x] does not contain declared merge key: name'],
    [
      { items: [{ name: 'c', $patch: 'merge' }] },
      'merging lists cannot yet be specified in the patch',
    ],
    [{ items: ['c'] }, 'list element types are not identical: [[map[args:[] image:n name:c]] [c]]'],
    [{ labels: { $patch: 'explode' } }, 'unknown patch type: explode in map: map[$patch:explode]'],
    [
      { '$setElementOrder/items': names('a', 'b'), items: [{ name: 'c', image: 'z2' }] },
      "The order in patch list:\n[map[image:z2 name:c]]\n doesn't match $setElementOrder list:\n[map[name:a] map[name:b]]\n",
    ],
  ];
  for (const [change, message] of table) {
    assert.throws(() => patch(target, change), { code: 500, message });
  }
});

test('applying a patch twice changes nothing more, and all items of the patch are there', () => {
  const random = seededRandom(5);
  const someNames = (): { name: string }[] =>
    ['a', 'b', 'c', 'd', 'e', 'f'].filter(() => random() < 0.5).map((name) => ({ name }));
  for (let round = 0; round < 500; round++) {
    const target = { items: someNames() };
    const change = { items: someNames() };
    const once = patch(target, change) as typeof target;
    assert.deepEqual(patch(once, change), once);
    const all = new Set([...target.items, ...change.items].map((one) => one.name));
    assert.deepEqual(new Set(once.items.map((one) => one.name)), all);
    assert.equal(once.items.length, all.size);
    const order = once.items.filter((one) => change.items.some((c) => c.name === one.name));
    assert.deepEqual(order, change.items, 'items of the patch keep its order');
  }
});
