import { isDeepStrictEqual } from 'node:util';
import { matchesLabels } from '#api/labels.ts';
import type { ClusterRole, PolicyRule } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { clusterRoles } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

type Observed = { role: ClusterRole; all: readonly ClusterRole[] };

/** Gives an aggregated role the rules of the roles that its selectors pick. Pure. */
export function planAggregation({ role, all }: Observed): Plan {
  const selectors = role.aggregationRule?.clusterRoleSelectors ?? [];
  if (!role.aggregationRule || role.metadata.deletionTimestamp) return { actions: [] };
  const name = (one: ClusterRole): string => one.metadata.name ?? '';
  const rules: PolicyRule[] = [];
  const seen = new Set<string>();
  for (const selector of selectors) {
    const picked = all
      .filter((one) => name(one) !== name(role))
      .filter((one) => matchesLabels(selector, one.metadata.labels ?? {}))
      .sort((a, b) => (name(a) < name(b) ? -1 : 1));
    for (const rule of picked.flatMap((one) => one.rules ?? [])) {
      const text = JSON.stringify(rule);
      if (seen.has(text)) continue;
      seen.add(text);
      rules.push(rule);
    }
  }
  if (isDeepStrictEqual(rules, role.rules ?? [])) return { actions: [] };
  return { actions: [{ type: 'update', resource: clusterRoles, object: { ...role, rules } }] };
}

/** Keeps ClusterRoles that are made up of others. */
export const clusterRoleAggregationController: ControllerDefinition = {
  name: 'clusterrole-aggregation-controller',
  async run(setup) {
    const cache = setup.informers.of(clusterRoles);
    await runController<Observed>(
      {
        name: 'clusterrole-aggregation-controller',
        caches: [cacheOf(clusterRoles, cache)],
        triggers(add) {
          onSelf(cache, add);
          cache.onChange((change) => {
            if (change.type === 'updated' && isSame(change.old, change.object)) return;
            for (const role of cache.list()) {
              if (role.aggregationRule) add(role.metadata.name ?? '');
            }
          });
        },
        observe(key) {
          const role = cache.get(key);
          return role?.aggregationRule ? { role, all: cache.list() } : undefined;
        },
        plan: planAggregation,
      },
      { ...setup, recorder: setup.recorderOf('clusterrole-aggregation-controller') },
    );
  },
};

const isSame = (a: ClusterRole, b: ClusterRole): boolean =>
  isDeepStrictEqual(a.rules, b.rules) && isDeepStrictEqual(a.metadata.labels, b.metadata.labels);
