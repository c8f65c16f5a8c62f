import { isExternallyAccessible, needsHealthCheckPort } from '#api/core/service-validate.ts';
import { keepStatus } from '#api/meta/status-part.ts';
import type { Service, ServiceSpec } from '#api/types.ts';
import { sameMeaning } from '#api/validate.ts';

const needsClusterIp = (spec: ServiceSpec): boolean => spec.type !== 'ExternalName';
const needsNodePort = (spec: ServiceSpec): boolean =>
  spec.type === 'NodePort' ||
  (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);

/** `clusterIP` and `clusterIPs[0]` say the same thing; users may write either. */
export function prepareServiceForCreate(service: Service): void {
  service.status = { loadBalancer: {} };
  const { spec } = service;
  if (spec?.clusterIP && !spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP];
}

export function prepareServiceForUpdate(service: Service, old: Service): void {
  keepStatus(service, old);
  if (old.spec?.type === 'LoadBalancer' && service.spec?.type !== 'LoadBalancer') {
    service.status = { ...service.status, loadBalancer: {} };
  }
  const now = (service.spec ??= {});
  const before = old.spec ?? {};
  keepAllocated(now, before);
  syncClusterIps(now, before);
  dropUnneeded(now, before);
}

/** What a client that does not know about allocations leaves out stays as it was allocated. */
function keepAllocated(now: ServiceSpec, before: ServiceSpec): void {
  if (needsClusterIp(now) && needsClusterIp(before)) {
    if (!now.clusterIP && !now.clusterIPs?.length) copy(now, before, 'clusterIP');
    if (!now.clusterIPs?.length && now.clusterIP === before.clusterIP) {
      copy(now, before, 'clusterIPs');
    }
    if (now.ipFamilyPolicy === undefined) copy(now, before, 'ipFamilyPolicy');
    if (!now.ipFamilies?.length) copy(now, before, 'ipFamilies');
  }
  if (needsNodePort(now) && needsNodePort(before)) {
    const used = new Set((now.ports ?? []).map((port) => port.nodePort));
    for (const port of now.ports ?? []) {
      if (port.nodePort) continue;
      const same = (before.ports ?? []).find(
        (other) => other.port === port.port && other.protocol === port.protocol,
      );
      if (same?.nodePort && !used.has(same.nodePort)) port.nodePort = same.nodePort;
    }
  }
  if (needsHealthCheckPort(now) && needsHealthCheckPort(before) && !now.healthCheckNodePort) {
    copy(now, before, 'healthCheckNodePort');
  }
}

/** A change of either spelling is a change of both. */
function syncClusterIps(now: ServiceSpec, before: ServiceSpec): void {
  if (!needsClusterIp(now)) return;
  if ((now.clusterIP ?? '') !== (before.clusterIP ?? '')) {
    const untouched = sameMeaning(now.clusterIPs, before.clusterIPs);
    if (!untouched && now.clusterIPs?.length) return;
    if (!now.clusterIP) delete now.clusterIPs;
    else now.clusterIPs = [now.clusterIP, ...(now.clusterIPs ?? []).slice(1)];
  } else if (!now.clusterIPs?.length && before.clusterIPs?.length) delete now.clusterIP;
}

/** Fields that belonged to the old type go, unless the user changed them with the type. */
function dropUnneeded(now: ServiceSpec, before: ServiceSpec): void {
  if (needsClusterIp(before) && !needsClusterIp(now)) {
    dropIfSame(now, before, 'clusterIP');
    dropIfSame(now, before, 'clusterIPs');
    dropIfSame(now, before, 'ipFamilies');
    dropIfSame(now, before, 'ipFamilyPolicy');
    dropIfSame(now, before, 'internalTrafficPolicy');
  }
  if (needsNodePort(before) && !needsNodePort(now)) {
    const known = new Set((before.ports ?? []).map((port) => port.nodePort));
    if ((now.ports ?? []).every((port) => !port.nodePort || known.has(port.nodePort))) {
      for (const port of now.ports ?? []) delete port.nodePort;
    }
  }
  if (needsHealthCheckPort(before) && !needsHealthCheckPort(now)) {
    dropIfSame(now, before, 'healthCheckNodePort');
  }
  if (before.type === 'LoadBalancer' && now.type !== 'LoadBalancer') {
    dropIfSame(now, before, 'allocateLoadBalancerNodePorts');
    dropIfSame(now, before, 'loadBalancerClass');
  }
  if (isExternallyAccessible(before) && !isExternallyAccessible(now)) {
    dropIfSame(now, before, 'externalTrafficPolicy');
  }
}

function copy<Field extends keyof ServiceSpec>(
  now: ServiceSpec,
  before: ServiceSpec,
  field: Field,
): void {
  const value = before[field];
  if (value !== undefined) now[field] = value;
}

function dropIfSame(now: ServiceSpec, before: ServiceSpec, field: keyof ServiceSpec): void {
  if (sameMeaning(now[field], before[field])) delete now[field];
}
