import assert from 'node:assert/strict';
import { test } from 'node:test';
import { builtinKinds } from '#api/kinds.ts';
import { buildScheme } from '#api/scheme.ts';
import { createDiscovery } from '#apiserver/discovery.ts';

const discovery = createDiscovery(buildScheme(builtinKinds), { serverAddress: '10.0.0.1:6443' });
type Json = { [member: string]: Json } & Json[];
const read = (path: string, accept?: string): Json => {
  const document = discovery.document(path, accept);
  assert.ok(document, path);
  return JSON.parse(Buffer.from(document.body).toString()) as Json;
};
const V2 = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';

test('roots list versions and groups', () => {
  assert.deepEqual(read('/api'), {
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [{ clientCIDR: '0.0.0.0/0', serverAddress: '10.0.0.1:6443' }],
  });
  const names = read('/apis')['groups']?.map((group) => String(group['name'])) ?? [];
  assert.ok(names.indexOf('apps') < names.indexOf('rbac.authorization.k8s.io'));
  assert.ok(!names.includes(''));
  assert.deepEqual(read('/apis/apps'), {
    kind: 'APIGroup',
    apiVersion: 'v1',
    name: 'apps',
    versions: [{ groupVersion: 'apps/v1', version: 'v1' }],
    preferredVersion: { groupVersion: 'apps/v1', version: 'v1' },
  });
});

test('what is not there has no document', () => {
  for (const path of [
    '/apis/none',
    '/apis/apps/v9',
    '/api/v2',
    '/api/v1/pods',
    '/other',
    '/apis/',
  ]) {
    const isThere = path === '/apis/';
    assert.equal(discovery.document(path) !== undefined, isThere, path);
  }
});

test('resource lists name subresources and the kinds of their bodies', () => {
  const list = read('/apis/apps/v1');
  const resources = new Map((list['resources'] ?? []).map((r) => [String(r['name']), r]));
  assert.deepEqual(resources.get('deployments'), {
    name: 'deployments',
    singularName: 'deployment',
    namespaced: true,
    kind: 'Deployment',
    verbs: ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'],
    shortNames: ['deploy'],
    categories: ['all'],
    storageVersionHash: '8aSe+NMegvE=',
  });
  assert.deepEqual(resources.get('deployments/scale'), {
    name: 'deployments/scale',
    singularName: '',
    namespaced: true,
    group: 'autoscaling',
    version: 'v1',
    kind: 'Scale',
    verbs: ['get', 'patch', 'update'],
  });
  const core = read('/api/v1')['resources'] ?? [];
  const pods = core.find((r) => String(r['name']) === 'pods');
  assert.equal(String(pods?.['storageVersionHash']), 'xPOwRZ+Yhw8=');
});

test('the aggregated form is chosen by the Accept header, with an ETag', () => {
  const list = read('/apis', `${V2},application/json`);
  assert.equal(String(list['kind']), 'APIGroupDiscoveryList');
  const apps = list['items']?.find((item) => String(item['metadata']?.['name']) === 'apps');
  const resource = apps?.['versions']?.[0]?.['resources']?.find(
    (r) => String(r['resource']) === 'deployments',
  );
  assert.deepEqual(resource?.['subresources']?.[0], {
    subresource: 'scale',
    responseKind: { group: 'autoscaling', version: 'v1', kind: 'Scale' },
    verbs: ['get', 'patch', 'update'],
  });
  const document = discovery.document('/api', V2);
  assert.equal(document?.contentType, V2);
  assert.match(document?.etag ?? '', /^"[0-9A-F]{128}"$/);
  assert.equal(String(read('/apis', `application/json,${V2}`)['kind']), 'APIGroupList');
  assert.equal(String(read('/apis', V2.replace('v2', 'v3'))['kind']), 'APIGroupList');
});
