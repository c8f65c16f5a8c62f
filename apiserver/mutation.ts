import { conform } from '#api/conform.ts';
import { failure } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionContext, AdmissionRequest } from '#apiserver/admission-rule.ts';

/**
 * Puts what a policy or webhook made of the object into its place: typed, pruned and defaulted as a
 * client's would be. Throws StatusError 500 when it is not of the kind's form.
 */
export function changeObject(
  request: AdmissionRequest,
  { scheme }: AdmissionContext,
  patched: KubeObject,
): void {
  const { object, kind } = request;
  if (!object) return;
  const fresh = structuredClone(patched);
  const own = fresh.kind === kind.kind;
  if (own) {
    const { typeErrors } = conform(fresh, scheme.schemaOf(kind), scheme.definitions);
    const [problem] = typeErrors;
    if (problem !== undefined) {
      throw failure(500, 'InternalError', `Internal error occurred: ${problem}`, {
        causes: [{ message: problem }],
      });
    }
  }
  (fresh.metadata as unknown) ??= {};
  if (own && request.subresource === '') kind.defaults?.(fresh);
  for (const name of Object.keys(object)) delete object[name];
  Object.assign(object, fresh);
}
