import assert from 'node:assert/strict';
import { test } from 'node:test';
import { customKinds } from '#api/apiextensions/custom-kinds.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';
import type { AskWebhook } from '#apiserver/extensions/conversion.ts';
import { convertedEntry, createConversion } from '#apiserver/extensions/conversion.ts';
import { CacheEntry } from '#apiserver/watch-cache-entry.ts';

const GROUP = 'stable.example.com';
const free = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
const version = (name: string) => ({
  name,
  served: true,
  storage: name === 'v1',
  schema: { openAPIV3Schema: { type: 'object', properties: { spec: free } } },
});

const definition: CustomResourceDefinition = {
  metadata: { name: `widgets.${GROUP}` },
  spec: {
    group: GROUP,
    scope: 'Cluster',
    names: { plural: 'widgets', kind: 'Widget' },
    versions: [version('v1'), version('v2')],
    conversion: { strategy: 'Webhook', webhook: { conversionReviewVersions: ['v1'] } },
  },
};
const [v2, v1] = customKinds(definition) as [Kind, Kind];

type Review = { request: { uid: string; desiredAPIVersion: string; objects: KubeObject[] } };

/** A webhook that notes the version in the spec. */
function webhook(change: (object: KubeObject) => object = (object) => object) {
  const calls: string[] = [];
  const ask: AskWebhook = async (_, review) => {
    const { uid, desiredAPIVersion, objects } = (review as Review).request;
    calls.push(`${desiredAPIVersion} ${objects.map(({ metadata }) => metadata.name).join(',')}`);
    const convertedObjects = objects.map((object) =>
      change({ ...object, apiVersion: desiredAPIVersion, spec: { via: desiredAPIVersion } }),
    );
    return { response: { uid, result: { status: 'Success' }, convertedObjects } };
  };
  return { calls, conversion: createConversion(() => definition, ask) };
}

function entry(name: string): CacheEntry {
  const object = {
    apiVersion: `${GROUP}/v1`,
    kind: 'Widget',
    metadata: { resourceVersion: '5', name, uid: 'u' },
    spec: { a: 1 },
  };
  const wire = Buffer.from(JSON.stringify(object));
  return new CacheEntry({ id: name, createRevision: 5, revision: 5, wire });
}

test('objects are converted once for each version, many at a time', async () => {
  const { calls, conversion } = webhook();
  const entries = [entry('a'), entry('b')];
  assert.equal(conversion.prepare(v1, entries), undefined);
  await conversion.prepare(v2, entries);
  assert.equal(conversion.prepare(v2, entries), undefined);
  assert.deepEqual(calls, [`${GROUP}/v2 a,b`]);
  assert.deepEqual(convertedEntry(v2, entries[0] as CacheEntry)?.['spec'], { via: `${GROUP}/v2` });
});

test('what is written is converted to the stored version', async () => {
  const { conversion } = webhook();
  const object = { apiVersion: `${GROUP}/v2`, kind: 'Widget', metadata: { name: 'a' }, spec: {} };
  const stored = await conversion.convert(object, v2, v1);
  assert.equal(stored?.apiVersion, `${GROUP}/v1`);
  assert.equal(conversion.convert(object, v1, v1), undefined);
});

test('a webhook may not change who an object is', async () => {
  const renamed = webhook((object) => ({ ...object, metadata: { name: 'other', uid: 'u' } }));
  await assert.rejects(
    async () => renamed.conversion.prepare(v2, [entry('a')]),
    /conversion webhook for stable.example.com\/v1, Kind=Widget failed: .*name must not be changed/,
  );
  const relabelled = webhook((object) => ({
    ...object,
    metadata: { name: 'a', uid: 'u', labels: { x: 'y' }, finalizers: ['no'] },
  }));
  const one = entry('a');
  await relabelled.conversion.prepare(v2, [one]);
  const { metadata } = convertedEntry(v2, one) as KubeObject;
  assert.deepEqual(metadata.labels, { x: 'y' });
  assert.equal(metadata.finalizers, undefined);
});

test('a webhook that fails is told of', async () => {
  const failing = createConversion(
    () => definition,
    async () => {
      throw new Error('no such host');
    },
  );
  await assert.rejects(
    async () => failing.prepare(v2, [entry('a')]),
    /Internal error occurred: conversion webhook for .* failed: no such host/,
  );
});
