/** Right objects of kinds with rules of their own, for the fuzzing test to bend. */

const LABELS = { app: 'a' };
const TEMPLATE = {
  metadata: { labels: LABELS },
  spec: { containers: [{ name: 'c', image: 'i' }], restartPolicy: 'Never' },
};
const RUNNING = { ...TEMPLATE, spec: { ...TEMPLATE.spec, restartPolicy: 'Always' } };

const namespaced = (group: string, plural: string): string =>
  `${group === 'v1' ? '/api/v1' : `/apis/${group}`}/namespaces/default/${plural}`;

type Sample = { path: string; object: { metadata: { name: string } } };

function sample(path: string, apiVersion: string, kind: string, rest: object): Sample {
  const name = kind.toLowerCase();
  return { path, object: { apiVersion, kind, metadata: { name }, ...rest } as Sample['object'] };
}

export const SAMPLES: readonly Sample[] = [
  sample(namespaced('apps/v1', 'statefulsets'), 'apps/v1', 'StatefulSet', {
    spec: {
      replicas: 2,
      serviceName: 's',
      selector: { matchLabels: LABELS },
      template: RUNNING,
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 1 } },
      volumeClaimTemplates: [
        {
          metadata: { name: 'data' },
          spec: {
            accessModes: ['ReadWriteOnce'],
            resources: { requests: { storage: '1Gi' } },
          },
        },
      ],
    },
  }),
  sample(namespaced('batch/v1', 'jobs'), 'batch/v1', 'Job', {
    spec: {
      completions: 3,
      completionMode: 'Indexed',
      activeDeadlineSeconds: 60,
      successPolicy: { rules: [{ succeededIndexes: '0-1', succeededCount: 1 }] },
      podFailurePolicy: {
        rules: [{ action: 'FailJob', onExitCodes: { operator: 'In', values: [1, 2] } }],
      },
      template: TEMPLATE,
    },
  }),
  sample(namespaced('batch/v1', 'cronjobs'), 'batch/v1', 'CronJob', {
    spec: {
      schedule: '*/5 1-3 * * mon',
      timeZone: 'Europe/Berlin',
      jobTemplate: { spec: { template: TEMPLATE } },
    },
  }),
  sample(
    namespaced('autoscaling/v2', 'horizontalpodautoscalers'),
    'autoscaling/v2',
    'HorizontalPodAutoscaler',
    {
      spec: {
        minReplicas: 1,
        maxReplicas: 3,
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'd' },
        metrics: [
          {
            type: 'Resource',
            resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } },
          },
        ],
        behavior: { scaleUp: { policies: [{ type: 'Pods', value: 1, periodSeconds: 60 }] } },
      },
    },
  ),
  sample(namespaced('v1', 'limitranges'), 'v1', 'LimitRange', {
    spec: { limits: [{ type: 'Container', max: { cpu: '1' }, default: { cpu: '500m' } }] },
  }),
  sample(namespaced('v1', 'resourcequotas'), 'v1', 'ResourceQuota', {
    spec: { hard: { 'count/leases.coordination.k8s.io': '9999', 'limits.cpu': '1k' } },
  }),
  sample(namespaced('v1', 'persistentvolumeclaims'), 'v1', 'PersistentVolumeClaim', {
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  }),
  sample(namespaced('policy/v1', 'poddisruptionbudgets'), 'policy/v1', 'PodDisruptionBudget', {
    spec: { minAvailable: '50%', selector: { matchLabels: LABELS } },
  }),
  sample(namespaced('networking.k8s.io/v1', 'ingresses'), 'networking.k8s.io/v1', 'Ingress', {
    spec: {
      rules: [
        {
          host: '*.example.com',
          http: {
            paths: [
              {
                path: '/a',
                pathType: 'Prefix',
                backend: { service: { name: 's', port: { number: 80 } } },
              },
            ],
          },
        },
      ],
    },
  }),
  sample(
    namespaced('discovery.k8s.io/v1', 'endpointslices'),
    'discovery.k8s.io/v1',
    'EndpointSlice',
    {
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.1.2.3'], conditions: { ready: true }, zone: 'a' }],
      ports: [{ name: 'p', port: 80, protocol: 'TCP' }],
    },
  ),
  sample(namespaced('coordination.k8s.io/v1', 'leases'), 'coordination.k8s.io/v1', 'Lease', {
    spec: {
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      renewTime: '2026-01-01T00:00:00.000001Z',
    },
  }),
  sample('/api/v1/persistentvolumes', 'v1', 'PersistentVolume', {
    spec: {
      capacity: { storage: '1Gi' },
      accessModes: ['ReadWriteOnce'],
      csi: { driver: 'd.example.com', volumeHandle: 'h' },
    },
  }),
  sample('/api/v1/nodes', 'v1', 'Node', {
    spec: { podCIDRs: ['10.1.0.0/24'], taints: [{ key: 'a', value: 'b', effect: 'NoSchedule' }] },
  }),
  sample(
    '/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations',
    'flowcontrol.apiserver.k8s.io/v1',
    'PriorityLevelConfiguration',
    {
      spec: {
        type: 'Limited',
        limited: {
          nominalConcurrencyShares: 5,
          limitResponse: {
            type: 'Queue',
            queuing: { queues: 8, handSize: 2, queueLengthLimit: 5 },
          },
        },
      },
    },
  ),
  sample('/apis/resource.k8s.io/v1/resourceslices', 'resource.k8s.io/v1', 'ResourceSlice', {
    spec: {
      driver: 'd.example.com',
      nodeName: 'n',
      pool: { name: 'p', generation: 1, resourceSliceCount: 1 },
      devices: [{ name: 'x', attributes: { a: { int: 5 } }, capacity: { m: { value: '1Gi' } } }],
    },
  }),
  sample(
    '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies',
    'admissionregistration.k8s.io/v1',
    'ValidatingAdmissionPolicy',
    {
      spec: {
        matchConstraints: {
          resourceRules: [
            {
              apiGroups: ['apps'],
              apiVersions: ['v1'],
              operations: ['CREATE'],
              resources: ['deployments'],
            },
          ],
        },
        validations: [{ expression: 'object.spec.replicas < 5', message: 'm' }],
      },
    },
  ),
];
