import { equalJson } from '#api/json.ts';
import { forbiddenError } from '#api/status.ts';
import type { CertificateSigningRequest } from '#api/types.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { timestamp } from '#apiserver/resource/server-context.ts';
import { readRequest } from '#base/x509-request.ts';

const GROUP = 'certificates.k8s.io';
const REQUESTS = { group: GROUP, resource: 'certificatesigningrequests' } as const;
const KUBE_CLIENT = 'kubernetes.io/kube-apiserver-client';

type Request = CertificateSigningRequest;

const isRequest = ({ kind }: AdmissionRequest): boolean =>
  kind.group === GROUP && kind.plural === REQUESTS.resource;

/** Approving needs the right to approve for the signer. Source: "CertificateApproval" admission. */
export const certificateApproval: AdmissionRule = {
  name: 'CertificateApproval',
  handles: (request) =>
    isRequest(request) && request.operation === 'UPDATE' && request.subresource === 'approval',
  /** Conditions get their times here, since kinds know no clock. */
  mutate({ object, oldObject }, { clock }) {
    const before = (oldObject as Request | null)?.status?.conditions ?? [];
    const now = timestamp(clock.now());
    for (const condition of (object as Request).status?.conditions ?? []) {
      const old = before.find(({ type }) => type === condition.type);
      condition.lastTransitionTime ??= old?.lastTransitionTime ?? now;
      condition.lastUpdateTime ??= old?.lastUpdateTime ?? now;
    }
  },
  validate(request, context) {
    confirm(request, context, 'approve');
  },
};

/** Signing needs the right to sign for the signer. Source: "CertificateSigning" admission. */
export const certificateSigning: AdmissionRule = {
  name: 'CertificateSigning',
  handles: (request) =>
    isRequest(request) && request.operation === 'UPDATE' && request.subresource === 'status',
  validate(request, context) {
    const { certificate, conditions } = (request.object as Request).status ?? {};
    const old = (request.oldObject as Request | null)?.status ?? {};
    const same = certificate === old.certificate;
    if (same && equalJson(conditions ?? [], old.conditions ?? [])) return;
    confirm(request, context, 'sign');
  },
};

/** Nobody becomes an administrator by a certificate. Source: "CertificateSubjectRestriction". */
export const certificateSubjectRestriction: AdmissionRule = {
  name: 'CertificateSubjectRestriction',
  handles: (request) =>
    isRequest(request) && request.operation === 'CREATE' && request.subresource === '',
  async validate({ object, name }) {
    const { signerName, request } = (object as Request).spec;
    if (signerName !== KUBE_CLIENT) return;
    const facts = await readRequest(Buffer.from(request, 'base64').toString('utf8'));
    if (!facts.organizations.includes('system:masters')) return;
    const why = `use of ${KUBE_CLIENT} signer with system:masters group is not allowed`;
    throw forbiddenError(REQUESTS, name, why);
  },
};

/** By the signer's whole name, or by all names of its domain. */
function confirm(
  request: AdmissionRequest,
  { authorizer }: AdmissionContext,
  verb: 'approve' | 'sign',
): void {
  const { signerName } = ((request.oldObject ?? request.object) as Request).spec;
  const names = [signerName, `${signerName.split('/')[0] ?? ''}/*`];
  const may = names.some((name) => {
    const { decision } = authorizer.authorize({
      user: request.user,
      verb,
      group: GROUP,
      version: '*',
      resource: 'signers',
      subresource: '',
      namespace: '',
      name,
      isResource: true,
      path: '',
    });
    return decision === 'allow';
  });
  if (may) return;
  const why = `user not permitted to ${verb} requests with signerName ${JSON.stringify(signerName)}`;
  throw forbiddenError(REQUESTS, request.name, why);
}
