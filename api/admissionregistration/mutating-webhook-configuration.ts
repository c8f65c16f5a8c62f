import { webhookConfiguration } from '#api/admissionregistration/webhook-configuration.ts';
import type { Kind } from '#api/kind.ts';

/** Source: admissionregistration.k8s.io/v1 MutatingWebhookConfiguration. */
export const mutatingWebhookConfiguration: Kind = webhookConfiguration('Mutating');
