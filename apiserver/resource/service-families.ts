import { checkClusterIps } from '#api/core/service-validate.ts';
import { type FieldError, invalid } from '#api/field-error.ts';
import type { Service, ServiceSpec } from '#api/types.ts';
import { sameMeaning } from '#api/validate.ts';
import { ipFamily } from '#api/validate-network.ts';
import type { IpFamily } from '#apiserver/resource/address-range.ts';

const POLICY = 'spec.ipFamilyPolicy';

/**
 * Fills in which address families a service has, before it gets addresses: what the user said,
 * else what the addresses say, else the cluster's first family. Returns what contradicts itself
 * or the cluster. `cluster` has one or two families, the default one first.
 * Source: KEP-563 and core/v1 ServiceSpec.ipFamilyPolicy.
 */
export function settleFamilies(
  service: Service,
  old: Service | null,
  cluster: readonly IpFamily[],
): FieldError[] {
  const spec = service.spec ?? {};
  const before = old?.spec;
  if (spec.type === 'ExternalName' || keepsPreference(spec, before)) return [];
  spec.ipFamilyPolicy ??= before?.ipFamilyPolicy ?? defaultPolicy(spec);
  const errors: FieldError[] = [];
  checkClusterIps(errors, spec);
  if (errors.length > 0) return errors;
  if (before) errors.push(...shrink(spec, before));
  errors.push(...checkSingle(spec), ...inferFamilies(spec, cluster));
  if (errors.length > 0) return errors;
  const free = isWithoutEndpoints(spec);
  if (!free) errors.push(...checkCluster(spec, cluster));
  if (errors.length > 0) return errors;
  if (!spec.ipFamilies?.length) spec.ipFamilies = cluster.slice(0, 1);
  if (free || cluster.length === 2) spec.ipFamilies = completed(spec, spec.ipFamilies);
  return [];
}

/** Headless without selector: the user knows what stands behind it, any families are fine. */
const isWithoutEndpoints = (spec: ServiceSpec): boolean =>
  spec.clusterIP === 'None' && Object.keys(spec.selector ?? {}).length === 0;

const defaultPolicy = (spec: ServiceSpec): string =>
  isWithoutEndpoints(spec) ? 'RequireDualStack' : 'SingleStack';

/** Services that merely prefer two families do not follow the cluster to or from dual stack. */
function keepsPreference(spec: ServiceSpec, before: ServiceSpec | undefined): boolean {
  return (
    before !== undefined &&
    before.type === spec.type &&
    spec.ipFamilyPolicy === 'PreferDualStack' &&
    (before.ipFamilyPolicy ?? 'PreferDualStack') === 'PreferDualStack' &&
    sameMeaning(spec.clusterIPs, before.clusterIPs) &&
    sameMeaning(spec.ipFamilies, before.ipFamilies)
  );
}

/** To one family: asked for by the policy alone, never by leaving something out. */
function shrink(spec: ServiceSpec, before: ServiceSpec): FieldError[] {
  const sameIps = sameMeaning(spec.clusterIPs, before.clusterIPs);
  const sameFamilies = sameMeaning(spec.ipFamilies, before.ipFamilies);
  if (spec.ipFamilyPolicy === 'SingleStack') {
    if (sameIps && spec.clusterIPs) spec.clusterIPs = spec.clusterIPs.slice(0, 1);
    if (sameFamilies && spec.ipFamilies) spec.ipFamilies = spec.ipFamilies.slice(0, 1);
    return [];
  }
  const reduced = (now: string[] | undefined, then: string[] | undefined): boolean =>
    now !== undefined && now.length > 0 && now.length < (then?.length ?? 0);
  const rule = (what: string): FieldError =>
    invalid(POLICY, spec.ipFamilyPolicy, `must be 'SingleStack' to release the secondary ${what}`);
  return [
    ...(reduced(spec.clusterIPs, before.clusterIPs) ? [rule('cluster IP')] : []),
    ...(reduced(spec.ipFamilies, before.ipFamilies) ? [rule('IP family')] : []),
  ];
}

function checkSingle({ ipFamilyPolicy, clusterIPs, ipFamilies }: ServiceSpec): FieldError[] {
  if (ipFamilyPolicy !== 'SingleStack') return [];
  const rule = (what: string): FieldError =>
    invalid(
      POLICY,
      ipFamilyPolicy,
      `must be 'RequireDualStack' or 'PreferDualStack' when multiple ${what} are specified`,
    );
  return [
    ...(clusterIPs?.length === 2 ? [rule('cluster IPs')] : []),
    ...(ipFamilies?.length === 2 ? [rule('IP families')] : []),
  ];
}

/** Addresses that the user chose say their family. */
function inferFamilies(spec: ServiceSpec, cluster: readonly IpFamily[]): FieldError[] {
  const errors: FieldError[] = [];
  const ips = spec.clusterIPs ?? [];
  if (ips[0] === 'None') return errors;
  const families = [...(spec.ipFamilies ?? [])];
  for (const [i, ip] of ips.entries()) {
    if (i < families.length) continue;
    const family: IpFamily = ipFamily(ip) === 6 ? 'IPv6' : 'IPv4';
    if (cluster.includes(family)) families.push(family);
    else {
      const rule = `${family} is not configured on this cluster`;
      errors.push(invalid(`spec.clusterIPs[${i}]`, ips, rule));
    }
  }
  if (families.length > 0) spec.ipFamilies = families;
  return errors;
}

function checkCluster(spec: ServiceSpec, cluster: readonly IpFamily[]): FieldError[] {
  const errors: FieldError[] = [];
  if (spec.ipFamilyPolicy === 'RequireDualStack' && cluster.length < 2) {
    const rule = 'this cluster is not configured for dual-stack services';
    errors.push(invalid(POLICY, spec.ipFamilyPolicy, rule));
  }
  for (const [i, family] of (spec.ipFamilies ?? []).entries()) {
    if (cluster.some((each) => each === family)) continue;
    errors.push(invalid(`spec.ipFamilies[${i}]`, family, 'not configured on this cluster'));
  }
  return errors;
}

/** With the other family as well, unless one was asked for. */
function completed(spec: ServiceSpec, families: string[]): string[] {
  if (spec.ipFamilyPolicy === 'SingleStack' || families.length !== 1) return families;
  return [...families, families[0] === 'IPv6' ? 'IPv4' : 'IPv6'];
}
