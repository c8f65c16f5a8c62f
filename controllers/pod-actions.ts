import type { KubeObject, Pod } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { pods } from '#client/resources.ts';

/** Creates a pod and tells of it as every controller of pods does. */
export function createOwned(pod: Pod, owner: KubeObject): Action {
  return {
    type: 'create',
    resource: pods,
    object: pod,
    announce: {
      about: owner,
      success: { type: 'Normal', reason: 'SuccessfulCreate', message: 'Created pod: {name}' },
      failure: { type: 'Warning', reason: 'FailedCreate', message: 'Error creating: {error}' },
    },
  };
}

/** Deletes exactly this pod and tells of it. */
export function deleteOwned(pod: Pod, owner: KubeObject): Action {
  const { name = '', namespace, uid = '' } = pod.metadata;
  return {
    type: 'delete',
    resource: pods,
    key: { namespace, name },
    uid,
    announce: {
      about: owner,
      success: { type: 'Normal', reason: 'SuccessfulDelete', message: 'Deleted pod: {name}' },
      failure: { type: 'Warning', reason: 'FailedDelete', message: 'Error deleting: {error}' },
    },
  };
}
