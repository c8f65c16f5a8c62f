import { coreRules } from '#api/core/core-rules.ts';
import { validateLimitRange } from '#api/core/limit-range-validate.ts';
import { defineKind } from '#api/kind.ts';
import { metaRules } from '#api/meta/meta-rules.ts';
import { canonicalResources } from '#api/meta/resource-list.ts';
import { CREATED_AT } from '#api/meta/columns.ts';
import type { LimitRange } from '#api/types.ts';

/** Source: core/v1 LimitRange. */
export const limitRange = defineKind<LimitRange>({
  group: '',
  version: 'v1',
  kind: 'LimitRange',
  plural: 'limitranges',
  singular: 'limitrange',
  shortNames: ['limits'],
  scope: 'Namespaced',
  schema: 'V1LimitRange',
  fieldRules: [coreRules, metaRules],
  generation: 'none',
  createOnUpdate: true,
  ageColumn: false,
  columns: [CREATED_AT],

  defaults(object) {
    object.spec ??= { limits: [] };
    for (const limit of object.spec.limits ?? []) {
      const lists = [limit.max, limit.min, limit.default, limit.defaultRequest];
      for (const list of [...lists, limit.maxLimitRequestRatio]) canonicalResources(list);
      if (limit.type !== 'Container') continue;
      // What a container may use at most is its default; what it is promised follows from that.
      fill(limit, 'default', limit.max);
      fill(limit, 'defaultRequest', limit.default);
      fill(limit, 'defaultRequest', limit.min);
    }
  },
  validate: validateLimitRange,
});

type Limit = NonNullable<LimitRange['spec']>['limits'][number];

function fill(
  limit: Limit,
  field: 'default' | 'defaultRequest',
  from: Readonly<Record<string, string>> | undefined,
): void {
  for (const [name, value] of Object.entries(from ?? {})) {
    const list = (limit[field] ??= {});
    list[name] ??= value;
  }
}
