import type { StatusError } from '#api/status.ts';
import { type ManifestObject, placeOf } from '#cli/manifest.ts';
import { nearest } from '#cli/suggest.ts';

/**
 * A server's refusal told in terms of the user's file: each broken field with file, line, column,
 * the rule, and for misspelt names the nearest one that stands in the same place.
 */
export function explainFailure(error: StatusError, manifest: ManifestObject): string {
  const { object } = manifest;
  const title = `${object.kind} ${object.metadata?.name ?? ''}`.trim();
  const at = (path: string): string => placeOf(manifest, pathSegments(path));
  const causes = error.status.details?.causes ?? [];
  const located = causes.filter((cause) => cause.field);
  if (located.length > 0) {
    return located
      .map((cause) => `${at(cause.field ?? '')}: ${title}: ${cause.field}: ${cause.message}`)
      .join('\n');
  }
  const unknown = [...error.message.matchAll(/unknown field "([^"]+)"/g)].map((m) => m[1] ?? '');
  const undeclared = [
    ...error.message.matchAll(/\.([\w.[\]]+): field not declared in schema/g),
  ].map((m) => m[1] ?? '');
  const wrong = [...unknown, ...undeclared];
  if (wrong.length > 0) {
    return wrong
      .map((field) => {
        const hint = nearest(lastSegment(field), COMMON_FIELDS);
        const tail = hint ? `; did you mean "${hint}"?` : '';
        return `${at(field)}: ${title}: unknown field "${field}"${tail}`;
      })
      .join('\n');
  }
  return `${placeOf(manifest, [])}: ${title}: ${error.message}`;
}

/** `spec.containers[0].name` → ['spec', 'containers', 0, 'name']; keys may stand in brackets. */
export function pathSegments(path: string): (string | number)[] {
  return [...path.matchAll(/([^.[\]]+)|\[([^\]]*)\]/g)].map((match) => {
    const segment = match[1] ?? match[2] ?? '';
    return /^\d+$/.test(segment) ? Number(segment) : segment;
  });
}

const lastSegment = (path: string): string => String(pathSegments(path).at(-1) ?? '');

/** Names that people write by hand, for suggestions where the server only says "unknown". */
const COMMON_FIELDS = [
  'apiVersion',
  'kind',
  'metadata',
  'name',
  'namespace',
  'labels',
  'annotations',
  'spec',
  'replicas',
  'selector',
  'matchLabels',
  'matchExpressions',
  'template',
  'containers',
  'initContainers',
  'image',
  'imagePullPolicy',
  'command',
  'args',
  'env',
  'envFrom',
  'value',
  'valueFrom',
  'configMapKeyRef',
  'secretKeyRef',
  'ports',
  'containerPort',
  'hostPort',
  'protocol',
  'port',
  'targetPort',
  'nodePort',
  'type',
  'clusterIP',
  'resources',
  'requests',
  'limits',
  'volumes',
  'volumeMounts',
  'mountPath',
  'subPath',
  'readOnly',
  'livenessProbe',
  'readinessProbe',
  'startupProbe',
  'httpGet',
  'tcpSocket',
  'exec',
  'path',
  'initialDelaySeconds',
  'periodSeconds',
  'timeoutSeconds',
  'failureThreshold',
  'successThreshold',
  'restartPolicy',
  'serviceAccountName',
  'nodeSelector',
  'tolerations',
  'affinity',
  'terminationGracePeriodSeconds',
  'strategy',
  'rollingUpdate',
  'maxSurge',
  'maxUnavailable',
  'minReadySeconds',
  'revisionHistoryLimit',
  'minReplicas',
  'maxReplicas',
  'scaleTargetRef',
  'metrics',
  'data',
  'stringData',
  'configMap',
  'secret',
  'emptyDir',
  'hostPath',
  'securityContext',
  'runtimeClassName',
  'lifecycle',
  'preStop',
  'postStart',
  'rules',
  'verbs',
  'apiGroups',
  'subjects',
  'roleRef',
  'priorityClassName',
  'dnsPolicy',
  'hostNetwork',
] as const;
