import { tokenExpiryMs } from '#api/bootstrap-token.ts';
import type { Secret } from '#api/types.ts';
import { cacheOf, onSelf, type Plan, runController } from '#client/controller.ts';
import { secrets } from '#client/resources.ts';
import { tokenCache } from '#controllers/bootstrap-signer-controller.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

/** Deletes a bootstrap token when its time is up. Pure. */
export function planTokenEnd(token: Secret, now: number): Plan {
  const leftMs = tokenExpiryMs(token) - now;
  if (leftMs === Number.POSITIVE_INFINITY || token.metadata.deletionTimestamp) {
    return { actions: [] };
  }
  if (leftMs > 0) return { actions: [], requeueAfterMs: leftMs };
  const { namespace, name = '', uid = '', resourceVersion = '' } = token.metadata;
  // A token that somebody has just prolonged is another case.
  return {
    actions: [
      { type: 'delete', resource: secrets, key: { namespace, name }, uid, resourceVersion },
    ],
  };
}

/** Removes expired bootstrap tokens. Source: upstream's tokencleaner. */
export const tokenCleanerController: ControllerDefinition = {
  name: 'token-cleaner-controller',
  async run(setup) {
    const cache = tokenCache(setup);
    await runController<Secret>(
      {
        name: 'token-cleaner-controller',
        caches: [cacheOf(secrets, cache)],
        triggers: (add) => onSelf(cache, add),
        observe: (key) => cache.get(key),
        plan: planTokenEnd,
      },
      { ...setup, recorder: setup.recorderOf('token-cleaner') },
    );
  },
};
