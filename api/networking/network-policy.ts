import { forbidden, invalid, notSupported, required } from '#api/field-error.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { formatLabelSelector } from '#api/meta/selector-text.ts';
import { networkingRules } from '#api/networking/networking-rules.ts';
import type { NetworkPolicy } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkEnum, checkPort, checkPortNumberOrName } from '#api/validate.ts';
import { checkLabelSelector } from '#api/validate-labels.ts';
import { checkCidr, cidrFamily, ipNumber } from '#api/validate-network.ts';

type Spec = NonNullable<NetworkPolicy['spec']>;
type Port = NonNullable<NonNullable<Spec['ingress']>[number]['ports']>[number];
type Peer = NonNullable<NonNullable<Spec['ingress']>[number]['from']>[number];

const MAX_TYPES = 2;

/** Source: networking.k8s.io/v1 NetworkPolicy. */
export const networkPolicy = defineKind<NetworkPolicy>({
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'NetworkPolicy',
  plural: 'networkpolicies',
  singular: 'networkpolicy',
  shortNames: ['netpol'],
  scope: 'Namespaced',
  schema: 'V1NetworkPolicy',
  fieldRules: [networkingRules, metaRules],
  generation: 'spec',
  columns: [
    text(
      'Pod-Selector',
      (object) => formatLabelSelector(object.spec?.podSelector),
      'V1NetworkPolicySpec.podSelector',
    ),
  ],

  defaults(object) {
    object.spec ??= { podSelector: {} };
    const { spec } = object;
    spec.podSelector ??= {};
    for (const rule of [...(spec.ingress ?? []), ...(spec.egress ?? [])]) {
      for (const port of rule.ports ?? []) port.protocol ??= 'TCP';
    }
    if (!spec.policyTypes?.length) {
      spec.policyTypes = spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
    }
  },
  validate(object) {
    const errors: Errors = [];
    const spec = object.spec ?? ({} as Spec);
    checkLabelSelector(errors, 'spec.podSelector', spec.podSelector);
    for (const [i, rule] of (spec.ingress ?? []).entries()) {
      checkRule(errors, `spec.ingress[${i}]`, 'from', rule.ports, rule.from);
    }
    for (const [i, rule] of (spec.egress ?? []).entries()) {
      checkRule(errors, `spec.egress[${i}]`, 'to', rule.ports, rule.to);
    }
    const types = spec.policyTypes ?? [];
    if (types.length > MAX_TYPES) {
      const rule = 'may not specify more than two policyTypes';
      errors.push(invalid('spec.policyTypes', types, rule));
      return errors;
    }
    for (const [i, type] of types.entries()) {
      if (type !== 'Ingress' && type !== 'Egress') {
        errors.push(notSupported(`spec.policyTypes[${i}]`, type, ['Ingress', 'Egress']));
      }
    }
    return errors;
  },
});

function checkRule(
  errors: Errors,
  path: string,
  direction: 'from' | 'to',
  ports: readonly Port[] | undefined,
  peers: readonly Peer[] | undefined,
): void {
  for (const [i, port] of (ports ?? []).entries())
    checkRulePort(errors, `${path}.ports[${i}]`, port);
  for (const [i, peer] of (peers ?? []).entries()) {
    checkPeer(errors, `${path}.${direction}[${i}]`, peer);
  }
}

function checkRulePort(errors: Errors, path: string, entry: Port): void {
  const { protocol, port, endPort } = entry;
  if (protocol !== undefined) {
    checkEnum(errors, `${path}.protocol`, protocol, ['SCTP', 'TCP', 'UDP']);
  }
  if (port !== undefined) {
    checkPortNumberOrName(errors, `${path}.port`, port);
    if (endPort === undefined) return;
    if (typeof port === 'string') {
      const rule = 'may not be specified when `port` is non-numeric';
      errors.push(invalid(`${path}.endPort`, endPort, rule));
    } else {
      if (endPort < Number(port)) {
        const rule = 'must be greater than or equal to `port`';
        errors.push(invalid(`${path}.endPort`, endPort, rule));
      }
      checkPort(errors, `${path}.endPort`, endPort);
    }
  } else if (endPort !== undefined) {
    const rule = 'may not be specified when `port` is not specified';
    errors.push(invalid(`${path}.endPort`, endPort, rule));
  }
}

function checkPeer(errors: Errors, path: string, peer: Peer): void {
  const { podSelector, namespaceSelector, ipBlock } = peer;
  if (podSelector) checkLabelSelector(errors, `${path}.podSelector`, podSelector);
  if (namespaceSelector) {
    checkLabelSelector(errors, `${path}.namespaceSelector`, namespaceSelector);
  }
  if (ipBlock) checkBlock(errors, `${path}.ipBlock`, ipBlock);
  if (!podSelector && !namespaceSelector && !ipBlock) {
    errors.push(required(path, 'must specify a peer'));
  } else if (ipBlock && (podSelector || namespaceSelector)) {
    errors.push(forbidden(path, 'may not specify both ipBlock and another peer'));
  }
}

function checkBlock(errors: Errors, path: string, block: NonNullable<Peer['ipBlock']>): void {
  const { except } = block;
  const cidr = block.cidr ?? '';
  if (cidr === '') {
    errors.push(required(`${path}.cidr`));
    return;
  }
  if (!checkCidr(errors, `${path}.cidr`, cidr)) return;
  for (const [i, hole] of (except ?? []).entries()) {
    const at = `${path}.except[${i}]`;
    if (!checkCidr(errors, at, hole)) continue;
    if (!isStrictSubset(cidr, hole)) {
      errors.push(invalid(at, hole, 'must be a strict subset of `cidr`'));
    }
  }
}

function isStrictSubset(outer: string, inner: string): boolean {
  const family = cidrFamily(outer);
  if (family !== cidrFamily(inner)) return false;
  const [base = '', bits = ''] = outer.split('/');
  const [start = '', length = ''] = inner.split('/');
  if (Number(length) <= Number(bits)) return false;
  const shift = BigInt((family === 4 ? 32 : 128) - Number(bits));
  return ipNumber(base) >> shift === ipNumber(start) >> shift;
}
