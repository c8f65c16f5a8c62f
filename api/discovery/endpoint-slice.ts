import { discoveryRules } from '#api/discovery/discovery-rules.ts';
import { coreRules } from '#api/core/core-rules.ts';
import { duplicate, invalid, required, tooMany } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { text, UNSET } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { shortList } from '#api/meta/more-list.ts';
import type { Endpoint, EndpointSlice } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import {
  addInvalid,
  checkEnum,
  checkImmutable,
  checkLabel,
  checkQualifiedName,
  checkRequiredEnum,
  checkSubdomain,
} from '#api/validate.ts';
import { checkLabels } from '#api/validate-labels.ts';
import { isDns1123Subdomain } from '#api/validate-names.ts';
import { checkIp, checkNonSpecialIp, ipFamily } from '#api/validate-network.ts';

/** Source: discovery.k8s.io/v1 EndpointSlice. */
export const endpointSlice = defineKind<EndpointSlice>({
  group: 'discovery.k8s.io',
  version: 'v1',
  kind: 'EndpointSlice',
  plural: 'endpointslices',
  singular: 'endpointslice',
  scope: 'Namespaced',
  schema: 'V1EndpointSlice',
  fieldRules: [discoveryRules, coreRules, metaRules],
  generation: 'spec',
  columns: [
    text('AddressType', (object) => object.addressType, 'V1EndpointSlice.addressType'),
    text(
      'Ports',
      (object) =>
        shortList(
          (object.ports ?? []).map(({ port, name }) => String(port ?? name ?? '*')),
          UNSET,
        ),
      'V1EndpointSlice.ports',
    ),
    text(
      'Endpoints',
      (object) =>
        shortList(
          (object.endpoints ?? []).flatMap((endpoint) => endpoint.addresses ?? []),
          UNSET,
        ),
      'V1EndpointSlice.endpoints',
    ),
  ],

  defaults(object) {
    object.addressType ??= '';
    for (const endpoint of object.endpoints ?? []) endpoint.conditions ??= {};
    for (const port of object.ports ?? []) {
      port.name ??= '';
      port.protocol ??= 'TCP';
    }
    // Both lists are always shown.
    const lists = object as { endpoints: unknown; ports: unknown };
    lists.endpoints ??= null;
    lists.ports ??= null;
  },
  prepareForCreate: showEmptyAsNull,
  prepareForUpdate: showEmptyAsNull,
  validate(object) {
    const errors: Errors = [];
    checkRequiredEnum(errors, 'addressType', object.addressType, ['FQDN', 'IPv4', 'IPv6']);
    const endpoints = object.endpoints ?? [];
    if (endpoints.length > MAX_ENDPOINTS) {
      errors.push(tooMany('endpoints', endpoints.length, MAX_ENDPOINTS));
    } else {
      for (const [i, endpoint] of endpoints.entries()) {
        checkEndpoint(errors, `endpoints[${i}]`, endpoint, object.addressType);
      }
    }
    checkPorts(errors, object.ports ?? []);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'addressType', object.addressType, old.addressType);
    return errors;
  },
});

/** An empty list is stored as none. */
function showEmptyAsNull(object: EndpointSlice): void {
  const lists = object as { endpoints: unknown; ports: unknown };
  if (!object.endpoints?.length) lists.endpoints = null;
  if (!object.ports?.length) lists.ports = null;
}

const MAX_ENDPOINTS = 1000;
const MAX_ADDRESSES = 100;
const MAX_PORTS = 20_000;
const MAX_TOPOLOGY_LABELS = 16;
const MAX_HINTS = 8;

function checkEndpoint(
  errors: Errors,
  path: string,
  endpoint: Endpoint,
  addressType: string,
): void {
  const addresses = endpoint.addresses ?? [];
  const at = `${path}.addresses`;
  if (addresses.length === 0) errors.push(required(at, 'must contain at least 1 address'));
  if (addresses.length > MAX_ADDRESSES) {
    errors.push(tooMany(at, addresses.length, MAX_ADDRESSES));
  }
  for (const [i, address] of addresses.entries()) {
    if (addressType === 'FQDN') checkDomain(errors, `${at}[${i}]`, address);
    else if (addressType === 'IPv4' || addressType === 'IPv6') {
      if (!checkIp(errors, `${at}[${i}]`, address)) continue;
      if (`IPv${ipFamily(address)}` !== addressType) {
        errors.push(invalid(at, address, `must be an ${addressType} address`));
      }
      checkNonSpecialIp(errors, `${at}[${i}]`, address);
    }
  }
  const topology = endpoint.deprecatedTopology;
  if (topology) {
    const size = Object.keys(topology).length;
    if (size > MAX_TOPOLOGY_LABELS) {
      errors.push(tooMany(`${path}.deprecatedTopology`, size, MAX_TOPOLOGY_LABELS));
    }
    checkLabels(errors, `${path}.deprecatedTopology`, topology);
  }
  if (endpoint.nodeName !== undefined) {
    checkSubdomain(errors, `${path}.nodeName`, endpoint.nodeName);
  }
  if (endpoint.hostname !== undefined) {
    checkLabel(errors, `${path}.hostname`, endpoint.hostname);
  }
  for (const list of ['forZones', 'forNodes'] as const) {
    checkHints(errors, `${path}.hints.${list}`, endpoint.hints?.[list] ?? []);
  }
}

function checkHints(errors: Errors, path: string, hints: readonly { name: string }[]): void {
  if (hints.length > MAX_HINTS) {
    errors.push(tooMany(path, hints.length, MAX_HINTS));
    return;
  }
  const seen = new Set<string>();
  for (const [i, { name }] of hints.entries()) {
    if (seen.has(name)) errors.push(duplicate(`${path}[${i}].name`, name));
    seen.add(name);
  }
}

/** A domain name of at least two parts. */
function checkDomain(errors: Errors, path: string, address: string): void {
  const name = address.replace(/\.$/, '');
  const problems = isDns1123Subdomain(name);
  addInvalid(errors, path, name, problems);
  if (problems.length === 0 && !name.includes('.')) {
    const rule = 'should be a domain with at least two segments separated by dots';
    errors.push(invalid(path, name, rule));
  }
}

function checkPorts(errors: Errors, ports: NonNullable<EndpointSlice['ports']>): void {
  if (ports.length > MAX_PORTS) {
    errors.push(tooMany('ports', ports.length, MAX_PORTS));
    return;
  }
  const names = new Set<string>();
  for (const [i, { name = '', protocol, appProtocol }] of ports.entries()) {
    const at = `ports[${i}]`;
    if (name) checkLabel(errors, `${at}.name`, name);
    if (names.has(name)) errors.push(duplicate(`${at}.name`, name));
    names.add(name);
    if (protocol === undefined) errors.push(required(`${at}.protocol`));
    else checkEnum(errors, `${at}.protocol`, protocol, ['SCTP', 'TCP', 'UDP']);
    if (appProtocol !== undefined) checkQualifiedName(errors, `${at}.appProtocol`, appProtocol);
  }
}
