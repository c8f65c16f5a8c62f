import assert from 'node:assert/strict';
import { test } from 'node:test';
import { invalid } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';

test('an object is shown with the names, order and zero values of its internal type', () => {
  assert.equal(
    JSON.stringify(internalForm('ServicePort', { port: 80, protocol: 'TCP' })),
    '{"Name":"","Protocol":"TCP","AppProtocol":null,"Port":80,"TargetPort":0,"NodePort":0}',
  );
  assert.equal(
    JSON.stringify(internalForm('VolumeAttachmentSpec', { attacher: 'd' })),
    '{"Attacher":"d","Source":{"PersistentVolumeName":null,"InlineVolumeSpec":null},"NodeName":""}',
  );
  assert.deepEqual(internalForm('IP', [{ ip: '::1' }]), [{ IP: '::1' }]);
  assert.equal(internalForm('NodeSelector', undefined), null);
});

test('texts are quoted as Go does it, objects are safe inside HTML', () => {
  const shown = (value: unknown): string => invalid('a', value, '').message;
  assert.equal(
    shown('a\u0007\u0001\n"\\u0007\u007f'),
    String.raw`Invalid value: "a\a\x01\n\"\\u0007\x7f"`,
  );
  assert.equal(shown({ a: '<b>' }), String.raw`Invalid value: {"a":"\u003cb\u003e"}`);
});
