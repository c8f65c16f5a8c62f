import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFieldSelector } from '#api/field-selector.ts';
import {
  compileLabelSelector,
  formatLabelSelector,
  matchesLabels,
  parseLabelSelector,
} from '#api/labels.ts';

const objects: Record<string, Record<string, string>> = {
  a: { app: 'x', tier: 'web' },
  b: { app: 'y', tier: 'db', n: '7' },
  c: { app: 'x', n: '12' },
  d: {},
};
const matching = (selector: string): string => {
  const parsed = parseLabelSelector(selector);
  return Object.keys(objects)
    .filter((name) => parsed.matches(objects[name]))
    .join('');
};

test('text selectors', () => {
  const table: Record<string, string> = {
    '': 'abcd',
    ' app = x ': 'ac',
    'app==x,tier=web': 'a',
    'app!=x': 'bd',
    'app in (x, y),tier': 'ab',
    'app notin (x)': 'bd',
    '!tier': 'cd',
    '! tier, app': 'c',
    'tier=': '',
    'app in ()': '',
    'app in (x,,)': 'ac',
    'n>7': 'c',
    'n<12': 'b',
    'in in (a)': '',
    'example.com/app!=1': 'abcd',
    constructor: '',
  };
  for (const [selector, names] of Object.entries(table)) {
    assert.equal(matching(selector), names, selector);
  }
});

test('text selectors that cannot be read are refused in upstream words', () => {
  const table: Record<string, RegExp> = {
    'n>x':
      /^unable to parse requirement: values\[0\]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer$/,
    'a in b': /^unable to parse requirement: found 'b' expected: '\('$/,
    'a in (b': /^unable to parse requirement: found '', expected: ',' or '\)'$/,
    'a,': /^found '', expected: identifier after ','$/,
    ',a': /^found ',', expected: !, identifier, or 'end of string'$/,
    'a b': /^unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt$/,
    'a=b c': /^found 'c', expected: ',' or 'end of string'$/,
    'a=-b':
      /^unable to parse requirement: values\[0\]\[a\]: Invalid value: "-b": a valid label must/,
    'a/b/c': /^unable to parse requirement: <nil>: Invalid value: "a\/b\/c": /,
  };
  for (const [selector, message] of Object.entries(table)) {
    assert.throws(() => parseLabelSelector(selector), { code: 400, message }, selector);
  }
});

test('object selectors', () => {
  const labels = { app: 'web', tier: 'a' };
  assert.ok(!matchesLabels(undefined, labels));
  assert.ok(matchesLabels({}, labels));
  assert.ok(matchesLabels({ matchLabels: { app: 'web' } }, labels));
  assert.ok(!matchesLabels({ matchLabels: { app: 'web', x: 'y' } }, labels));
  const expression = (operator: string, values?: string[]) => ({
    matchExpressions: [{ key: 'tier', operator, ...(values ? { values } : {}) }],
  });
  assert.ok(matchesLabels(expression('In', ['a', 'b']), labels));
  assert.ok(!matchesLabels(expression('NotIn', ['a', 'b']), labels));
  assert.ok(matchesLabels(expression('NotIn', ['a']), undefined));
  assert.ok(matchesLabels(expression('Exists'), labels));
  assert.ok(!matchesLabels(expression('DoesNotExist'), labels));
  assert.ok(!matchesLabels(expression('Near', ['a']), labels));
  const selector = { ...expression('NotIn', ['c', 'b']), matchLabels: { z: '1', app: 'web' } };
  assert.equal(formatLabelSelector(compileLabelSelector(selector)), 'app=web,tier notin (b,c),z=1');
});

test('field selectors', () => {
  const fields: Record<string, string> = { 'metadata.name': 'a', 'status.phase': 'Running' };
  const matches = (text: string): boolean =>
    parseFieldSelector(text).matches((field) => fields[field]);
  assert.ok(matches(''));
  assert.ok(matches('metadata.name=a,status.phase!=Pending'));
  assert.ok(matches('metadata.name==a'));
  assert.ok(!matches('metadata.name!=a'));
  assert.ok(matches('spec.nodeName='));
  assert.equal(parseFieldSelector('a=1,b!=2').exact('a'), '1');
  assert.equal(parseFieldSelector('a=1,b!=2').exact('b'), undefined);
  assert.deepEqual(parseFieldSelector(String.raw`a=x\,y\=z`).terms, [
    { field: 'a', equal: true, value: 'x,y=z' },
  ]);
  assert.throws(() => parseFieldSelector('a=1,b'), {
    code: 400,
    message: "invalid selector: 'a=1,b'; can't understand 'b'",
  });
  assert.throws(() => parseFieldSelector('a=b=c'), { code: 400 });
});
