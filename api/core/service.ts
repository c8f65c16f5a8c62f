import { prepareServiceForCreate, prepareServiceForUpdate } from '#api/core/service-prepare.ts';
import {
  isExternallyAccessible,
  validateService,
  validateServiceStatus,
  validateServiceUpdate,
} from '#api/core/service-validate.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { AGE, formatMap, joinOr, NONE, text, wide } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { Service } from '#api/types.ts';
import { nameIsDnsLabel } from '#api/validate-names.ts';

const AFFINITY_SECONDS = 10_800;

/** Source: core/v1 Service. Cluster IPs and node ports come from the allocator. */
export const service = defineKind<Service>({
  group: '',
  version: 'v1',
  kind: 'Service',
  plural: 'services',
  singular: 'service',
  shortNames: ['svc'],
  categories: ['all'],
  scope: 'Namespaced',
  createOnUpdate: true,
  returnsDeleted: true,
  schema: 'V1Service',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  subresources: {
    status: { type: 'status', validateUpdate: validateServiceStatus },
    proxy: {
      type: 'handler',
      verbs: ['create', 'delete', 'get', 'patch', 'update'],
      body: { group: '', version: 'v1', kind: 'ServiceProxyOptions' },
    },
  },
  selectableFields: {
    'spec.clusterIP': (object) => object.spec?.clusterIP ?? '',
    'spec.type': (object) => object.spec?.type ?? '',
  },
  ageColumn: false,
  columns: [
    text('Type', (object) => object.spec?.type ?? '', 'V1ServiceSpec.type'),
    text('Cluster-IP', (object) => object.spec?.clusterIP || NONE, 'V1ServiceSpec.clusterIP'),
    text('External-IP', externalAddresses, 'V1ServiceSpec.externalIPs'),
    text('Port(s)', ports, 'V1ServiceSpec.ports'),
    AGE,
    wide(text('Selector', (object) => formatMap(object.spec?.selector), 'V1ServiceSpec.selector')),
  ],

  defaults: defaultService,
  prepareForCreate: prepareServiceForCreate,
  prepareForUpdate: prepareServiceForUpdate,
  validateName: nameIsDnsLabel,
  validate: validateService,
  validateUpdate: validateServiceUpdate,
  warnings: serviceWarnings,
});

/** Fields without effect, or without a future. */
function serviceWarnings({ spec = {} }: Service): string[] {
  const found: string[] = [];
  const headless = spec.type === 'ClusterIP' && spec.clusterIP === 'None';
  if (!headless) {
    if (spec.externalIPs?.length) {
      found.push(
        'spec.externalIPs is deprecated and may no longer be implemented in some clusters',
      );
    }
    return found;
  }
  const ignored = (field: string): number =>
    found.push(`${field} is ignored for headless services`);
  if (spec.loadBalancerIP) ignored('spec.loadBalancerIP');
  if (spec.externalIPs?.length) ignored('spec.externalIPs');
  if (spec.sessionAffinity !== 'None') ignored('spec.SessionAffinity');
  return found;
}

function defaultService(object: Service): void {
  object.spec ??= {};
  object.status ??= {};
  object.status.loadBalancer ??= {};
  const { spec } = object;
  if (!spec.sessionAffinity) spec.sessionAffinity = 'None';
  if (spec.sessionAffinity === 'None') delete spec.sessionAffinityConfig;
  if (spec.sessionAffinity === 'ClientIP') {
    spec.sessionAffinityConfig ??= {};
    spec.sessionAffinityConfig.clientIP ??= {};
    spec.sessionAffinityConfig.clientIP.timeoutSeconds ??= AFFINITY_SECONDS;
  }
  if (!spec.type) spec.type = 'ClusterIP';
  for (const port of spec.ports ?? []) {
    if (!port.protocol) port.protocol = 'TCP';
    const target = port.targetPort as unknown;
    if (target === undefined || target === null || target === 0 || target === '') {
      port.targetPort = port.port;
    }
  }
  const { type } = spec;
  const external = isExternallyAccessible(spec);
  if (external && !spec.externalTrafficPolicy) spec.externalTrafficPolicy = 'Cluster';
  if (type !== 'ExternalName' && !spec.internalTrafficPolicy) {
    spec.internalTrafficPolicy = 'Cluster';
  }
  if (type === 'LoadBalancer') {
    spec.allocateLoadBalancerNodePorts ??= true;
    for (const entry of object.status.loadBalancer.ingress ?? []) {
      if (entry.ip) entry.ipMode ??= 'VIP';
    }
  }
}

function externalAddresses(object: Service): string {
  const { spec, status } = object;
  const given = spec?.externalIPs;
  switch (spec?.type) {
    case 'ExternalName':
      return spec.externalName ?? '';
    case 'LoadBalancer': {
      const balanced = (status?.loadBalancer?.ingress ?? []).map(
        (entry) => entry.ip || entry.hostname || '',
      );
      const all = [...balanced.filter((entry) => entry !== '').sort(), ...(given ?? [])];
      return joinOr(all, '<pending>');
    }
    case 'ClusterIP':
    case 'NodePort':
      return joinOr(given, NONE);
    default:
      return '<unknown>';
  }
}

function ports(object: Service): string {
  return joinOr(
    object.spec?.ports?.map(({ port, nodePort, protocol }) =>
      nodePort ? `${port}:${nodePort}/${protocol}` : `${port}/${protocol}`,
    ),
    NONE,
  );
}
