import type { Kind } from '#api/kind.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionRequest } from '#apiserver/admission-rule.ts';
import { asKind } from '#apiserver/match-rules.ts';

/** admission.k8s.io/v1 AdmissionRequest without uid and objects, as expressions and webhooks see it. */
export function reviewFields(request: AdmissionRequest, matched: Kind): Record<string, unknown> {
  const { kind, user, subresource } = request;
  const body = bodyKind(request, matched);
  const own = bodyKind(request, kind);
  return {
    kind: body,
    resource: resourceOf(matched),
    ...(subresource ? { subResource: subresource } : {}),
    requestKind: own,
    requestResource: resourceOf(kind),
    ...(subresource ? { requestSubResource: subresource } : {}),
    ...(request.name ? { name: request.name } : {}),
    ...(request.namespace ? { namespace: request.namespace } : {}),
    operation: request.operation,
    userInfo: {
      username: user.name,
      ...(user.uid ? { uid: user.uid } : {}),
      groups: user.groups,
      ...(user.extra ? { extra: user.extra } : {}),
    },
    dryRun: request.dryRun,
    options: OPTIONS[request.operation](request),
  };
}

type Gvk = { group: string; version: string; kind: string };

/** Subresources may have a body of another kind: Scale, Eviction, Binding. */
function bodyKind({ kind, subresource, object }: AdmissionRequest, matched: Kind): Gvk {
  if (subresource && object?.kind && object.kind !== kind.kind) {
    const [group, version] = (object.apiVersion ?? '').includes('/')
      ? (object.apiVersion ?? '').split('/')
      : ['', object.apiVersion];
    return { group: group ?? '', version: version ?? '', kind: object.kind };
  }
  return { group: matched.group, version: matched.version, kind: matched.kind };
}

const resourceOf = ({ group, version, plural }: Kind): Record<string, string> => ({
  group,
  version,
  resource: plural,
});

const optionsFor =
  (kind: string) =>
  ({ dryRun }: AdmissionRequest): Record<string, unknown> => ({
    kind,
    apiVersion: 'meta.k8s.io/v1',
    ...(dryRun ? { dryRun: ['All'] } : {}),
  });

const OPTIONS: Readonly<Record<AdmissionRequest['operation'], (r: AdmissionRequest) => unknown>> = {
  CREATE: optionsFor('CreateOptions'),
  UPDATE: optionsFor('UpdateOptions'),
  DELETE: optionsFor('DeleteOptions'),
  CONNECT: () => null,
};

/** The objects of a request as the matched kind. Shared: never mutate. */
export function reviewObjects(
  request: AdmissionRequest,
  matched: Kind,
): { object: KubeObject | null; oldObject: KubeObject | null } {
  return {
    object: asKind(request.object, request.kind, matched),
    oldObject: asKind(request.oldObject, request.kind, matched),
  };
}
