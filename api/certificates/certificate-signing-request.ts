import { certificatesRules } from '#api/certificates/certificates-rules.ts';
import {
  APPROVED,
  DENIED,
  validateSigningRequest,
  validateSigningStatus,
} from '#api/certificates/signing-request-validate.ts';
import { defineKind } from '#api/kind.ts';
import type { Subresource } from '#api/kind.ts';
import { AGE, NONE, text } from '#api/meta/columns.ts';
import { humanDuration } from '#api/meta/duration.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { CertificateSigningRequest, KubeObject } from '#api/types.ts';

type Request = CertificateSigningRequest;
type Status = NonNullable<Request['status']>;

const isDecision = ({ type }: { type: string }): boolean => type === APPROVED || type === DENIED;

const statusOf = (object: KubeObject): Status => (object as Request).status ?? {};

/** Approvers write conditions, and nothing else. */
const APPROVAL: Subresource = {
  type: 'handler',
  verbs: ['get', 'patch', 'update'],
  prepareForUpdate(object, old) {
    const { conditions } = statusOf(object);
    object['spec'] = old['spec'];
    object['status'] = { ...statusOf(old), ...(conditions ? { conditions } : {}) };
    if (!conditions) delete statusOf(object).conditions;
  },
  validateUpdate: (object, old) => validateSigningStatus(statusOf(object), statusOf(old), true),
};

/** Signers write the rest of status; the decision stays as it is. */
const STATUS: Subresource = {
  type: 'status',
  prepareForUpdate(object, old) {
    object['spec'] = old['spec'];
    const decided = (statusOf(old).conditions ?? []).filter(isDecision);
    const others = (statusOf(object).conditions ?? []).filter((one) => !isDecision(one));
    const conditions = [...decided, ...others];
    const status: Status = { ...statusOf(object), conditions };
    if (conditions.length === 0) delete status.conditions;
    object['status'] = status;
  },
  validateUpdate: (object, old) => validateSigningStatus(statusOf(object), statusOf(old), false),
};

/** Source: certificates.k8s.io/v1 CertificateSigningRequest. */
export const certificateSigningRequest = defineKind<Request>({
  group: 'certificates.k8s.io',
  version: 'v1',
  kind: 'CertificateSigningRequest',
  plural: 'certificatesigningrequests',
  singular: 'certificatesigningrequest',
  shortNames: ['csr'],
  scope: 'Cluster',
  schema: 'V1CertificateSigningRequest',
  fieldRules: [certificatesRules, metaRules],
  generation: 'none',
  subresources: { approval: APPROVAL, status: STATUS },
  selectableFields: { 'spec.signerName': (object) => object.spec.signerName ?? '' },
  ageColumn: false,
  columns: [
    AGE,
    text(
      'SignerName',
      (object) => object.spec.signerName ?? NONE,
      'V1CertificateSigningRequestSpec.signerName',
    ),
    text('Requestor', (object) => object.spec.username ?? '', 'Base64-encoded PKCS#10 CSR data'),
    text(
      'RequestedDuration',
      ({ spec: { expirationSeconds: seconds } }) =>
        seconds === undefined ? NONE : humanDuration(seconds * 1000),
      'V1CertificateSigningRequestSpec.expirationSeconds',
    ),
    text('Condition', phaseOf, 'Conditions applied to the request, such as approval or denial.'),
  ],

  defaults(object) {
    object.spec ??= {} as Request['spec'];
    object.status ??= {};
  },
  /** Signers trust what this says of the author: the author has no say in it. */
  prepareForCreate(object, { name, uid, groups, extra = {} }) {
    const { username: _, uid: __, groups: ___, extra: ____, ...asked } = object.spec;
    object.spec = {
      ...asked,
      username: name,
      ...(uid ? { uid } : {}),
      groups: [...groups],
      ...(Object.keys(extra).length > 0 ? { extra: structuredClone(extra) as never } : {}),
    };
    object.status = {};
  },
  /** A request is not changed: it is asked for anew. */
  prepareForUpdate(object, old) {
    object.spec = old.spec;
    keepStatus(object, old);
  },
  validate: validateSigningRequest,
});

function phaseOf({ status = {} }: Request): string {
  const types = status.conditions?.map(({ type }) => type) ?? [];
  const words = [[DENIED, APPROVED].find((type) => types.includes(type)) ?? 'Pending'];
  if (types.includes('Failed')) words.push('Failed');
  if (status.certificate) words.push('Issued');
  return words.join(',');
}
