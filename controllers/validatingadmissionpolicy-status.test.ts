import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ValidatingAdmissionPolicy } from '#api/admissionregistration/validating-admission-policy.ts';
import { customResourceDefinitions, validatingAdmissionPolicies } from '#client/resources.ts';
import { simulate } from '#controllers/simulation.ts';
import { validatingAdmissionPolicyStatusController } from '#controllers/validatingadmissionpolicy-status-controller.ts';

const policy = (name: string, expressions: string[], rule: object = {}) =>
  ({
    metadata: { name, generation: 1 },
    spec: {
      variables: [{ name: 'replicas', expression: 'object.spec.replicas' }],
      matchConstraints: {
        resourceRules: [
          {
            apiGroups: ['apps'],
            apiVersions: ['v1'],
            resources: ['deployments'],
            operations: ['CREATE'],
            ...rule,
          },
        ],
      },
      validations: expressions.map((expression) => ({ expression })),
    },
  }) as ValidatingAdmissionPolicy;

test('what expressions get wrong about the objects of a policy is said in its status', async () => {
  const controllers = [validatingAdmissionPolicyStatusController];
  const sim = simulate({ seed: 1, controllers, runPods: false });
  const bears = {
    apiGroups: ['zoo.example.com'],
    resources: ['bears'],
  };
  await sim.api.create(customResourceDefinitions, {
    metadata: { name: 'bears.zoo.example.com' },
    spec: {
      group: 'zoo.example.com',
      scope: 'Namespaced',
      names: { plural: 'bears', kind: 'Bear' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: { spec: { type: 'object', properties: { fur: { type: 'string' } } } },
            },
          },
        },
      ],
    },
  });
  const right = ['variables.replicas > 1', 'object.metadata.labels["a"] == "b"'];
  for (const one of [
    policy('right', right),
    policy('wrong', ['object.replicas > 1', 'variables.replicas == "a"']),
    policy('any', ['object.replicas > 1'], { resources: ['*'] }),
    policy('custom', ['object.spec.hair == ""'], bears),
  ]) {
    await sim.api.create(validatingAdmissionPolicies, one);
  }
  const statusOf = (name: string) =>
    sim.api.all(validatingAdmissionPolicies).find((one) => one.metadata.name === name)?.status;
  await sim.until(() => statusOf('custom') !== undefined, 'checked');
  const good = { observedGeneration: 1, typeChecking: {} };
  assert.deepEqual(statusOf('right'), good);
  assert.deepEqual(statusOf('any'), good, 'wildcards are not checked');
  const warnings = statusOf('wrong')?.typeChecking?.expressionWarnings ?? [];
  assert.deepEqual(
    warnings.map(({ fieldRef }) => fieldRef),
    ['spec.validations[0].expression', 'spec.validations[1].expression'],
  );
  assert.match(
    warnings[0]?.warning ?? '',
    /^apps\/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'replicas'/,
  );
  assert.match(
    statusOf('custom')?.typeChecking?.expressionWarnings?.[0]?.warning ?? '',
    /^zoo.example.com\/v1, Kind=Bear: .*undefined field 'hair'/,
  );
  await sim.stop();
});
