import { defineKind } from '#api/kind.ts';
import { joinOr, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { keepStatus, STATUS } from '#api/meta/status-part.ts';
import { validateIngress } from '#api/networking/ingress-validate.ts';
import { networkingRules } from '#api/networking/networking-rules.ts';
import { coreRules } from '#api/core/core-rules.ts';
import type { Ingress } from '#api/types.ts';

const SHOWN_HOSTS = 3;
/** Named the class before there was a field for it. */
const CLASS_ANNOTATION = 'kubernetes.io/ingress.class';

/** Source: networking.k8s.io/v1 Ingress. */
export const ingress = defineKind<Ingress>({
  group: 'networking.k8s.io',
  version: 'v1',
  kind: 'Ingress',
  plural: 'ingresses',
  singular: 'ingress',
  shortNames: ['ing'],
  scope: 'Namespaced',
  schema: 'V1Ingress',
  fieldRules: [networkingRules, coreRules, metaRules],
  generation: 'spec',
  subresources: { status: STATUS },
  columns: [
    text(
      'Class',
      (object) => object.spec?.ingressClassName ?? '<none>',
      'The name of the IngressClass resource that should be used for additional configuration',
    ),
    text(
      'Hosts',
      hosts,
      'Hosts that incoming requests are matched against before the ingress rule',
    ),
    text(
      'Address',
      (object) =>
        (object.status?.loadBalancer?.ingress ?? [])
          .map(({ ip, hostname }) => ip || hostname || '')
          .filter((address) => address !== '')
          .join(','),
      'Address is a list containing ingress points for the load-balancer',
    ),
    text(
      'Ports',
      (object) => (object.spec?.tls?.length ? '80, 443' : '80'),
      'Ports of TLS configurations that open',
    ),
  ],

  defaults(object) {
    object.spec ??= {};
    object.status ??= {};
    object.status.loadBalancer ??= {};
  },
  prepareForCreate(object) {
    object.status = { loadBalancer: {} };
  },
  prepareForUpdate: keepStatus,
  validate: validateIngress,
  warnings: ({ metadata }, old) =>
    old === undefined && metadata.annotations?.[CLASS_ANNOTATION] !== undefined
      ? [
          `annotation "${CLASS_ANNOTATION}" is deprecated, please use 'spec.ingressClassName' instead`,
        ]
      : [],
});

function hosts(object: Ingress): string {
  const names = (object.spec?.rules ?? []).map(({ host }) => host).filter((host) => Boolean(host));
  const text = joinOr(names.slice(0, SHOWN_HOSTS), '*');
  return names.length > SHOWN_HOSTS ? `${text} + ${names.length - SHOWN_HOSTS} more...` : text;
}
