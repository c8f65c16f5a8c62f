import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { KubeObject } from '#api/types.ts';

type ComponentStatus = KubeObject & {
  conditions?: { type: string; status: string; message?: string; error?: string }[];
};

const healthy = (object: ComponentStatus) =>
  object.conditions?.find((condition) => condition.type === 'Healthy');

/** Read only and deprecated; nothing is stored. Source: core/v1 ComponentStatus. */
export const componentStatus = defineKind<ComponentStatus>({
  group: '',
  version: 'v1',
  kind: 'ComponentStatus',
  plural: 'componentstatuses',
  singular: 'componentstatus',
  shortNames: ['cs'],
  scope: 'Cluster',
  deprecated: 'v1 ComponentStatus is deprecated in v1.19+',
  schema: 'V1ComponentStatus',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  verbs: ['get', 'list'],
  ageColumn: false,
  columns: [
    text(
      'Status',
      (object) => {
        const condition = healthy(object);
        return condition?.status === 'True' ? 'Healthy' : condition ? 'Unhealthy' : 'Unknown';
      },
      'Status of the component conditions',
    ),
    text(
      'Message',
      (object) => healthy(object)?.message ?? '',
      'Message of the component conditions',
    ),
    text('Error', (object) => healthy(object)?.error ?? '', 'Error of the component conditions'),
  ],
});
