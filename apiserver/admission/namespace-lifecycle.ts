import { failure, forbiddenError, notFoundError } from '#api/status.ts';
import type { Namespace } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';

/** The cluster does not work without these. */
const IMMORTAL = new Set(['default', 'kube-system', 'kube-public']);

/**
 * Objects live in namespaces that exist and are not going away; system namespaces stay.
 * Source: Kubernetes "Admission Control", NamespaceLifecycle.
 */
export const namespaceLifecycle: AdmissionRule = {
  name: 'NamespaceLifecycle',
  handles: ({ operation, kind }) =>
    operation === 'DELETE'
      ? kind.plural === 'namespaces' && kind.group === ''
      : operation === 'CREATE' &&
        kind.scope === 'Namespaced' &&
        kind.group !== 'authorization.k8s.io',
  mutate({ operation, kind, namespace, name }, { reader }) {
    const resource = { group: kind.group, resource: kind.plural };
    if (operation === 'DELETE') {
      if (IMMORTAL.has(name)) {
        throw forbiddenError(resource, name, 'this namespace may not be deleted');
      }
      return;
    }
    const home = reader.get<Namespace>('', 'namespaces', { name: namespace });
    if (!home) throw notFoundError({ group: '', resource: 'namespaces' }, namespace);
    if (home.status?.phase !== 'Terminating') return;
    const why = `unable to create new content in namespace ${namespace} because it is being terminated`;
    const { status } = forbiddenError(resource, name, why);
    throw failure(403, 'Forbidden', status.message ?? '', {
      ...status.details,
      causes: [
        {
          reason: 'NamespaceTerminating',
          message: `namespace ${namespace} is being terminated`,
          field: 'metadata.namespace',
        },
      ],
    });
  },
};
