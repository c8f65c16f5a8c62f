import { podColumns } from '#api/core/pod-columns.ts';
import { defaultPodSpec } from '#api/core/pod-defaults.ts';
import { EPHEMERAL_CONTAINERS, RESIZE } from '#api/core/pod-parts.ts';
import { preparePodForCreate } from '#api/core/pod-prepare.ts';
import { preparePodStatus, validatePodStatusUpdate } from '#api/core/pod-status.ts';
import { validatePodUpdate } from '#api/core/pod-update.ts';
import { validateNewPod, validatePod } from '#api/core/pod-validate.ts';
import { podRules } from '#api/core/pod-rules.ts';
import { podWarnings } from '#api/core/pod-warnings.ts';
import { defineKind } from '#api/kind.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { Pod } from '#api/types.ts';

const DEFAULT_GRACE_SECONDS = 30;

/** Source: core/v1 Pod. */
export const pod = defineKind<Pod>({
  group: '',
  version: 'v1',
  kind: 'Pod',
  plural: 'pods',
  singular: 'pod',
  shortNames: ['po'],
  categories: ['all'],
  scope: 'Namespaced',
  schema: 'V1Pod',
  fieldRules: podRules,
  generation: 'spec',
  returnsDeleted: true,
  subresources: {
    status: {
      type: 'status',
      prepareForUpdate: preparePodStatus,
      validateUpdate: validatePodStatusUpdate,
    },
    attach: connect('PodAttachOptions', ['create', 'get']),
    binding: {
      type: 'handler',
      verbs: ['create'],
      body: { group: '', version: 'v1', kind: 'Binding' },
    },
    ephemeralcontainers: EPHEMERAL_CONTAINERS,
    eviction: {
      type: 'handler',
      verbs: ['create'],
      body: { group: 'policy', version: 'v1', kind: 'Eviction' },
    },
    exec: connect('PodExecOptions', ['create', 'get']),
    log: { type: 'handler', verbs: ['get'] },
    portforward: connect('PodPortForwardOptions', ['create', 'get']),
    proxy: connect('PodProxyOptions', ['create', 'delete', 'get', 'patch', 'update']),
    resize: RESIZE,
  },
  selectableFields: {
    'spec.nodeName': (object) => object.spec.nodeName ?? '',
    'spec.restartPolicy': (object) => object.spec.restartPolicy ?? '',
    'spec.schedulerName': (object) => object.spec.schedulerName ?? '',
    'spec.serviceAccountName': (object) => object.spec.serviceAccountName ?? '',
    'spec.hostNetwork': (object) => String(object.spec.hostNetwork ?? false),
    'status.phase': (object) => object.status?.phase ?? '',
    'status.podIP': (object) => object.status?.podIP ?? object.status?.podIPs?.[0]?.ip ?? '',
    'status.nominatedNodeName': (object) => object.status?.nominatedNodeName ?? '',
  },
  rowConditions: (object) => {
    const reason = object.status?.phase;
    if (reason === 'Succeeded') return [completed(reason, 'The pod has completed successfully.')];
    if (reason === 'Failed') return [completed(reason, 'The pod failed.')];
    return [];
  },
  ageColumn: false,
  columns: podColumns,

  defaults(object) {
    object.spec ??= {} as Pod['spec'];
    defaultPodSpec(object.spec, { standalone: true });
  },
  prepareForCreate: preparePodForCreate,
  prepareForUpdate: keepStatus,
  warnings: podWarnings,
  validate: validatePod,
  validateCreate: validateNewPod,
  validateUpdate: validatePodUpdate,

  /** A pod that no agent runs needs no grace. Source: pod deletion in the API reference. */
  gracePeriodSeconds(object, requested) {
    const { phase } = object.status ?? {};
    if (!object.spec.nodeName || phase === 'Succeeded' || phase === 'Failed') return 0;
    const given = requested ?? object.spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_SECONDS;
    // May be a bigint.
    const seconds = Number(given);
    return seconds < 0 ? 1 : seconds;
  },
});

const completed = (reason: string, message: string) => ({
  type: 'Completed',
  status: 'True',
  reason,
  message,
});

function connect(options: string, verbs: string[]) {
  return {
    type: 'handler' as const,
    verbs,
    body: { group: '', version: 'v1', kind: options },
  };
}
