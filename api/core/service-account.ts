import { coreRules } from '#api/core/core-rules.ts';
import { podSpecRules } from '#api/core/pod-spec-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { ServiceAccount } from '#api/types.ts';

/** Source: core/v1 ServiceAccount. */
export const serviceAccount = defineKind<ServiceAccount>({
  group: '',
  version: 'v1',
  kind: 'ServiceAccount',
  plural: 'serviceaccounts',
  singular: 'serviceaccount',
  shortNames: ['sa'],
  scope: 'Namespaced',
  returnsDeleted: true,
  schema: 'V1ServiceAccount',
  fieldRules: [coreRules, podSpecRules, metaRules],
  generation: 'none',
  subresources: {
    token: {
      type: 'handler',
      verbs: ['create'],
      body: { group: 'authentication.k8s.io', version: 'v1', kind: 'TokenRequest' },
    },
  },
});
