import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isConfigMapKey,
  isDns1035Label,
  isDns1123Label,
  isDns1123Subdomain,
  isDns1123SubdomainWithUnderscore,
  isEnvVarName,
  isLabelValue,
  isPathSegment,
  isPortName,
  isQualifiedName,
  isWildcardDns1123Subdomain,
  nameIsDnsSubdomain,
} from '#api/validate-names.ts';

type Row = [value: string, ok: boolean];

const TABLES: [name: string, check: (value: string) => string[], rows: Row[]][] = [
  [
    'label',
    isDns1123Label,
    [
      ['a', true],
      ['1-a', true],
      ['a'.repeat(63), true],
      ['a'.repeat(64), false],
      ['', false],
      ['A', false],
      ['-a', false],
      ['a.b', false],
    ],
  ],
  [
    'subdomain',
    isDns1123Subdomain,
    [
      ['a.b-c.d', true],
      ['a'.repeat(253), true],
      ['a'.repeat(254), false],
      ['a..b', false],
      ['a.-b', false],
      ['a_b', false],
    ],
  ],
  [
    'search domain',
    isDns1123SubdomainWithUnderscore,
    [
      ['_sip._tcp.abc_d.example.com', true],
      ['__a', false],
      ['a_', false],
      ['_', false],
    ],
  ],
  [
    'DNS-1035 label',
    isDns1035Label,
    [
      ['a1', true],
      ['1a', false],
      ['a-', false],
    ],
  ],
  [
    'wildcard',
    isWildcardDns1123Subdomain,
    [
      ['*.a.com', true],
      ['*', false],
      ['a.*.com', false],
    ],
  ],
  [
    'qualified name',
    isQualifiedName,
    [
      ['Some_name.x', true],
      ['example.com/Name', true],
      ['/name', false],
      ['a/b/c', false],
      ['example.com/', false],
      ['Bad_Prefix/name', false],
      [`a/${'x'.repeat(64)}`, false],
    ],
  ],
  [
    'label value',
    isLabelValue,
    [
      ['', true],
      ['A.b_c-1', true],
      ['a b', false],
      ['-a', false],
      ['a'.repeat(64), false],
    ],
  ],
  [
    'config map key',
    isConfigMapKey,
    [
      ['a.B_c-1', true],
      ['.', false],
      ['..', false],
      ['..a', false],
      ['a/b', false],
    ],
  ],
  [
    'environment variable',
    isEnvVarName,
    [
      ['A', true],
      ['a.b', true],
      ['a=b', false],
      ['', false],
    ],
  ],
  [
    'port name',
    isPortName,
    [
      ['http-1', true],
      ['1234', false],
      ['a--b', false],
      ['-a', false],
      ['a'.repeat(16), false],
    ],
  ],
  [
    'path segment',
    isPathSegment,
    [
      ['system:node', true],
      ['.', false],
      ['a/b', false],
      ['a%b', false],
    ],
  ],
];

for (const [name, check, rows] of TABLES) {
  test(`${name}: what passes and what does not`, () => {
    for (const [value, ok] of rows) {
      assert.equal(check(value).length === 0, ok, `${JSON.stringify(value)}: ${check(value)}`);
    }
  });
}

test('messages are the ones that clients know', () => {
  assert.deepEqual(isDns1123Subdomain('A'), [
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
  ]);
  assert.deepEqual(isDns1123Label('a'.repeat(64)), ['must be no more than 63 characters']);
  assert.deepEqual(isQualifiedName('/a'), ['prefix part must be non-empty']);
});

test('a generated name may end as its suffix will continue', () => {
  assert.deepEqual(nameIsDnsSubdomain('web-', true), []);
  assert.equal(nameIsDnsSubdomain('web-', false).length, 1);
});
