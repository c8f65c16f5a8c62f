import { podRules } from '#api/core/pod-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { nodeRules } from '#api/node/node-rules.ts';
import { checkTolerations } from '#api/core/pod-validate-affinity.ts';
import { checkContainerResources } from '#api/core/pod-validate-resources.ts';
import { required } from '#api/field-error.ts';
import type { RuntimeClass } from '#api/types.ts';
import type { Errors } from '#api/validate.ts';
import { checkImmutable, checkLabel } from '#api/validate.ts';
import { checkLabels } from '#api/validate-labels.ts';

/** Source: node.k8s.io/v1 RuntimeClass. */
export const runtimeClass = defineKind<RuntimeClass>({
  group: 'node.k8s.io',
  version: 'v1',
  kind: 'RuntimeClass',
  plural: 'runtimeclasses',
  singular: 'runtimeclass',
  scope: 'Cluster',
  unconditionalUpdate: false,
  schema: 'V1RuntimeClass',
  fieldRules: [nodeRules, ...podRules],
  generation: 'none',
  columns: [text('Handler', (object) => object.handler ?? '', 'V1RuntimeClass.handler')],

  defaults(object) {
    object.handler ??= '';
    canonicalResources(object.overhead?.podFixed);
  },
  validate(object) {
    const errors: Errors = [];
    if (!object.handler) errors.push(required('handler'));
    else checkLabel(errors, 'handler', object.handler);
    if (object.overhead?.podFixed) {
      checkContainerResources(errors, 'overhead', { limits: object.overhead.podFixed }, new Set());
    }
    const { nodeSelector, tolerations } = object.scheduling ?? {};
    if (nodeSelector) checkLabels(errors, 'scheduling.nodeSelector', nodeSelector);
    if (tolerations) checkTolerations(errors, 'scheduling.tolerations', tolerations);
    return errors;
  },
  validateUpdate(object, old) {
    const errors: Errors = [];
    checkImmutable(errors, 'handler', object.handler, old.handler);
    return errors;
  },
});
