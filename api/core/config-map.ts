import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { integer } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { ConfigMap } from '#api/types.ts';

const count = (map: object | undefined | null): number => Object.keys(map ?? {}).length;

/** Source: core/v1 ConfigMap. */
export const configMap = defineKind<ConfigMap>({
  group: '',
  version: 'v1',
  kind: 'ConfigMap',
  plural: 'configmaps',
  singular: 'configmap',
  shortNames: ['cm'],
  scope: 'Namespaced',
  schema: 'V1ConfigMap',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  columns: [
    {
      ...integer<ConfigMap>('Data', (object) => count(object.data) + count(object.binaryData)),
      type: 'string',
      describedBy: 'V1ConfigMap.data',
    },
  ],
});
