import { newestDefault } from '#api/default-class.ts';
import { forbiddenError } from '#api/status.ts';
import type { KubeObject } from '#api/types.ts';
import type { AdmissionRule } from '#apiserver/admission-rule.ts';

const IS_DEFAULT = 'ingressclass.kubernetes.io/is-default-class';
const OLD_ANNOTATION = 'kubernetes.io/ingress.class';

/**
 * An ingress that names no class gets the default one.
 * Source: Kubernetes "Ingress", default IngressClass.
 */
export const defaultIngressClass: AdmissionRule = {
  name: 'DefaultIngressClass',
  handles: ({ operation, kind, subresource }) =>
    operation === 'CREATE' &&
    kind.group === 'networking.k8s.io' &&
    kind.plural === 'ingresses' &&
    subresource === '',
  mutate({ object, name }, { reader }) {
    const ingress = object as (KubeObject & { spec?: { ingressClassName?: string } }) | null;
    if (!ingress || ingress.spec?.ingressClassName !== undefined) return;
    if (ingress.metadata.annotations?.[OLD_ANNOTATION] !== undefined) return;
    const classes = reader.list('networking.k8s.io', 'ingressclasses');
    const found = newestDefault(classes, IS_DEFAULT);
    if (found === undefined) return;
    if (!ingress.spec) {
      const resource = { group: 'networking.k8s.io', resource: 'ingresses' };
      throw forbiddenError(resource, name, 'an ingress needs a spec');
    }
    ingress.spec.ingressClassName = found;
  },
};
