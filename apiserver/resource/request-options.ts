import { managerOf } from '#api/apply.ts';
import { notSupported } from '#api/field-error.ts';
import { invalidError } from '#api/status.ts';
import { annotatorOf } from '#apiserver/audit.ts';
import type { RequestInfo, ServerRequest } from '#apiserver/request.ts';
import type { FieldValidation } from '#apiserver/resource/decode.ts';
import type { WriteOptions } from '#apiserver/resource/server-context.ts';
import { warningsOf } from '#apiserver/warnings.ts';
import type { UserInfo } from '#apiserver/user.ts';

const FIELD_VALIDATIONS = ['', 'Ignore', 'Strict', 'Warn'];

/** What a writing request says in its query and user agent. Throws StatusError 422. */
export function readWriteOptions(
  info: RequestInfo,
  request: ServerRequest,
  user: UserInfo,
  optionsKind: 'CreateOptions' | 'UpdateOptions' | 'PatchOptions' | 'DeleteOptions',
): WriteOptions & { fieldValidation: FieldValidation; force: boolean | undefined } {
  const { query } = info;
  const errors = [];
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
  const force = query.get('force');
  return {
    user,
    dryRun: dryRun.length > 0,
    fieldManager: query.get('fieldManager') ?? managerOf(request.headers['user-agent']),
    warnings: warningsOf(request),
    annotate: annotatorOf(request),
    get signal() {
      return request.signal;
    },
    fieldValidation: (fieldValidation || 'Warn') as FieldValidation,
    force: force === null ? undefined : force !== 'false' && force !== '0',
  };
}
