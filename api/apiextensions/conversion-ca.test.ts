import assert from 'node:assert/strict';
import { rootCertificates } from 'node:tls';
import { test } from 'node:test';
import { planDefinitionStatus } from '#api/apiextensions/definition-status.ts';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';
import { validateDefinitionUpdate } from '#api/apiextensions/definition-validate.ts';

const NOW = '2026-01-01T00:00:00Z';
const definition = (ca: string): CustomResourceDefinition =>
  ({
    metadata: { name: 'bears.zoo.example.com' },
    spec: {
      group: 'zoo.example.com',
      scope: 'Namespaced',
      names: { plural: 'bears', singular: 'bear', kind: 'Bear', listKind: 'BearList' },
      conversion: {
        strategy: 'Webhook',
        webhook: {
          clientConfig: { url: 'https://x.example.com', caBundle: btoa(ca) },
          conversionReviewVersions: ['v1'],
        },
      },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object' } },
        },
      ],
    },
    status: { storedVersions: ['v1'], acceptedNames: { plural: '', kind: '' }, conditions: [] },
  }) as unknown as CustomResourceDefinition;
const good = definition(rootCertificates[0] ?? '');
const bad = definition('no certificate');
const established = (one: CustomResourceDefinition) =>
  planDefinitionStatus(one, [], NOW)?.status?.conditions?.find(
    ({ type }) => type === 'Established',
  );

test('a definition whose conversion webhook cannot be trusted is not served', () => {
  assert.equal(established(good)?.status, 'True');
  const { status, reason } = established(bad) ?? {};
  assert.deepEqual({ status, reason }, { status: 'False', reason: 'InvalidCABundle' });
});

test('a CA that is right may not become wrong; a wrong one may stay', () => {
  const fields = (now: CustomResourceDefinition, old: CustomResourceDefinition) =>
    validateDefinitionUpdate(now, old).map(({ path }) => path);
  assert.deepEqual(fields(bad, good), ['spec.conversion.webhookClientConfig.caBundle']);
  assert.deepEqual(fields(bad, bad), []);
  assert.deepEqual(fields(good, bad), []);
});
