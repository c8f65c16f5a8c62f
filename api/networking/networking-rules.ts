import {
  atomicList,
  atomicMap,
  emptyText,
  mergeMap,
  oneOf,
  rulesOf,
  struct,
  zero,
} from '#api/meta/field-rules.ts';
import type { FieldRules } from '#api/schema.ts';

/**
 * What the models of networking lack (networking): list and map types, merge keys, enums, zero values.
 * Source: x-kubernetes-* extensions of the published OpenAPI description.
 */
export const networkingRules: FieldRules = rulesOf({
  V1HTTPIngressPath: {
    backend: struct,
    pathType: oneOf('Exact', 'ImplementationSpecific', 'Prefix'),
  },
  V1HTTPIngressRuleValue: { paths: atomicList },
  V1IPAddress: { spec: struct },
  V1IPBlock: { cidr: emptyText, except: atomicList },
  V1Ingress: { spec: struct, status: struct },
  V1IngressClass: { spec: struct },
  V1IngressClassParametersReference: { kind: emptyText, name: emptyText },
  V1IngressLoadBalancerIngress: { ports: atomicList },
  V1IngressLoadBalancerStatus: { ingress: atomicList },
  V1IngressPortStatus: { port: zero, protocol: { ...oneOf('SCTP', 'TCP', 'UDP'), ...emptyText } },
  V1IngressServiceBackend: { name: emptyText, port: struct },
  V1IngressSpec: { rules: atomicList, tls: atomicList },
  V1IngressStatus: { loadBalancer: struct },
  V1IngressTLS: { hosts: atomicList },
  V1NetworkPolicy: { spec: struct },
  V1NetworkPolicyEgressRule: { ports: atomicList, to: atomicList },
  V1NetworkPolicyIngressRule: { from: atomicList, ports: atomicList },
  V1NetworkPolicyPort: { protocol: oneOf('SCTP', 'TCP', 'UDP') },
  V1NetworkPolicySpec: {
    egress: atomicList,
    ingress: atomicList,
    podSelector: struct,
    policyTypes: { ...atomicList, ...oneOf('Egress', 'Ingress') },
  },
  V1ServiceBackendPort: { '': atomicMap },
  V1ServiceCIDR: { spec: struct, status: struct },
  V1ServiceCIDRSpec: { cidrs: atomicList },
  V1ServiceCIDRStatus: { conditions: mergeMap('type') },
});
