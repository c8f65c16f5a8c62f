import { X509Certificate } from 'node:crypto';
import type { CustomResourceDefinition } from '#api/apiextensions/definition-types.ts';

const BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** Why these certificates (PEM in base64) cannot be trusted, or ''. */
function caBundleProblem(caBundle: string): string {
  const blocks = Buffer.from(caBundle, 'base64').toString('latin1').match(BLOCK) ?? [];
  if (blocks.length === 0) return 'data does not contain any valid RSA or ECDSA certificates';
  for (const block of blocks) {
    try {
      new X509Certificate(block);
    } catch (error) {
      return (error as Error).message;
    }
  }
  return '';
}

/**
 * What is wrong with the CA of a definition's conversion webhook, or ''. Such a definition may be
 * made, and is not served until its CA is right; one that is right may not become wrong.
 * Source: CustomResourceDefinition versioning, "caBundle".
 */
export function conversionCaProblem({ spec }: CustomResourceDefinition): string {
  const caBundle = spec.conversion?.webhook?.clientConfig?.caBundle;
  return spec.conversion?.strategy === 'Webhook' && caBundle ? caBundleProblem(caBundle) : '';
}
