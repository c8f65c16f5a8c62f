import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planDefinitionStatus } from '#api/apiextensions/definition-status.ts';
import { defaultDefinition, prepareNewDefinition } from '#api/apiextensions/definition-defaults.ts';
import { definitionWarnings } from '#api/apiextensions/definition-warnings.ts';
import type { CustomResourceDefinition, SchemaProps } from '#api/apiextensions/definition-types.ts';
import {
  validateDefinition,
  validateDefinitionUpdate,
} from '#api/apiextensions/definition-validate.ts';
import type { FieldError } from '#api/field-error.ts';

function definition(
  openAPIV3Schema: SchemaProps,
  spec: Partial<CustomResourceDefinition['spec']> = {},
): CustomResourceDefinition {
  const made: CustomResourceDefinition = {
    metadata: { name: 'widgets.stable.example.com' },
    spec: {
      group: 'stable.example.com',
      scope: 'Namespaced',
      names: { plural: 'widgets', kind: 'Widget' },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }],
      ...spec,
    },
  };
  defaultDefinition(made);
  prepareNewDefinition(made);
  return made;
}

const texts = (errors: readonly FieldError[]): string[] =>
  errors.map(({ path, message }) => `${path}: ${message}`);

const inSpec = (a: SchemaProps): SchemaProps => ({
  type: 'object',
  properties: { spec: { type: 'object', properties: { a } } },
});

const ROOT = 'spec.validation.openAPIV3Schema';
const A = `${ROOT}.properties[spec].properties[a]`;

test('schemas are structural, and say why not', () => {
  const cases: [schema: SchemaProps, expected: string[]][] = [
    [inSpec({ type: 'string' }), []],
    [{ type: 'string' }, [`${ROOT}.type: Invalid value: "string": must be object at the root`]],
    [inSpec({}), [`${A}.type: Required value: must not be empty for specified object fields`]],
    [inSpec({ type: 'array' }), [`${A}.items: Required value: must be specified`]],
    [
      inSpec({ type: 'string', anyOf: [{ type: 'string' }] }),
      [`${A}.anyOf[0].type: Forbidden: must be empty to be structural`],
    ],
    [
      inSpec({
        'x-kubernetes-int-or-string': true,
        anyOf: [{ type: 'integer' }, { type: 'string' }],
      }),
      [],
    ],
    [
      { type: 'object', anyOf: [{ properties: { x: { minimum: 1 } } }] },
      [
        `${ROOT}.properties[x]: Required value: because it is defined in ${ROOT}.anyOf[0].properties[x]`,
      ],
    ],
    [
      inSpec({ type: 'array', items: { type: 'object' }, 'x-kubernetes-list-type': 'map' }),
      [
        `${A}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map`,
      ],
    ],
    [
      inSpec({ type: 'integer', default: 'x' }),
      [
        `${A}.default: Invalid value: "string": ${A}.default in body must be of type integer: "string"`,
      ],
    ],
    [
      inSpec({ type: 'object', properties: { b: { type: 'string' } }, default: { c: 1 } }),
      [`${A}.default: Invalid value: {"c":1}: must not have unknown fields`],
    ],
    [
      inSpec({ type: 'integer', 'x-kubernetes-validations': [{ rule: 'self' }] }),
      [
        `${A}.x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: cel expression must evaluate to a bool`,
      ],
    ],
  ];
  for (const [schema, expected] of cases) {
    const found = texts(validateDefinition(definition(schema)));
    if (expected[0]?.includes('.default in body')) {
      // Upstream names the place of the default as the value's.
      assert.equal(found.length, 1);
      assert.match(found[0] ?? '', /default: Invalid value: "string": .*must be of type integer/);
    } else assert.deepEqual(found, expected, JSON.stringify(schema));
  }
});

test('a schema that contains very much is walked once', () => {
  const properties: Record<string, SchemaProps> = {};
  for (let i = 0; i < 2000; i++) properties[`p${i}`] = { type: 'string', maxLength: i + 1 };
  const started = performance.now();
  assert.deepEqual(validateDefinition(definition({ type: 'object', properties })), []);
  assert.ok(performance.now() - started < 1_000);
});

test('names are immutable once they are established', () => {
  const old = definition(inSpec({ type: 'string' }));
  old.status = { ...old.status, conditions: [{ type: 'Established', status: 'True' }] };
  const changed = structuredClone(old);
  changed.spec.scope = 'Cluster';
  changed.spec.names.kind = 'Gadget';
  assert.deepEqual(texts(validateDefinitionUpdate(changed, old)), [
    'spec.scope: Invalid value: "Cluster": field is immutable',
    'spec.names.kind: Invalid value: "Gadget": field is immutable',
  ]);
});

test('formats that mean nothing are warned of once', () => {
  const made = definition(inSpec({ type: 'string', format: 'nosuch' }));
  assert.deepEqual(definitionWarnings(made, undefined), ['unrecognized format "nosuch"']);
  assert.deepEqual(definitionWarnings(made, made), []);
});

test('names go to who comes first', () => {
  const now = '2026-01-01T00:00:00Z';
  const first = planDefinitionStatus(definition(inSpec({ type: 'string' })), [], now);
  assert.ok(first);
  assert.deepEqual(
    first.status?.conditions?.map(({ type, status }) => `${type}=${status}`),
    ['NamesAccepted=True', 'Established=True'],
  );
  assert.equal(planDefinitionStatus(first, [first], now), null);
  const second = definition(inSpec({ type: 'string' }), {
    names: { plural: 'gizmos', singular: 'gizmo', kind: 'Widget', shortNames: ['giz'] },
  });
  second.metadata.name = 'gizmos.stable.example.com';
  const refused = planDefinitionStatus(second, [first, second], now);
  assert.deepEqual(refused?.status?.acceptedNames, {
    plural: 'gizmos',
    kind: '',
    singular: 'gizmo',
    shortNames: ['giz'],
  });
  const [names, established] = refused?.status?.conditions ?? [];
  assert.equal(names?.message, '"WidgetList" is already in use');
  assert.equal(names?.reason, 'ListKindConflict');
  assert.equal(established?.reason, 'NotAccepted');
});
