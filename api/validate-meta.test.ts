import assert from 'node:assert/strict';
import { test } from 'node:test';
import { configMap } from '#api/core/config-map.ts';
import { namespace } from '#api/core/namespace.ts';
import { validateObjectMeta } from '#api/validate-meta.ts';
import { createErrors, updateErrors } from '#api/kind-probe.ts';

const metadata = (more: object) => ({ metadata: { name: 'a', ...more } });

/** The start of each error is enough to know it by. */
const ROWS: [what: string, metadata: object, errors: RegExp[]][] = [
  ['plain', {}, []],
  ['bad name', { name: 'A' }, [/^metadata\.name: Invalid value: "A": a lowercase RFC 1123 sub/]],
  [
    'label key and value',
    { labels: { 'a b': 'ok', ok: 'a b' } },
    [/^metadata\.labels: Invalid value: "a b": name part must/, /"a b": a valid label must be an/],
  ],
  ['label with prefix', { labels: { 'x.io/A': '' } }, []],
  [
    'annotation key',
    { annotations: { '/x': '' } },
    [/^metadata\.annotations: Invalid value: "\/x": prefix part must be non-empty/],
  ],
  [
    'too many annotations',
    { annotations: { a: 'x'.repeat(262_144) } },
    [/^metadata\.annotations: Too long: may not be more than 262144 bytes/],
  ],
  [
    'owner without uid',
    { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p', uid: '' }] },
    [/^metadata\.ownerReferences\.uid: Invalid value: "": must not be empty/],
  ],
  [
    'two controllers',
    {
      ownerReferences: ['p', 'q'].map((name) => ({
        apiVersion: 'v1',
        kind: 'Pod',
        name,
        uid: name,
        controller: true,
      })),
    },
    [/^metadata\.ownerReferences: Invalid value: .*Only one reference can have Controller set/],
  ],
  ['finalizer', { finalizers: ['x.io/a'] }, []],
  [
    'finalizer without prefix',
    { finalizers: ['mine'] },
    [/^metadata\.finalizers\[0\]: Invalid value: "mine": name is neither a standard finalizer/],
  ],
];

test('metadata: what a create is refused for', () => {
  for (const [what, fields, expected] of ROWS) {
    const errors = createErrors(configMap, metadata(fields));
    assert.equal(errors.length, expected.length, `${what}: ${errors.join('\n')}`);
    for (const [i, pattern] of expected.entries()) assert.match(errors[i] ?? '', pattern, what);
  }
});

test('finalizers of custom kinds are any names', () => {
  const thing = { scope: 'Namespaced', group: 'x.io', schema: { type: 'object' } } as const;
  const of = (finalizer: string) => {
    const object = { apiVersion: 'x.io/v1', kind: 'Thing' };
    const meta = { name: 'a', namespace: 'n', finalizers: [finalizer] };
    return validateObjectMeta({ ...object, metadata: meta }, thing).map(({ path }) => path);
  };
  assert.deepEqual(of('mine'), []);
  assert.deepEqual(of('not a name'), ['metadata.finalizers']);
});

test('names of namespaces are labels', () => {
  assert.match(
    createErrors(namespace, metadata({ name: 'a.b' }))[0] ?? '',
    /must not contain dots/,
  );
});

test('what identifies an object stays', () => {
  const before = metadata({ uid: 'u1', creationTimestamp: '2026-01-01T00:00:00Z' });
  const [error] = updateErrors(configMap, before, metadata({ uid: 'u2' }));
  assert.equal(error, 'metadata.uid: Invalid value: "u2": field is immutable');
});

test('a finalizer cannot join an object that is going', () => {
  const going = { deletionTimestamp: '2026-01-01T00:00:00Z', finalizers: ['x.io/a'] };
  const more = metadata({ ...going, finalizers: ['x.io/a', 'x.io/b'] });
  const errors = updateErrors(configMap, metadata(going), more);
  assert.equal(errors.length, 1);
  assert.match(errors[0] ?? '', /^metadata\.finalizers: Forbidden: no new finalizers can be added/);
});
