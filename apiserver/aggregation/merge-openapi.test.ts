import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mergeOpenApi2, openApiOf } from '#apiserver/aggregation/merge-openapi.ts';

const ref = (name: string) => ({ schema: { $ref: `#/definitions/${name}` } });
const theirs = JSON.stringify({
  swagger: '2.0',
  paths: {
    '/apis/wardle.example.com/v1/flunders': { get: ref('Flunder') },
    '/apis/apps/v1/deployments': { get: ref('Deployment') },
  },
  definitions: {
    Flunder: { properties: { meta: { $ref: '#/definitions/Meta' } } },
    Meta: { type: 'object' },
    Deployment: {},
  },
});

test('of another server counts what it says about its own group version', () => {
  const found = openApiOf(theirs, '/apis/wardle.example.com/v1');
  assert.deepEqual(Object.keys(found?.paths ?? {}), ['/apis/wardle.example.com/v1/flunders']);
  assert.deepEqual(Object.keys(found?.definitions ?? {}), ['Flunder', 'Meta']);
  assert.equal(openApiOf('{', '/apis/x/v1'), undefined);
  assert.equal(openApiOf(theirs, '/apis/x/v1'), undefined);
  assert.equal(openApiOf('{"paths":3}', '/apis/x/v1'), undefined);
});

test('equal definitions are shared, others get a number', () => {
  const own = { paths: {}, definitions: { Meta: { type: 'string' }, Same: {} } };
  const other = openApiOf(theirs, '/apis/wardle.example.com/v1');
  assert.ok(other);
  mergeOpenApi2(own, [other]);
  assert.deepEqual(own.definitions, {
    Meta: { type: 'string' },
    Same: {},
    Flunder: { properties: { meta: { $ref: '#/definitions/Meta_v2' } } },
    Meta_v2: { type: 'object' },
  });
  assert.deepEqual(own.paths, {
    '/apis/wardle.example.com/v1/flunders': { get: ref('Flunder') },
  });
});
