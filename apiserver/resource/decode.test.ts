import assert from 'node:assert/strict';
import { test } from 'node:test';
import { strictFaults } from '#apiserver/resource/decode.ts';

test('faults of a JSON body are named in its order, those of others duplicates first', () => {
  const text = Buffer.from('{"spec":{"odd":1,"replicas":2,"replicas":3,"even":[{"x":1}]}}');
  const unknown = ['unknown field "spec.even[0].x"', 'unknown field "spec.odd"'];
  const duplicate = 'duplicate field "spec.replicas"';
  assert.deepEqual(strictFaults(unknown, ['spec.replicas'], text), [
    'unknown field "spec.odd"',
    duplicate,
    'unknown field "spec.even[0].x"',
  ]);
  assert.deepEqual(strictFaults(unknown, ['spec.replicas']), [duplicate, ...unknown]);
  assert.deepEqual(strictFaults(unknown, [], text), unknown);
});
