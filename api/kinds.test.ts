import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pod } from '#api/core/pod.ts';
import { apiVersionOf } from '#api/kind.ts';
import { asCreated, createErrors } from '#api/kind-probe.ts';
import { builtinKinds } from '#api/kinds.ts';
import type { KubeObject } from '#api/types.ts';

test('each kind is listed once, and can be told from the others', () => {
  const names = builtinKinds.map((kind) => `${apiVersionOf(kind)} ${kind.plural}`);
  assert.equal(new Set(names).size, names.length);
  for (const kind of builtinKinds) {
    const { plural, singular, shortNames = [] } = kind;
    assert.equal(plural, plural.toLowerCase());
    assert.ok(!shortNames.includes(plural) && !shortNames.includes(singular), kind.kind);
  }
});

test('a view is of a kind that is listed', () => {
  for (const kind of builtinKinds) {
    if (kind.storedAs) assert.ok(builtinKinds.includes(kind.storedAs.kind()), kind.kind);
  }
});

test('an object without a body of its own is refused or taken, never thrown at', () => {
  for (const kind of builtinKinds) {
    for (const input of [{}, { spec: {}, status: {} }]) {
      assert.doesNotThrow(
        () => createErrors(kind, { metadata: { name: 'x' }, ...input }),
        kind.kind,
      );
    }
  }
});

test('columns can print an object that was given nothing', () => {
  for (const kind of builtinKinds) {
    // What nobody can create is computed, in full.
    if (kind.verbs && !kind.verbs.includes('create')) continue;
    const bare = asCreated<KubeObject>(kind, { metadata: { name: 'x' } });
    for (const column of kind.columns ?? []) {
      assert.doesNotThrow(() => column.value(bare, 0), `${kind.kind} ${column.name}`);
    }
  }
});

test('a pod is made and checked in microseconds', () => {
  const input = {
    metadata: { name: 'p', labels: { app: 'a' } },
    spec: {
      containers: [
        {
          name: 'c',
          image: 'i:1',
          ports: [{ containerPort: 80 }],
          env: [{ name: 'A', value: 'b' }],
          resources: { requests: { cpu: '100m', memory: '64Mi' } },
        },
      ],
    },
  };
  const rounds = 2000;
  for (let i = 0; i < rounds; i++) createErrors(pod, input);
  const start = performance.now();
  for (let i = 0; i < rounds; i++) createErrors(pod, input);
  const micros = ((performance.now() - start) * 1000) / rounds;
  // 30 is the aim on an idle machine; ten times that means that something is wrong.
  assert.ok(micros < 300, `${micros} µs`);
});
