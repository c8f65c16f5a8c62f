import { podRules } from '#api/core/pod-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { nodeRules } from '#api/node/node-rules.ts';
import type { RuntimeClass } from '#api/types.ts';

/** Source: node.k8s.io/v1 RuntimeClass. */
export const runtimeClass = defineKind<RuntimeClass>({
  group: 'node.k8s.io',
  version: 'v1',
  kind: 'RuntimeClass',
  plural: 'runtimeclasses',
  singular: 'runtimeclass',
  scope: 'Cluster',
  schema: 'V1RuntimeClass',
  fieldRules: [nodeRules, ...podRules],
  generation: 'none',
  columns: [text('Handler', (object) => object.handler ?? '', 'V1RuntimeClass.handler')],

  defaults(object) {
    object.handler ??= '';
    canonicalResources(object.overhead?.podFixed);
  },
});
