import { coreRules } from '#api/core/core-rules.ts';
import { PROTOCOLS } from '#api/core/pod-validate-containers.ts';
import { required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { NONE, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { hostPort, shortList } from '#api/meta/more-list.ts';
import type { Endpoints } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  checkLabel,
  checkPort,
  checkQualifiedName,
  checkRequiredEnum,
  checkSubdomain,
} from '#api/validate.ts';
import { checkIp, checkNonSpecialIp } from '#api/validate-network.ts';

/** Source: core/v1 Endpoints. */
export const endpoints = defineKind<Endpoints>({
  group: '',
  version: 'v1',
  kind: 'Endpoints',
  plural: 'endpoints',
  singular: 'endpoints',
  shortNames: ['ep'],
  scope: 'Namespaced',
  createOnUpdate: true,
  deprecated: 'v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice',
  schema: 'V1Endpoints',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  columns: [text('Endpoints', addresses, 'V1Endpoints.subsets')],

  defaults(object) {
    for (const { ports } of object.subsets ?? []) {
      for (const port of ports ?? []) if (!port.protocol) port.protocol = 'TCP';
    }
  },
  validate(object) {
    const errors: Errors = [];
    for (const [i, subset] of (object.subsets ?? []).entries()) {
      checkSubset(errors, `subsets[${i}]`, subset);
    }
    return errors;
  },
});

type Subset = NonNullable<Endpoints['subsets']>[number];

function checkSubset(errors: Errors, path: string, subset: Subset): void {
  const { ports = [] } = subset;
  if (!subset.addresses?.length && !subset.notReadyAddresses?.length) {
    errors.push(required(path, 'must specify `addresses` or `notReadyAddresses`'));
  }
  for (const list of ['addresses', 'notReadyAddresses'] as const) {
    for (const [i, { ip = '', hostname, nodeName }] of (subset[list] ?? []).entries()) {
      const at = `${path}.${list}[${i}]`;
      checkIp(errors, `${at}.ip`, ip);
      if (hostname) checkLabel(errors, `${at}.hostname`, hostname);
      if (nodeName !== undefined) checkSubdomain(errors, `${at}.nodeName`, nodeName);
      checkNonSpecialIp(errors, `${at}.ip`, ip);
    }
  }
  for (const [i, port] of ports.entries()) {
    const at = `${path}.ports[${i}]`;
    if (port.name) checkLabel(errors, `${at}.name`, port.name);
    else if (ports.length > 1) errors.push(required(`${at}.name`));
    checkPort(errors, `${at}.port`, port.port ?? 0);
    checkRequiredEnum(errors, `${at}.protocol`, port.protocol, PROTOCOLS);
    if (port.appProtocol !== undefined) {
      checkQualifiedName(errors, `${at}.appProtocol`, port.appProtocol);
    }
  }
}

function addresses(object: Endpoints): string {
  const all = (object.subsets ?? []).flatMap((subset) => {
    const ips = (subset.addresses ?? []).map(({ ip }) => ip);
    const { ports } = subset;
    if (!ports?.length) return ips;
    return ports.flatMap(({ port }) => ips.map((ip) => hostPort(ip, port)));
  });
  return shortList(all, NONE);
}
