import { admissionregistrationRules } from '#api/admissionregistration/admissionregistration-rules.ts';
import {
  checkWebhooks,
  defaultWebhook,
  type Webhook,
} from '#api/admissionregistration/webhook-validate.ts';
import { defineKind, type Kind } from '#api/kind.ts';
import { integer } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';

type WebhookConfiguration = KubeObject & { webhooks?: Webhook[] };

/** The two kinds differ by name, and in that webhooks that mutate may be called again. */
export function webhookConfiguration(family: 'Mutating' | 'Validating'): Kind {
  const kind = `${family}WebhookConfiguration`;
  return defineKind<WebhookConfiguration>({
    group: 'admissionregistration.k8s.io',
    version: 'v1',
    kind,
    plural: `${kind.toLowerCase()}s`,
    singular: kind.toLowerCase(),
    categories: ['api-extensions'],
    scope: 'Cluster',
    schema: `V1${kind}`,
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
      for (const hook of object.webhooks ?? []) defaultWebhook(hook, family === 'Mutating');
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
}
