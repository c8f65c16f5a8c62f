import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import {
  checkWebhooks,
  defaultWebhook,
  type Webhook,
} from '#api/admissionregistration/webhook-validate.ts';
import { defineKind } from '#api/kind.ts';
import { integer } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

type ValidatingWebhookConfiguration = KubeObject & { webhooks?: Webhook[] };

/** Source: admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration. */
export const validatingWebhookConfiguration = defineKind<ValidatingWebhookConfiguration>({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  kind: 'ValidatingWebhookConfiguration',
  plural: 'validatingwebhookconfigurations',
  singular: 'validatingwebhookconfiguration',
  categories: ['api-extensions'],
  scope: 'Cluster',
  schema: 'V1ValidatingWebhookConfiguration',
  fieldRules: [admissionregistrationRules, metaRules],
  generation: 'spec',
  unconditionalUpdate: false,
  columns: [
    integer(
      'Webhooks',
      ({ webhooks }) => webhooks?.length ?? 0,
      'Webhooks indicates the number of webhooks registered in this configuration',
    ),
  ],

  defaults(object) {
    for (const hook of object.webhooks ?? []) defaultWebhook(hook, false);
  },
  validateCreate(object) {
    const errors: Errors = [];
    checkWebhooks(errors, object.webhooks ?? []);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkWebhooks(errors, object.webhooks ?? [], old.webhooks ?? []);
    return errors;
  },
});
