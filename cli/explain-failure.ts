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
  const undeclared = [...error.message.matchAll(UNDECLARED)].map((m) =>
    plainPath(m[1] ?? '', object),
  );
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

/** How server-side apply names a field: `.spec.ports[port=80,protocol="TCP"].prot`. */
const UNDECLARED = /(?:^|\s)\.((?:[^\s:[\]]|\[[^\]]*\])+): field not declared in schema/g;

/** The same path with places instead of keys: `spec.ports[0].prot`. */
function plainPath(path: string, object: unknown): string {
  let value: unknown = object;
  let plain = '';
  for (const [part, name, keys] of path.matchAll(/([^.[\]]+)|\[([^\]]*)\]/g)) {
    if (name !== undefined) {
      value = (value as Record<string, unknown> | undefined)?.[name];
      plain += plain === '' ? name : `.${name}`;
    } else if (Array.isArray(value)) {
      const index = indexOf(value, keys ?? '');
      value = value[index];
      plain += `[${index}]`;
    } else {
      plain += part;
    }
  }
  return plain;
}

/** The item that says nothing else than the keys (defaults need not be written); the first if none. */
function indexOf(items: readonly unknown[], keys: string): number {
  if (/^\d+$/.test(keys)) return Number(keys);
  const wanted = [...keys.matchAll(/([^=,]+)=("[^"]*"|[^,]*)/g)].map(
    ([, key = '', text = '']) => [key, text.replaceAll('"', '')] as const,
  );
  const found = items.findIndex((item) =>
    wanted.every(([key, text]) => {
      const said = (item as Record<string, unknown> | null)?.[key];
      return said === undefined || String(said) === text;
    }),
  );
  return Math.max(0, found);
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
