import { atomicList, emptyText, listMap, oneOf, rulesOf, struct } from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of certificates lack (certificates): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const certificatesRules: FieldRules = rulesOf({
  V1CertificateSigningRequest: { spec: struct, status: struct },
  V1CertificateSigningRequestCondition: { status: emptyText, type: emptyText },
  V1CertificateSigningRequestSpec: {
    groups: atomicList,
    signerName: emptyText,
    usages: {
      ...atomicList,
      ...oneOf(
        'any',
        'cert sign',
        'client auth',
        'code signing',
        'content commitment',
        'crl sign',
        'data encipherment',
        'decipher only',
        'digital signature',
        'email protection',
        'encipher only',
        'ipsec end system',
        'ipsec tunnel',
        'ipsec user',
        'key agreement',
        'key encipherment',
        'microsoft sgc',
        'netscape sgc',
        'ocsp signing',
        's/mime',
        'server auth',
        'signing',
        'timestamping',
      ),
    },
  },
  V1CertificateSigningRequestStatus: { conditions: listMap('type') },
});
