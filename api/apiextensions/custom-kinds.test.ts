import assert from 'node:assert/strict';
import { test } from 'node:test';
import { customKinds } from '#api/apiextensions/custom-kinds.ts';
import type {
  CustomResourceDefinition,
  DefinitionVersion,
  SchemaProps,
} from '#api/apiextensions/definition-types.ts';
import type { FieldError } from '#api/field-error.ts';
import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';

const GROUP = 'stable.example.com';

function definition(...versions: Partial<DefinitionVersion>[]): CustomResourceDefinition {
  return {
    metadata: { name: `widgets.${GROUP}` },
    spec: {
      group: GROUP,
      scope: 'Namespaced',
      names: { plural: 'widgets', singular: 'widget', kind: 'Widget', listKind: 'WidgetList' },
      versions: versions.map((version, i) => ({
        name: 'v1',
        served: true,
        storage: i === 0,
        ...version,
      })),
    },
  };
}

const kindOf = (spec: SchemaProps, more: Partial<DefinitionVersion> = {}): Kind => {
  const openAPIV3Schema: SchemaProps = { type: 'object', properties: { spec } };
  const [kind] = customKinds(definition({ schema: { openAPIV3Schema }, ...more }));
  assert.ok(kind);
  return kind;
};

const widget = (spec: unknown, more: object = {}): KubeObject => ({
  apiVersion: `${GROUP}/v1`,
  kind: 'Widget',
  metadata: { name: 'w', namespace: 'default' },
  spec,
  ...more,
});

const texts = (errors: readonly FieldError[] = []): string[] =>
  errors.map(({ path, message }) => `${path}: ${message}`);

const object = (properties: Record<string, SchemaProps>, more: SchemaProps = {}): SchemaProps => ({
  type: 'object',
  properties,
  ...more,
});

const created = (spec: SchemaProps, value: unknown): string[] =>
  texts(kindOf(spec).validateCreate?.(widget(value)));

test('values are checked in upstream words', () => {
  const cases: [schema: SchemaProps, value: unknown, expected: string[]][] = [
    [
      { type: 'integer' },
      'x',
      ['spec.a: Invalid value: "string": spec.a in body must be of type integer: "string"'],
    ],
    [
      { type: 'integer' },
      1.5,
      [
        'spec.a: Invalid value: "number": spec.a in body must be of type integer: "number"',
        '<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.a',
      ],
    ],
    [{ type: 'number' }, 3, []],
    [
      { 'x-kubernetes-int-or-string': true },
      true,
      [
        'spec.a: Invalid value: "boolean": spec.a in body must be of type integer,string: "boolean"',
      ],
    ],
    [
      { type: 'string', enum: ['red', 'green'] },
      'blue',
      ['spec.a: Unsupported value: "blue": supported values: "red", "green"'],
    ],
    [{ type: 'string', maxLength: 2 }, 'åäö', ['spec.a: Too long: may not be more than 2 bytes']],
    [{ type: 'string', maxLength: 2 }, 'åä', []],
    [
      { type: 'string', format: 'ipv4' },
      'x',
      ['spec.a: Invalid value: "x": spec.a in body must be of type ipv4: "x"'],
    ],
    [{ type: 'string', format: 'nosuch' }, 'x', []],
    [
      { type: 'array', items: { type: 'string' }, maxItems: 1 },
      ['a', 'b'],
      ['spec.a: Too many: 2: must have at most 1 items'],
    ],
    [{ type: 'string', nullable: true }, null, []],
    [
      { type: 'integer', minimum: 1, exclusiveMinimum: true },
      1,
      ['spec.a: Invalid value: 1: spec.a in body should be greater than 1'],
    ],
    [
      { type: 'number', multipleOf: 0.5 },
      0.75,
      ['spec.a: Invalid value: 0.75: spec.a in body should be a multiple of 0.5'],
    ],
    [
      { type: 'array', items: { type: 'string' }, 'x-kubernetes-list-type': 'set' },
      ['x', 'y', 'x', 'x'],
      ['spec.a[2]: Duplicate value: "x"'],
    ],
    [object({ k: { type: 'string' } }, { required: ['k'] }), {}, ['spec.a.k: Required value']],
  ];
  for (const [schema, value, expected] of cases) {
    const found = created(object({ a: schema }), { a: value });
    assert.deepEqual(found, expected, JSON.stringify([schema, value]));
  }
});

test('patterns cannot take long', () => {
  const started = performance.now();
  const evil = object({ a: { type: 'string', pattern: '^(a+)+$' } });
  assert.equal(created(evil, { a: `${'a'.repeat(5000)}!` }).length, 1);
  assert.ok(performance.now() - started < 1_000);
});

test('what was stored may stay as it was', () => {
  const kind = kindOf(
    object({ s: { type: 'string', maxLength: 3 }, n: { type: 'integer' } }, { required: ['must'] }),
  );
  const old = widget({ s: 'toolong', n: 1 });
  const update = (spec: unknown) => texts(kind.validateUpdate?.(widget(spec), old));
  assert.deepEqual(update({ s: 'toolong', n: 1 }), []);
  assert.deepEqual(update({ s: 'toolong', n: 2 }), ['spec.must: Required value']);
  assert.deepEqual(update({ s: 'other', n: 1, must: 1 }), [
    'spec.s: Too long: may not be more than 3 bytes',
  ]);
});

test('rules see old values, name fields and reasons, and let unchanged values be', () => {
  const kind = kindOf(
    object(
      {
        fixed: {
          type: 'string',
          'x-kubernetes-validations': [{ rule: 'self == oldSelf', message: 'cannot change' }],
        },
        min: { type: 'integer' },
        max: { type: 'integer' },
      },
      {
        'x-kubernetes-validations': [
          {
            rule: '!has(self.min) || self.min <= self.max',
            messageExpression: '"%d is above %d".format([self.min, self.max])',
            fieldPath: '.min',
            reason: 'FieldValueForbidden',
          },
        ],
      },
    ),
  );
  assert.deepEqual(texts(kind.validateCreate?.(widget({ fixed: 'a', min: 1, max: 2 }))), []);
  assert.deepEqual(texts(kind.validateCreate?.(widget({ min: 3, max: 2 }))), [
    'spec.min: Forbidden: 3 is above 2',
  ]);
  const bad = widget({ fixed: 'a', min: 3, max: 2 });
  assert.deepEqual(texts(kind.validateUpdate?.(bad, bad)), []);
  const changed = widget({ fixed: 'b', min: 1, max: 2 });
  assert.deepEqual(texts(kind.validateUpdate?.(changed, bad)), [
    'spec.fixed: Invalid value: "b": cannot change',
  ]);
  const runtime = texts(kind.validateCreate?.(widget({ min: 1 })));
  assert.match(
    runtime[0] ?? '',
    /^spec: Invalid value: "object": no such key: max evaluating rule/,
  );
});

test('defaults fill in what is absent, also inside lists and maps', () => {
  const kind = kindOf(
    object({
      size: { type: 'integer', default: 3 },
      keep: { type: 'string', nullable: true, default: 'x' },
      list: { type: 'array', items: object({ p: { type: 'string', default: 'TCP' } }) },
      map: { type: 'object', additionalProperties: object({ q: { type: 'integer', default: 1 } }) },
    }),
  );
  const given = widget({ size: null, keep: null, list: [{}], map: { a: {} } });
  kind.defaults?.(given);
  assert.deepEqual(given['spec'], {
    size: 3,
    keep: null,
    list: [{ p: 'TCP' }],
    map: { a: { q: 1 } },
  });
});

test('versions share a storage and have their own schemas', () => {
  const schema = (properties: Record<string, SchemaProps>) => ({
    openAPIV3Schema: object({ spec: object(properties) }),
  });
  const kinds = customKinds(
    definition(
      {
        name: 'v1',
        schema: schema({ a: { type: 'integer' }, n: { type: 'string', default: 'one' } }),
      },
      { name: 'v1beta1', deprecated: true, schema: schema({ a: { type: 'integer' }, old: {} }) },
      { name: 'v0', served: false },
    ),
  );
  assert.deepEqual(
    kinds.map(({ version }) => version),
    ['v1', 'v1beta1'],
  );
  const [v1, beta] = kinds;
  assert.equal(beta?.storedAs?.kind(), v1);
  assert.equal(beta?.deprecated, `${GROUP}/v1beta1 Widget is deprecated; use ${GROUP}/v1 Widget`);
  const written = widget({ a: 1, old: 'x' }, { apiVersion: `${GROUP}/v1beta1` });
  const stored = beta?.storedAs?.toStored(written) as KubeObject;
  assert.equal(stored.apiVersion, `${GROUP}/v1`);
  assert.deepEqual(stored['spec'], { a: 1 });
  assert.deepEqual(v1?.storedAs?.fromStored(stored)['spec'], { a: 1, n: 'one' });
});

test('a status write changes status alone', () => {
  const kind = kindOf(object({}), { subresources: { status: {} } });
  const part = kind.subresources?.['status'];
  assert.ok(part?.type === 'status');
  const old = widget({ a: 1 }, { status: { n: 1 } });
  const wanted = widget({ a: 9 }, { status: { n: 2 } });
  wanted.metadata.labels = { not: 'taken' };
  part.prepareForUpdate?.(wanted, old);
  assert.deepEqual(wanted, { ...old, status: { n: 2 } });
});

test('columns and selectable fields follow their paths', () => {
  const kind = kindOf(object({ n: { type: 'integer' } }), {
    additionalPrinterColumns: [
      { name: 'Ready', type: 'string', jsonPath: '.status.conditions[?(@.type=="Ready")].status' },
      { name: 'N', type: 'integer', jsonPath: '.spec.n' },
      { name: 'L', type: 'string', jsonPath: '.spec.l' },
      { name: 'Bad', type: 'integer', jsonPath: '.status.phase' },
    ],
    selectableFields: [{ jsonPath: '.spec.n' }],
  });
  const shown = widget(
    { n: 5, l: ['x'] },
    {
      status: {
        phase: 'Up',
        conditions: [
          { type: 'A', status: 'False' },
          { type: 'Ready', status: 'True' },
        ],
      },
    },
  );
  assert.deepEqual(
    kind.columns?.map((column) => column.value(shown, 0)),
    ['True', 5, '["x"]', null],
  );
  assert.equal(kind.selectableFields?.['spec.n']?.(shown), '5');
  assert.equal(kind.selectableFields?.['spec.n']?.(widget({})), '');
});
