import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrue, parseRequestInfo } from '#apiserver/request-info.ts';

/** method, url → verb, group/version, resource/subresource, namespace/name, rest */
const CASES: [string, string, string, string, string, string, string][] = [
  ['GET', '/api/v1/pods', 'list', '/v1', 'pods/', '/', ''],
  ['GET', '/api/v1/pods?watch=true', 'watch', '/v1', 'pods/', '/', ''],
  ['GET', '/api/v1/pods?watch=0', 'list', '/v1', 'pods/', '/', ''],
  ['GET', '/api/v1/namespaces/a/pods/p', 'get', '/v1', 'pods/', 'a/p', ''],
  ['HEAD', '/api/v1/namespaces/a/pods/p', 'get', '/v1', 'pods/', 'a/p', ''],
  ['GET', '/api/v1/namespaces/a/pods/p/', 'get', '/v1', 'pods/', 'a/p', ''],
  ['GET', '/api/v1/namespaces/a/pods/p/log?follow=1', 'get', '/v1', 'pods/log', 'a/p', ''],
  ['POST', '/apis/apps/v1/namespaces/a/deployments', 'create', 'apps/v1', 'deployments/', 'a/', ''],
  [
    'PUT',
    '/apis/apps/v1/namespaces/a/deployments/d/scale',
    'update',
    'apps/v1',
    'deployments/scale',
    'a/d',
    '',
  ],
  [
    'DELETE',
    '/apis/apps/v1/namespaces/a/deployments',
    'deletecollection',
    'apps/v1',
    'deployments/',
    'a/',
    '',
  ],
  [
    'DELETE',
    '/apis/apps/v1/namespaces/a/deployments/d',
    'delete',
    'apps/v1',
    'deployments/',
    'a/d',
    '',
  ],
  ['GET', '/api/v1/namespaces/a', 'get', '/v1', 'namespaces/', 'a/a', ''],
  ['PUT', '/api/v1/namespaces/a/finalize', 'update', '/v1', 'namespaces/finalize', 'a/a', ''],
  ['GET', '/api/v1/namespaces', 'list', '/v1', 'namespaces/', '/', ''],
  ['GET', '/api/v1/watch/namespaces/a/pods', 'watch', '/v1', 'pods/', 'a/', ''],
  ['GET', '/api/v1/watch/pods/p', 'watch', '/v1', 'pods/', '/p', ''],
  ['GET', '/api/v1/namespaces/a/pods/p/proxy/x/y', 'get', '/v1', 'pods/proxy', 'a/p', '/x/y'],
  ['PATCH', '/api/v1/namespaces/a/configmaps/b%2Ec', 'patch', '/v1', 'configmaps/', 'a/b.c', ''],
];

for (const [method, url, verb, version, resource, place, rest] of CASES) {
  test(`${method} ${url} is ${verb} of ${resource}`, () => {
    const info = parseRequestInfo(method, url);
    assert.equal(info.isResource, true);
    assert.deepEqual(
      [
        info.verb,
        `${info.group}/${info.version}`,
        `${info.resource}/${info.subresource}`,
        `${info.namespace}/${info.name}`,
        info.rest,
      ],
      [verb, version, resource, place, rest],
    );
  });
}

test('paths outside the API are no resource requests', () => {
  for (const url of [
    '/',
    '/healthz',
    '/api',
    '/api/v1',
    '/api/v1/',
    '/apis/apps',
    '/apis/apps/v1',
  ]) {
    const info = parseRequestInfo('POST', url);
    assert.equal(info.isResource, false, url);
    assert.equal(info.verb, 'post', url);
  }
});

test('a field selector on the name makes a collection request one about that name', () => {
  const info = parseRequestInfo('GET', '/api/v1/secrets?fieldSelector=x%3Dy%2Cmetadata.name%3Da');
  assert.equal(info.selectedName, 'a');
  const other = parseRequestInfo('GET', '/api/v1/secrets?fieldSelector=metadata.name!%3Da');
  assert.equal(other.selectedName, undefined);
});

test('broken percent encoding is a bad request', () => {
  assert.throws(() => parseRequestInfo('GET', '/api/v1/namespaces/%zz/pods'), { code: 400 });
});

test('query booleans are false only when they say so', () => {
  assert.deepEqual([null, '0', 'false', 'False', '1', 'true', '', 'perhaps'].map(isTrue), [
    false,
    false,
    false,
    false,
    true,
    true,
    true,
    true,
  ]);
});
