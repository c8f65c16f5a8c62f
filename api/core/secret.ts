import { coreRules } from '#api/core/core-rules.ts';
import { defineKind } from '#api/kind.ts';
import { integer, text } from '#api/meta/columns.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import type { Secret } from '#api/types.ts';

/** Source: core/v1 Secret. */
export const secret = defineKind<Secret>({
  group: '',
  version: 'v1',
  kind: 'Secret',
  plural: 'secrets',
  singular: 'secret',
  scope: 'Namespaced',
  schema: 'V1Secret',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  selectableFields: { type: (object) => object.type ?? '' },
  columns: [
    text('Type', (object) => object.type ?? '', 'V1Secret.type'),
    {
      ...integer<Secret>('Data', (object) => Object.keys(object.data ?? {}).length),
      type: 'string',
      describedBy: 'V1Secret.data',
    },
  ],

  defaults(object) {
    if (!object.type) object.type = 'Opaque';
    foldStringData(object);
  },
});

/** `stringData` is write-only: its values go base64-encoded into `data` and win over it. */
function foldStringData(object: Secret): void {
  if (object.stringData === undefined) return;
  const entries = Object.entries(object.stringData ?? {});
  if (entries.length > 0) {
    object.data ??= {};
    for (const [key, value] of entries) {
      object.data[key] = Buffer.from(String(value), 'utf8').toString('base64');
    }
  }
  delete object.stringData;
}
