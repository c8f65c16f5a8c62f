import { PROTOCOLS } from '#api/core/pod-validate-containers.ts';
import { duplicate, forbidden, invalid, required } from '#api/field-error.ts';
import { internalForm } from '#api/internal-form.ts';
import type { KubeObject, Service, ServicePort, ServiceSpec } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  checkEnum,
  checkLabel,
  checkPort,
  checkPortNumberOrName,
  checkQualifiedName,
  checkRequiredEnum,
  checkSubdomain,
  sameMeaning,
} from '#api/validate.ts';
import { checkLabels } from '#api/validate-labels.ts';
import {
  checkCidr,
  checkIp,
  checkNonSpecialIp,
  ipFamily,
  isDualStack,
} from '#api/validate-network.ts';

const MAX_AFFINITY_SECONDS = 86_400;
const TYPES = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const TRAFFIC = ['Cluster', 'Local'];
const DISTRIBUTIONS = ['PreferClose', 'PreferSameZone', 'PreferSameNode'];
const FAMILY_POLICIES = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
const NOT_FOR_EXTERNAL_NAME = 'may not be set for ExternalName services';
const BALANCER_ONLY = "may only be used when `type` is 'LoadBalancer'";
const SOURCE_RANGES = 'service.beta.kubernetes.io/load-balancer-source-ranges';

export const isHeadless = (spec: ServiceSpec): boolean =>
  spec.clusterIPs?.length === 1 && spec.clusterIPs[0] === 'None';

/** Reachable from outside the cluster through this service's own doing. */
export const isExternallyAccessible = (spec: ServiceSpec): boolean =>
  spec.type === 'LoadBalancer' ||
  spec.type === 'NodePort' ||
  (spec.type === 'ClusterIP' && (spec.externalIPs?.length ?? 0) > 0);

export const needsHealthCheckPort = (spec: ServiceSpec): boolean =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';

/**
 * A service before and after its addresses and ports are allocated. Source: core/v1 ServiceSpec.
 */
export function validateService(service: Service): Errors {
  const errors: Errors = [];
  const spec = service.spec ?? {};
  if (!spec.ports?.length && !isHeadless(spec) && spec.type !== 'ExternalName') {
    errors.push(required('spec.ports'));
  }
  checkType(errors, spec);
  checkPorts(errors, spec);
  if (spec.selector) checkLabels(errors, 'spec.selector', spec.selector);
  checkAffinity(errors, spec);
  if (spec.type !== 'ExternalName') checkClusterIps(errors, spec);
  for (const [i, ip] of (spec.externalIPs ?? []).entries()) {
    const path = `spec.externalIPs[${i}]`;
    if (checkIp(errors, path, ip)) checkNonSpecialIp(errors, path, ip);
  }
  checkRequiredEnum(errors, 'spec.type', spec.type, TYPES);
  checkNodePorts(errors, spec);
  checkDuplicatePorts(errors, spec.ports ?? []);
  checkBalancer(errors, service, spec);
  checkTraffic(errors, spec);
  return errors;
}

function checkType(errors: Errors, spec: ServiceSpec): void {
  if ((spec.type === 'LoadBalancer' || spec.type === 'NodePort') && isHeadless(spec)) {
    const rule = `may not be set to 'None' for ${spec.type} services`;
    errors.push(invalid('spec.clusterIPs[0]', 'None', rule));
  }
  if (spec.type !== 'ExternalName') return;
  if (spec.clusterIPs?.length) errors.push(forbidden('spec.clusterIPs', NOT_FOR_EXTERNAL_NAME));
  if (spec.ipFamilies?.length) errors.push(forbidden('spec.ipFamilies', NOT_FOR_EXTERNAL_NAME));
  if (spec.ipFamilyPolicy !== undefined) {
    errors.push(forbidden('spec.ipFamilyPolicy', NOT_FOR_EXTERNAL_NAME));
  }
  const name = (spec.externalName ?? '').replace(/\.$/, '');
  if (name) checkSubdomain(errors, 'spec.externalName', name);
  else errors.push(required('spec.externalName'));
}

function checkPorts(errors: Errors, spec: ServiceSpec): void {
  const ports = spec.ports ?? [];
  const names = new Set<string>();
  for (const [i, port] of ports.entries()) {
    const at = `spec.ports[${i}]`;
    if (!port.name) {
      if (ports.length > 1) errors.push(required(`${at}.name`));
    } else {
      checkLabel(errors, `${at}.name`, port.name);
      if (names.has(port.name)) errors.push(duplicate(`${at}.name`, port.name));
      names.add(port.name);
    }
    checkPort(errors, `${at}.port`, port.port ?? 0);
    checkRequiredEnum(errors, `${at}.protocol`, port.protocol, PROTOCOLS);
    checkPortNumberOrName(errors, `${at}.targetPort`, port.targetPort);
    if (port.appProtocol !== undefined) {
      checkQualifiedName(errors, `${at}.appProtocol`, port.appProtocol);
    }
  }
}

function checkAffinity(errors: Errors, spec: ServiceSpec): void {
  checkRequiredEnum(errors, 'spec.sessionAffinity', spec.sessionAffinity, ['ClientIP', 'None']);
  const path = 'spec.sessionAffinityConfig';
  const config = spec.sessionAffinityConfig;
  if (spec.sessionAffinity === 'ClientIP') {
    const rule = 'when session affinity type is ClientIP';
    const seconds = config?.clientIP?.timeoutSeconds;
    if (!config) errors.push(required(path, rule));
    else if (!config.clientIP) errors.push(required(`${path}.clientIP`, rule));
    else if (seconds === undefined) {
      errors.push(required(`${path}.clientIP.timeoutSeconds`, rule));
    } else if (seconds <= 0 || seconds > MAX_AFFINITY_SECONDS) {
      const range = `must be greater than 0 and less than ${MAX_AFFINITY_SECONDS}`;
      errors.push(invalid(`${path}.clientIP.timeoutSeconds`, seconds, range));
    }
  } else if (spec.sessionAffinity === 'None' && config) {
    errors.push(forbidden(path, 'must not be set when session affinity is None'));
  }
}

/** What the addresses and families of a service must be among themselves, before and after allocation. */
export function checkClusterIps(errors: Errors, spec: ServiceSpec): void {
  const path = 'spec.clusterIPs';
  const { clusterIP = '', clusterIPs = [], ipFamilies = [] } = spec;
  if (clusterIP) {
    if (clusterIPs.length === 0) errors.push(required(path));
    else if (clusterIPs[0] !== clusterIP) {
      errors.push(invalid(path, clusterIPs, 'first value must match `clusterIP`'));
    }
  } else if (clusterIPs.length > 0) {
    const rule = 'must be empty when `clusterIP` is not specified';
    errors.push(invalid(path, clusterIPs, rule));
  }
  const seen = new Set<string>();
  for (const [i, family] of ipFamilies.entries()) {
    checkEnum(errors, `spec.ipFamilies[${i}]`, family, ['IPv4', 'IPv6']);
    if (seen.has(family)) errors.push(duplicate(`spec.ipFamilies[${i}]`, family));
    seen.add(family);
  }
  if (spec.ipFamilyPolicy !== undefined) {
    checkEnum(errors, 'spec.ipFamilyPolicy', spec.ipFamilyPolicy, FAMILY_POLICIES);
  }
  if (!checkIps(errors, path, clusterIPs)) return;
  if (clusterIPs.length > 1 && !isDualStack(clusterIPs.map(ipFamily))) {
    errors.push(invalid(path, clusterIPs, 'may specify no more than one IP for each IP family'));
  }
  if (isHeadless(spec)) return;
  for (const [i, ip] of clusterIPs.entries()) {
    const family = ipFamilies[i];
    if (family === undefined || family === `IPv${ipFamily(ip)}`) continue;
    const rule = `expected an ${family} value as indicated by \`ipFamilies[${i}]\``;
    errors.push(invalid(`${path}[${i}]`, ip, rule));
  }
}

/** False when an address is unreadable, so that nothing can be said about all of them. */
function checkIps(errors: Errors, path: string, ips: readonly string[]): boolean {
  let readable = true;
  for (const [i, ip] of ips.entries()) {
    if (i === 0 && ip === 'None') {
      if (ips.length > 1) {
        readable = false;
        errors.push(invalid(path, ips, "'None' must be the first and only value"));
      }
    } else if (!checkIp(errors, `${path}[${i}]`, ip)) readable = false;
  }
  if (ips.length > 2) errors.push(invalid(path, ips, 'may only hold up to 2 values'));
  return readable;
}

function checkNodePorts(errors: Errors, spec: ServiceSpec): void {
  const taken = new Set<string>();
  for (const [i, port] of (spec.ports ?? []).entries()) {
    if (spec.type === 'ClusterIP' && port.nodePort) {
      const rule = "may not be used when `type` is 'ClusterIP'";
      errors.push(forbidden(`spec.ports[${i}].nodePort`, rule));
    }
  }
  for (const [i, port] of (spec.ports ?? []).entries()) {
    if (!port.nodePort) continue;
    const key = `${port.protocol}/${port.nodePort}`;
    if (taken.has(key)) errors.push(duplicate(`spec.ports[${i}].nodePort`, port.nodePort));
    taken.add(key);
  }
}

function checkDuplicatePorts(errors: Errors, ports: readonly ServicePort[]): void {
  const taken = new Set<string>();
  for (const [i, { protocol, port }] of ports.entries()) {
    const key = `${protocol}/${port}`;
    const shown = internalForm('ServicePort', { protocol, port });
    if (taken.has(key)) errors.push(duplicate(`spec.ports[${i}]`, shown));
    taken.add(key);
  }
}

function checkBalancer(errors: Errors, service: Service, spec: ServiceSpec): void {
  const balances = spec.type === 'LoadBalancer';
  const ranges = spec.loadBalancerSourceRanges ?? [];
  const annotated = service.metadata.annotations?.[SOURCE_RANGES];
  if (ranges.length > 0) {
    const path = 'spec.LoadBalancerSourceRanges';
    if (!balances) errors.push(forbidden(path, BALANCER_ONLY));
    for (const [i, range] of ranges.entries()) checkCidr(errors, `${path}[${i}]`, range.trim());
  } else if (annotated !== undefined) {
    const path = `metadata.annotations[${SOURCE_RANGES}]`;
    if (!balances) errors.push(forbidden(path, BALANCER_ONLY));
    if (annotated.trim() !== '') {
      for (const range of annotated.split(',')) checkCidr(errors, path, range.trim());
    }
  }
  if (spec.allocateLoadBalancerNodePorts !== undefined && !balances) {
    errors.push(forbidden('spec.allocateLoadBalancerNodePorts', BALANCER_ONLY));
  }
  if (balances && spec.allocateLoadBalancerNodePorts === undefined) {
    errors.push(required('allocateLoadBalancerNodePorts'));
  }
  if (spec.loadBalancerClass === undefined) return;
  const path = 'spec.loadBalancerClass';
  if (balances) checkQualifiedName(errors, path, spec.loadBalancerClass);
  else errors.push(forbidden(path, BALANCER_ONLY));
}

function checkTraffic(errors: Errors, spec: ServiceSpec): void {
  const external = spec.externalTrafficPolicy;
  const path = 'spec.externalTrafficPolicy';
  if (isExternallyAccessible(spec)) checkRequiredEnum(errors, path, external, TRAFFIC);
  else if (external) {
    errors.push(invalid(path, external, 'may only be set for externally-accessible services'));
  }
  const port = spec.healthCheckNodePort ?? 0;
  if (needsHealthCheckPort(spec)) {
    // Zero until the allocator has been here.
    if (port !== 0) checkPort(errors, 'spec.healthCheckNodePort', port);
  } else if (port !== 0) {
    const rule =
      "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    errors.push(invalid('spec.healthCheckNodePort', port, rule));
  }
  if (spec.internalTrafficPolicy !== undefined) {
    checkEnum(errors, 'spec.internalTrafficPolicy', spec.internalTrafficPolicy, TRAFFIC);
  } else if (TYPES.includes(spec.type ?? '') && spec.type !== 'ExternalName') {
    errors.push(required('spec.internalTrafficPolicy'));
  }
  if (spec.trafficDistribution !== undefined) {
    checkEnum(errors, 'spec.trafficDistribution', spec.trafficDistribution, DISTRIBUTIONS);
  }
}

/** The first address stays; a second may come and go. */
export function validateServiceUpdate(service: Service, old: Service): Errors {
  const errors: Errors = [];
  const now = service.spec ?? {};
  const before = old.spec ?? {};
  if (now.type !== 'ExternalName' && before.type !== 'ExternalName') {
    if (!isHeadless(now) || !isHeadless(before)) checkAddressUpdate(errors, now, before);
    if (!isHeadless(now) && !isHeadless(before)) checkFamilyUpdate(errors, now, before);
  }
  if (
    now.type === 'LoadBalancer' &&
    before.type === 'LoadBalancer' &&
    now.loadBalancerClass !== before.loadBalancerClass
  ) {
    const value = now.loadBalancerClass ?? null;
    errors.push(invalid('spec.loadBalancerClass', value, 'may not change once set'));
  }
  if (
    needsHealthCheckPort(now) &&
    needsHealthCheckPort(before) &&
    !sameMeaning(now.healthCheckNodePort, before.healthCheckNodePort)
  ) {
    errors.push(forbidden('spec.healthCheckNodePort', 'field is immutable'));
  }
  return errors;
}

function checkAddressUpdate(errors: Errors, now: ServiceSpec, before: ServiceSpec): void {
  const wanted = now.clusterIPs ?? [];
  const stored = before.clusterIPs ?? [];
  const changed = (i: number) =>
    errors.push(invalid(`spec.clusterIPs[${i}]`, wanted, 'may not change once set'));
  if (wanted.length === stored.length) {
    for (const [i, ip] of stored.entries()) if (ip !== wanted[i]) changed(i);
    return;
  }
  if (wanted.length === 0) {
    errors.push(invalid('spec.clusterIPs[0]', wanted, 'primary clusterIP can not be unset'));
  } else if (stored.length > 0 && wanted[0] !== stored[0]) changed(0);
  if (wanted.length === 1 && stored.length > 1 && now.ipFamilyPolicy !== 'SingleStack') {
    const rule = "must be set to 'SingleStack' when releasing the secondary clusterIP";
    errors.push(invalid('spec.ipFamilyPolicy', now.ipFamilyPolicy ?? null, rule));
  }
}

function checkFamilyUpdate(errors: Errors, now: ServiceSpec, before: ServiceSpec): void {
  const wanted = now.ipFamilies ?? [];
  const stored = before.ipFamilies ?? [];
  if (wanted.length === 0 || stored.length === 0) return;
  if (wanted[0] !== stored[0]) {
    errors.push(invalid('spec.ipFamilies[0]', wanted, 'may not change once set'));
  }
  if (wanted.length === 1 && stored.length > 1 && now.ipFamilyPolicy !== 'SingleStack') {
    const rule = "must be set to 'SingleStack' when releasing the secondary ipFamily";
    errors.push(invalid('spec.ipFamilyPolicy', now.ipFamilyPolicy ?? null, rule));
  }
}

/** What a load balancer's controller reports. Source: core/v1 LoadBalancerStatus. */
export function validateServiceStatus(object: KubeObject): Errors {
  const service = object as unknown as Service;
  const errors: Errors = [];
  const path = 'status.loadBalancer.ingress';
  const ingress = service.status?.loadBalancer?.ingress ?? [];
  if (service.spec?.type !== 'LoadBalancer' && ingress.length > 0) {
    errors.push(forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'"));
    return errors;
  }
  for (const [i, { ip, ipMode, hostname }] of ingress.entries()) {
    const at = `${path}[${i}]`;
    if (ip) checkIp(errors, `${at}.ip`, ip);
    if (ipMode === undefined) {
      if (ip) errors.push(required(`${at}.ipMode`, 'must be specified when `ip` is set'));
    } else if (!ip) {
      errors.push(forbidden(`${at}.ipMode`, 'may not be specified when `ip` is not set'));
    } else checkEnum(errors, `${at}.ipMode`, ipMode, ['Proxy', 'VIP']);
    if (hostname) {
      checkSubdomain(errors, `${at}.hostname`, hostname);
      if (ipFamily(hostname)) {
        errors.push(invalid(`${at}.hostname`, hostname, 'must be a DNS name, not an IP address'));
      }
    }
  }
  return errors;
}
