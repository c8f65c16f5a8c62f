import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mutatingAdmissionPolicy } from '#api/admissionregistration/mutating-admission-policy.ts';
import { mutatingWebhookConfiguration } from '#api/admissionregistration/mutating-webhook-configuration.ts';
import { validatingAdmissionPolicyBinding } from '#api/admissionregistration/validating-admission-policy-binding.ts';
import { validatingAdmissionPolicy } from '#api/admissionregistration/validating-admission-policy.ts';
import { validatingWebhookConfiguration } from '#api/admissionregistration/validating-webhook-configuration.ts';
import { asCreated, createErrors, updateErrors } from '#api/kind-probe.ts';

const RULE = { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] };
const metadata = { name: 'x.example.com' };

const policy = (spec: object): object => ({
  metadata,
  spec: { matchConstraints: { resourceRules: [RULE] }, ...spec },
});
const TRUE = [{ expression: 'true' }];

const POLICIES: readonly (readonly [object, readonly string[]])[] = [
  [{ validations: TRUE }, []],
  [
    { validations: [{ expression: 'object.x' }] },
    [
      'spec.validations[0].expression: Invalid value: "object.x": must evaluate to bool but got dyn',
    ],
  ],
  [
    { validations: [{ expression: 'true', message: 'a\nb' }] },
    ['spec.validations[0].message: Invalid value: "a\\nb": message must not contain line breaks'],
  ],
  [
    { validations: TRUE, paramKind: { apiVersion: 'a/b/c' } },
    [
      'spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c',
      'spec.paramKind.kind: Required value',
    ],
  ],
  [
    { auditAnnotations: [{ key: 'k', valueExpression: '1' }] },
    [
      'spec.auditAnnotations[0].valueExpression: Invalid value: "1": must evaluate to one of [string null_type] but got int',
    ],
  ],
  [
    {
      validations: TRUE,
      auditAnnotations: [
        { key: 'k', valueExpression: "'v'" },
        { key: 'k', valueExpression: 'null' },
      ],
    },
    ['spec.auditAnnotations[1].key: Duplicate value: "k"'],
  ],
  [
    {
      validations: TRUE,
      matchConditions: [
        { name: 'a', expression: ' ' },
        { name: 'a', expression: 'true' },
      ],
    },
    [
      'spec.matchConditions[0].expression: Required value',
      'spec.matchConditions[1].name: Duplicate value: "a"',
    ],
  ],
];

test('validating policies are refused in upstream order and words', () => {
  for (const [spec, wanted] of POLICIES) {
    assert.deepEqual(createErrors(validatingAdmissionPolicy, policy(spec)), wanted);
  }
});

test('mutating policies: what they may match and make', () => {
  const mutation = {
    patchType: 'JSONPatch',
    jsonPatch: {
      expression: "[JSONPatch{op: 'remove', path: '/a/' + jsonpatch.escapeKey('b/c')}]",
    },
  };
  const good = { mutations: [mutation], reinvocationPolicy: 'Never' };
  assert.deepEqual(createErrors(mutatingAdmissionPolicy, policy(good)), []);
  const resourceRules = [{ ...RULE, operations: ['DELETE'] }];
  assert.deepEqual(
    createErrors(mutatingAdmissionPolicy, policy({ ...good, matchConstraints: { resourceRules } })),
    [
      'spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"',
    ],
  );
  const expression = 'JSONPatch{op: 1}';
  const wrong = { ...good, mutations: [{ ...mutation, jsonPatch: { expression } }] };
  const [error = ''] = createErrors(mutatingAdmissionPolicy, policy(wrong));
  assert.match(error, /expected type of field 'op' is 'string' but provided type is 'int'/);
});

test('an update that keeps broken match conditions is let through', () => {
  const broken = policy({
    validations: TRUE,
    matchConditions: [{ name: 'a', expression: 'gone()' }],
  });
  const changed = { ...broken, metadata: { ...metadata, labels: { a: 'b' } } };
  assert.deepEqual(updateErrors(validatingAdmissionPolicy, broken, changed), []);
});

test('bindings name a policy and what happens', () => {
  const spec = { policyName: 'p', validationActions: ['Deny'], matchResources: {} };
  const made = asCreated(validatingAdmissionPolicyBinding, { metadata, spec });
  assert.deepEqual((made['spec'] as typeof spec).matchResources, {
    matchPolicy: 'Equivalent',
    namespaceSelector: {},
    objectSelector: {},
  });
});

const hook = (more: object = {}): object => ({
  metadata,
  webhooks: [
    {
      name: 'a.example.com',
      admissionReviewVersions: ['v1'],
      sideEffects: 'None',
      rules: [RULE],
      clientConfig: { url: 'https://x/y' },
      ...more,
    },
  ],
});

const HOOKS: readonly (readonly [object, readonly string[]])[] = [
  [{}, []],
  [
    { rules: [{ ...RULE, resources: ['pods', 'pods/*', 'pods/log'] }] },
    [
      `webhooks[0].rules[0].resources[2]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log`,
    ],
  ],
  [
    { clientConfig: { service: { name: 's', path: 'x' } } },
    [
      'webhooks[0].clientConfig.service.namespace: Required value',
      `webhooks[0].clientConfig.service.path: Invalid value: "x": must start with a '/'`,
      'webhooks[0].clientConfig.service.path: Invalid value: "x": segment[0] may not be empty',
    ],
  ],
  [
    { clientConfig: { url: 'http://' } },
    [
      `webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]`,
      'webhooks[0].clientConfig.url: Invalid value: "": host must be specified; desired format: https://host[/path]',
    ],
  ],
];

test('webhooks: rules, addresses, versions', () => {
  for (const [more, wanted] of HOOKS) {
    assert.deepEqual(createErrors(validatingWebhookConfiguration, hook(more)), wanted);
  }
  const odd = createErrors(mutatingWebhookConfiguration, hook({ reinvocationPolicy: 'Maybe' }));
  assert.deepEqual(odd, [
    'webhooks[0].reinvocationPolicy: Unsupported value: "Maybe": supported values: "IfNeeded", "Never"',
  ]);
});
