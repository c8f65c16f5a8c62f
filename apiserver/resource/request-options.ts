import { managerOf } from '#api/apply.ts';
import type { FieldError } from '#api/field-error.ts';
import { forbidden, invalid, notSupported, tooLong } from '#api/field-error.ts';
import { invalidError } from '#api/status.ts';
import { annotatorOf } from '#apiserver/audit.ts';
import { mediaType } from '#apiserver/negotiate.ts';
import type { RequestInfo, ServerRequest } from '#apiserver/request.ts';
import type { FieldValidation } from '#apiserver/resource/decode.ts';
import type { WriteOptions } from '#apiserver/resource/server-context.ts';
import { warningsOf } from '#apiserver/warnings.ts';
import type { UserInfo } from '#apiserver/user.ts';

const FIELD_VALIDATIONS = ['', 'Ignore', 'Strict', 'Warn'];

/** In bytes. Source: metav1.CreateOptions. */
const MAX_MANAGER = 128;

function checkManager(errors: FieldError[], name: string): void {
  if (Buffer.byteLength(name) > MAX_MANAGER) errors.push(tooLong('fieldManager', MAX_MANAGER));
  // Characters that Go calls printable: letters, marks, numbers, punctuation, symbols, the space.
  if (!/^[\p{L}\p{M}\p{N}\p{P}\p{S} ]*$/u.test(name)) {
    errors.push(invalid('fieldManager', name, 'should only contain printable characters'));
  }
}

/** What a writing request says in its query and user agent. Throws StatusError 422. */
export function readWriteOptions(
  info: RequestInfo,
  request: ServerRequest,
  user: UserInfo,
  optionsKind: 'CreateOptions' | 'UpdateOptions' | 'PatchOptions' | 'DeleteOptions',
): WriteOptions & { fieldValidation: FieldValidation; force: boolean | undefined } {
  const { query } = info;
  const errors: FieldError[] = [];
  const fieldManager = query.get('fieldManager') ?? '';
  const force = query.get('force');
  const isApply = mediaType(request.headers['content-type']) === 'application/apply-patch+yaml';
  if (optionsKind === 'PatchOptions' && force !== null && !isApply) {
    errors.push(forbidden('force', 'may not be specified for non-apply patch'));
  }
  if (optionsKind !== 'DeleteOptions') checkManager(errors, fieldManager);
  const dryRun = query.getAll('dryRun');
  if (dryRun.some((value) => value !== 'All')) {
    errors.push(notSupported('dryRun', dryRun, ['All']));
  }
  const fieldValidation = query.get('fieldValidation') ?? '';
  // Deletes read no object; what they say about validation counts for nothing.
  if (optionsKind !== 'DeleteOptions' && !FIELD_VALIDATIONS.includes(fieldValidation)) {
    errors.push(notSupported('fieldValidation', fieldValidation, FIELD_VALIDATIONS));
  }
  if (errors.length > 0) {
    throw invalidError({ group: 'meta.k8s.io', kind: optionsKind }, '', errors);
  }
  return {
    user,
    dryRun: dryRun.length > 0,
    fieldManager: fieldManager || managerOf(request.headers['user-agent']),
    warnings: warningsOf(request),
    annotate: annotatorOf(request),
    get signal() {
      return request.signal;
    },
    fieldValidation: (fieldValidation || 'Warn') as FieldValidation,
    force: force === null ? undefined : force !== 'false' && force !== '0',
  };
}
