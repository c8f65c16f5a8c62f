import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attributes } from '#apiserver/authz/authorizer.ts';
import { describeRule, missingRights, parseRule, ruleAllows } from '#apiserver/authz/rules.ts';

/** `verb group resource[/sub] [name]`, or `verb /path`. */
function request(text: string): Attributes {
  const [verb = '', second = '', third = '', name = ''] = text.split(' ');
  const isResource = !second.startsWith('/');
  const [resource = '', subresource = ''] = third.split('/');
  const user = { name: 'u', groups: [] };
  const place = { resource, subresource, namespace: '', name };
  const group = second === 'core' ? '' : second;
  return { user, verb, group, version: 'v1', ...place, isResource, path: isResource ? '' : second };
}

test('what a rule allows', () => {
  const cases: [rule: string, request: string, allowed: boolean][] = [
    ['get | core | pods', 'get core pods', true],
    ['get | core | pods', 'get core pods x', true],
    ['get | core | pods', 'list core pods', false],
    ['get | core | pods', 'get apps pods', false],
    ['get | core | pods', 'get core pods/log x', false],
    ['get | core | pods/log', 'get core pods/log x', true],
    ['get | core | pods/log', 'get core pods x', false],
    ['get | core | *', 'get core pods/log x', true],
    ['get | * | */scale', 'get apps deployments/scale x', true],
    ['get | * | */scale', 'get apps deployments x', false],
    ['* | * | *', 'impersonate core users jane', true],
    ['* | * | *', 'get /metrics', false],
    ['get | core | configmaps | a b', 'get core configmaps b', true],
    ['get | core | configmaps | a b', 'get core configmaps c', false],
    ['get | core | configmaps | a', 'get core configmaps', false],
    ['get | /healthz /api/*', 'get /healthz', true],
    ['get | /healthz /api/*', 'get /healthz/ping', false],
    ['get | /healthz /api/*', 'get /api/v1', true],
    ['get | *', 'get /anything', true],
    ['get | *', 'post /anything', false],
  ];
  for (const [rule, wanted, allowed] of cases) {
    assert.equal(ruleAllows(parseRule(rule), request(wanted)), allowed, `${rule} <- ${wanted}`);
  }
});

test('what is missing is named right by right, joined by resource', () => {
  const held = [
    'get | core | configmaps',
    'get list | core | secrets | a',
    'get | /api/*',
    'update | apps | */scale',
  ].map(parseRule);
  const cases: [string, string[]][] = [
    ['get | core | configmaps', []],
    ['get | core | configmaps | any', []],
    ['list | core | secrets | a', []],
    [
      'get list | core | secrets',
      ['{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}'],
    ],
    ['get | /api/v1', []],
    ['get | /metrics', ['{NonResourceURLs:["/metrics"], Verbs:["get"]}']],
    ['update | apps | deployments/scale', []],
    ['* | * | *', ['{APIGroups:["*"], Resources:["*"], Verbs:["*"]}']],
    [
      'get | core | secrets | a b',
      ['{APIGroups:[""], Resources:["secrets"], ResourceNames:["b"], Verbs:["get"]}'],
    ],
  ];
  for (const [wanted, missing] of cases) {
    assert.deepEqual(missingRights(held, [parseRule(wanted)]).map(describeRule), missing, wanted);
  }
});

test('a line that is not a rule is refused', () => {
  assert.throws(() => parseRule('get'), /not a rule/);
});
