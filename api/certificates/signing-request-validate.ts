import {
  duplicate,
  forbidden,
  invalid,
  notSupported,
  required,
  tooLong,
} from '#api/field-error.ts';
import type { CertificateSigningRequest } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { isDns1123Label, isDns1123Subdomain } from '#api/validate-names.ts';

type Status = NonNullable<CertificateSigningRequest['status']>;
type Conditions = NonNullable<Status['conditions']>;

export const APPROVED = 'Approved';
export const DENIED = 'Denied';
const FAILED = 'Failed';
const LASTING: readonly string[] = [APPROVED, DENIED, FAILED];

const LEGACY_SIGNER = 'kubernetes.io/legacy-unknown';
const MAX_SIGNER_NAME = 571;
const MIN_SECONDS = 600;
const REQUEST_BLOCK = /-----BEGIN CERTIFICATE REQUEST-----[^-]+-----END CERTIFICATE REQUEST-----/;
const CERTIFICATE_BLOCK = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/;

const USAGES: readonly string[] = [
  ...['any', 'cert sign', 'client auth', 'code signing', 'content commitment', 'crl sign'],
  ...['data encipherment', 'decipher only', 'digital signature', 'email protection'],
  ...['encipher only', 'ipsec end system', 'ipsec tunnel', 'ipsec user', 'key agreement'],
  ...['key encipherment', 'microsoft sgc', 'netscape sgc', 'ocsp signing', 's/mime'],
  ...['server auth', 'signing', 'timestamping'],
];

const textOf = (base64: string): string => Buffer.from(base64, 'base64').toString('latin1');

export function validateSigningRequest({ spec }: CertificateSigningRequest): Errors {
  const errors: Errors = [];
  if (!REQUEST_BLOCK.test(textOf(spec.request ?? ''))) {
    const rule = 'PEM block type must be CERTIFICATE REQUEST';
    errors.push(invalid('spec.request', spec.request || null, rule));
  }
  const usages = spec.usages ?? [];
  if (usages.length === 0) errors.push(required('spec.usages'));
  for (const [i, usage] of usages.entries()) {
    const at = `spec.usages[${i}]`;
    if (!USAGES.includes(usage)) errors.push(notSupported(at, usage, USAGES));
    if (usages.indexOf(usage) < i) errors.push(duplicate(at, usage));
  }
  if (spec.signerName === LEGACY_SIGNER) {
    const rule = 'the legacy signerName is not allowed via this API version';
    errors.push(invalid('spec.signerName', spec.signerName, rule));
  } else checkSignerName(errors, 'spec.signerName', spec.signerName);
  if (spec.expirationSeconds !== undefined && spec.expirationSeconds < MIN_SECONDS) {
    const rule = 'may not specify a duration less than 600 seconds (10 minutes)';
    errors.push(invalid('spec.expirationSeconds', spec.expirationSeconds, rule));
  }
  return errors;
}

/** A domain and a path: `example.com/signer`. */
function checkSignerName(errors: Errors, path: string, name: string): void {
  if (!name) {
    errors.push(required(path));
    return;
  }
  const [domain = '', signer, ...more] = name.split('/');
  if (signer === undefined || more.length > 0) {
    const rule = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
    errors.push(invalid(path, name, rule));
    return;
  }
  for (const fault of isDns1123Subdomain(domain)) {
    errors.push(invalid(path, domain, `validating domain "${domain}": ${fault}`));
  }
  if (!domain.includes('.')) {
    const rule = 'should be a domain with at least two segments separated by dots';
    errors.push(invalid(path, domain, rule));
  }
  for (const label of signer.split('.')) {
    for (const fault of isDns1123Label(label)) {
      errors.push(invalid(path, signer, `validating label "${label}": ${fault}`));
    }
  }
  if (name.length > MAX_SIGNER_NAME) errors.push(tooLong(path, MAX_SIGNER_NAME));
}

/** Decisions last: what is approved, denied or failed stays so. */
export function validateSigningStatus(status: Status, before: Status, deciding: boolean): Errors {
  const errors: Errors = [];
  const path = 'status.conditions';
  const conditions = status.conditions ?? [];
  checkConditions(errors, path, conditions);
  const types = (list: Conditions): string[] => list.map(({ type }) => type);
  for (const type of types(before.conditions ?? [])) {
    if (!LASTING.includes(type) || types(conditions).includes(type)) continue;
    errors.push(forbidden(path, `updates may not remove a condition of type "${type}"`));
  }
  for (const type of deciding ? [] : [APPROVED, DENIED]) {
    if (types(conditions).includes(type) && !types(before.conditions ?? []).includes(type)) {
      errors.push(forbidden(path, `updates may not add a condition of type "${type}"`));
    }
  }
  if (status.certificate && status.certificate !== before.certificate) {
    if (!CERTIFICATE_BLOCK.test(textOf(status.certificate))) {
      const rule = 'must contain at least one CERTIFICATE PEM block';
      errors.push(invalid('status.certificate', '<certificate data>', rule));
    }
  }
  return errors;
}

function checkConditions(errors: Errors, path: string, conditions: Conditions): void {
  const seen = new Set<string>();
  for (const [i, { type, status }] of conditions.entries()) {
    const at = `${path}[${i}]`;
    if (!type) errors.push(required(`${at}.type`));
    const states = LASTING.includes(type) ? ['True'] : ['False', 'True', 'Unknown'];
    if (!status) errors.push(required(`${at}.status`));
    else if (!states.includes(status)) errors.push(notSupported(`${at}.status`, status, states));
    if ((type === APPROVED && seen.has(DENIED)) || (type === DENIED && seen.has(APPROVED))) {
      const rule = 'Approved and Denied conditions are mutually exclusive';
      errors.push(invalid(path, type, rule));
    }
    if (seen.has(type)) errors.push(duplicate(`${at}.type`, type));
    seen.add(type);
  }
}
