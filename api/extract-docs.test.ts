import assert from 'node:assert/strict';
import { test } from 'node:test';
import { betterText, readDocs } from '#api/extract-docs.ts';

test('what members of a named type are for is read with its layout', () => {
  const { texts } = readDocs();
  const of = (name: string): string => texts.get(`io.k8s.api.${name}`) ?? '';
  assert.match(of('rbac.v1.RoleBinding#roleRef'), /^RoleRef can reference a Role/);
  assert.match(of('storage.v1.StorageClass#volumeBindingMode'), /bound\. {2}When/);
  assert.match(of('core.v1.Pod'), /^Pod is a collection of containers/);
});

test('the newer words count, in the better layout', () => {
  assert.equal(betterText('a b', 'a\n\nb'), 'a\n\nb');
  assert.equal(betterText('a c', 'a\n\nb'), 'a c');
  assert.equal(betterText(undefined, 'b'), 'b');
  assert.equal(betterText('a.  b', undefined), 'a.\n\nb');
  assert.equal(betterText(undefined, undefined), undefined);
});
