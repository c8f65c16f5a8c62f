import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';

/** Ties a pod to a node; create only. Source: core/v1 Binding. */
export const binding = defineKind({
  group: '',
  version: 'v1',
  kind: 'Binding',
  plural: 'bindings',
  singular: 'binding',
  scope: 'Namespaced',
  schema: 'V1Binding',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  verbs: ['create'],
});
