import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flowSchema } from '#api/flowcontrol/flow-schema.ts';
import { mandatoryFlowSchemas, mandatoryPriorityLevels } from '#api/flowcontrol/mandatory.ts';
import { priorityLevelConfiguration } from '#api/flowcontrol/priority-level-configuration.ts';
import { asCreated, createErrors } from '#api/kind-probe.ts';
import type { FlowSchema, KubeObject, PriorityLevelConfiguration } from '#api/types.ts';

const copyOf = (object: KubeObject): KubeObject => structuredClone(object);

test('mandatory objects are as they must be, and nothing else', () => {
  for (const object of mandatoryFlowSchemas) {
    assert.deepEqual(createErrors(flowSchema, copyOf(object)), []);
    const other = copyOf(object) as FlowSchema;
    if (other.spec) other.spec.distinguisherMethod = { type: 'ByNamespace' };
    assert.match(createErrors(flowSchema, other).join(), /must equal the fixed value/);
  }
  for (const object of mandatoryPriorityLevels) {
    assert.deepEqual(createErrors(priorityLevelConfiguration, copyOf(object)), []);
  }
});

test('the exempt level may reserve and lend; the catch-all level may not change', () => {
  const exempt = copyOf(mandatoryPriorityLevels[0] as KubeObject) as PriorityLevelConfiguration;
  if (exempt.spec) exempt.spec.exempt = { nominalConcurrencyShares: 10, lendablePercent: 50 };
  assert.deepEqual(createErrors(priorityLevelConfiguration, exempt), []);
  const catchAll = copyOf(mandatoryPriorityLevels[1] as KubeObject) as PriorityLevelConfiguration;
  if (catchAll.spec?.limited) catchAll.spec.limited.nominalConcurrencyShares = 6;
  assert.match(createErrors(priorityLevelConfiguration, catchAll).join(), /fixed value/);
});

test('defaults are filled in where nothing was said', () => {
  const level = asCreated<PriorityLevelConfiguration>(priorityLevelConfiguration, {
    metadata: { name: 'a' },
    spec: { type: 'Limited', limited: { limitResponse: { type: 'Queue', queuing: {} } } },
  });
  assert.deepEqual(level.spec, {
    type: 'Limited',
    limited: {
      nominalConcurrencyShares: 30,
      lendablePercent: 0,
      limitResponse: {
        type: 'Queue',
        queuing: { handSize: 8, queues: 64, queueLengthLimit: 50 },
      },
    },
  });
  const schema = asCreated<FlowSchema>(flowSchema, { metadata: { name: 'a' }, spec: {} });
  assert.equal(schema.spec?.matchingPrecedence, 1000);
});

test('a hand that needs more bits than a hash has is refused', () => {
  const problems = (queues: number, handSize: number): string[] =>
    createErrors(priorityLevelConfiguration, {
      metadata: { name: 'a' },
      spec: {
        type: 'Limited',
        limited: { limitResponse: { type: 'Queue', queuing: { queues, handSize } } },
      },
    });
  assert.deepEqual(problems(128, 8), []);
  assert.match(problems(1024, 7).join(), /required entropy bits of deckSize 1024 and handSize 7/);
});

test('URL patterns end in their wildcard', () => {
  const problems = (...urls: string[]): string[] =>
    createErrors(flowSchema, {
      metadata: { name: 'a' },
      spec: {
        priorityLevelConfiguration: { name: 'x' },
        rules: [
          {
            subjects: [{ kind: 'User', user: { name: '*' } }],
            nonResourceRules: [{ verbs: ['get'], nonResourceURLs: urls }],
          },
        ],
      },
    });
  assert.deepEqual(problems('/', '/healthz', '/metrics/*'), []);
  const path = 'spec.rules[0].nonResourceRules[0].nonResourceURLs';
  assert.deepEqual(problems('/a b', '/a//b', '/a*'), [
    `${path}[0]: Invalid value: "/a b": must not contain white-space`,
    `${path}[1]: Invalid value: "/a//b": must not contain double slash`,
    `${path}[2]: Invalid value: "/a*": wildcard can only do suffix matching`,
  ]);
  assert.deepEqual(problems('*', '/a'), [
    `${path}: Invalid value: ["*","/a"]: if '*' is present, must not specify other non-resource URLs`,
  ]);
});
