import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkSuccessPolicy } from '#api/batch/success-policy.ts';
import type { Errors } from '#api/validate.ts';

function problems(rule: object, completions = 5): string[] {
  const errors: Errors = [];
  const template = { spec: { containers: [] } };
  const spec = { template, completionMode: 'Indexed', completions };
  checkSuccessPolicy(errors, 'p', { ...spec, successPolicy: { rules: [rule] } });
  return errors.map(({ path, message }) => `${path.replace('p.rules[0]', '')} ${message}`);
}

test('indexes are intervals in order, below the completions', () => {
  assert.deepEqual(problems({ succeededIndexes: '0,2-4', succeededCount: 4 }), []);
  for (const [succeededIndexes, why] of [
    ['3-1', 'non-increasing order, previous: 3, current: 1'],
    ['1,1', 'non-increasing order, previous: 1, current: 1'],
    ['5', 'too large index: "5"'],
    ['a', 'cannot convert string to integer for index: "a"'],
  ]) {
    assert.deepEqual(problems({ succeededIndexes }), [
      `.succeededIndexes Invalid value: "${succeededIndexes}": error parsing succeededIndexes: ${why}`,
    ]);
  }
  assert.match(problems({ succeededIndexes: '1-2-3' })[0] ?? '', /at most two parts separated by/);
});

test('no more can succeed than there are', () => {
  assert.deepEqual(problems({ succeededCount: 9, succeededIndexes: '0-1' }), [
    '.succeededCount Invalid value: 9: must be less than or equal to 5 (the number of specified completions)',
    '.succeededCount Invalid value: 9: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)',
  ]);
  assert.equal(problems({}).length, 1);
});
