import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PROTOBUF, bodyType, negotiate } from '#apiserver/negotiate.ts';

const TABLE = 'application/json;as=Table;v=v1;g=meta.k8s.io';

test('JSON is the answer to everything that allows it', () => {
  for (const accept of [
    undefined,
    '',
    '*/*',
    'application/*',
    'application/json;q=0.2, text/html',
  ]) {
    assert.equal(negotiate(accept).media, 'application/json', String(accept));
  }
});

test('the best quality wins, then the order of the client', () => {
  assert.equal(negotiate('application/json;q=0.5,application/yaml').media, 'application/yaml');
  assert.equal(negotiate('application/yaml,application/json').media, 'application/yaml');
  assert.equal(negotiate('application/vnd.kubernetes.protobuf,application/json').media, PROTOBUF);
  assert.equal(negotiate(`application/json,${PROTOBUF}`).media, 'application/json');
  assert.equal(negotiate(`application/json;q=0.9,${PROTOBUF}`).media, PROTOBUF);
});

test('protobuf is for types that have a message, and for the metadata of all', () => {
  const textual = { textual: true };
  assert.equal(negotiate(`${PROTOBUF}, application/json`, textual).media, 'application/json');
  assert.throws(() => negotiate(PROTOBUF, textual), { code: 406 });
  const metadata = negotiate(`${PROTOBUF};as=PartialObjectMetadata;v=v1;g=meta.k8s.io`, textual);
  assert.deepEqual([metadata.media, metadata.as?.kind], [PROTOBUF, 'PartialObjectMetadata']);
  // Tables are JSON or YAML only.
  const table = `${PROTOBUF};as=Table;v=v1;g=meta.k8s.io,${TABLE},${PROTOBUF}`;
  assert.deepEqual(negotiate(table), negotiate(TABLE));
  assert.equal(negotiate(`${PROTOBUF};stream=watch`, { streaming: true }).media, PROTOBUF);
});

test('CBOR is not spoken here', () => {
  assert.throws(() => negotiate('application/cbor'), { code: 406 });
  assert.equal(negotiate('application/cbor,application/json').media, 'application/json');
  assert.throws(() => bodyType('application/cbor'), { code: 415 });
});

test('tables and metadata are forms of the same objects', () => {
  assert.deepEqual(negotiate(`${TABLE},application/json`).as, { kind: 'Table', version: 'v1' });
  assert.equal(negotiate('application/json;as=Unknown;v=v1;g=meta.k8s.io,*/*').as, undefined);
});

test('reviews have no table', () => {
  assert.throws(() => negotiate(TABLE, { tableless: true }), { code: 406 });
  assert.equal(negotiate(`${TABLE},application/json`, { tableless: true }).as, undefined);
  assert.equal(negotiate(TABLE).as?.kind, 'Table');
});

test('what cannot be served is refused by name', () => {
  const refused = { code: 406, reason: 'NotAcceptable' };
  assert.throws(() => negotiate('text/plain'), refused);
  assert.throws(() => negotiate('application/json;q=0'), refused);
  assert.throws(() => negotiate('application/json;as=Nothing;v=v1;g=meta.k8s.io'), refused);
  assert.throws(() => negotiate('application/yaml', { streaming: true }), refused);
});

test('bodies are JSON unless they say what they are', () => {
  assert.equal(bodyType(undefined), 'json');
  assert.equal(bodyType('application/JSON; charset=utf-8'), 'json');
  assert.equal(bodyType('application/yaml'), 'yaml');
  assert.equal(bodyType('application/vnd.kubernetes.protobuf'), 'protobuf');
  assert.throws(() => bodyType('text/plain'), { code: 415, reason: 'UnsupportedMediaType' });
});
