import type { Namespace, ServiceAccount } from '#api/types.ts';
import { cacheOf, keyText, type Plan, runController } from '#client/controller.ts';
import { namespaces, serviceAccounts } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

const NAME = 'default';

type Observed = { namespace: Namespace; account: ServiceAccount | undefined };

/** Every living namespace has a service account `default`. */
export function planDefaultServiceAccount({ namespace, account }: Observed): Plan {
  if (account || namespace.metadata.deletionTimestamp) return { actions: [] };
  const object = { metadata: { name: NAME, namespace: namespace.metadata.name ?? '' } };
  return { actions: [{ type: 'create', resource: serviceAccounts, object, ifExists: 'ignore' }] };
}

/** Keeps the default service account of each namespace. */
export const serviceAccountController: ControllerDefinition = {
  name: 'serviceaccount-controller',
  async run(setup) {
    const namespaceCache = setup.informers.of(namespaces);
    const fieldSelector = `metadata.name=${NAME}`;
    const accountCache = setup.informers.of(serviceAccounts, { fieldSelector });
    await runController<Observed>(
      {
        name: 'serviceaccount-controller',
        caches: [cacheOf(namespaces, namespaceCache), cacheOf(serviceAccounts, accountCache)],
        triggers(add) {
          namespaceCache.onChange(({ object }) => add(keyText(object)));
          accountCache.onChange(({ object, type }) => {
            if (type === 'deleted') add(object.metadata.namespace ?? '');
          });
        },
        observe(key) {
          const namespace = namespaceCache.get(key);
          if (!namespace) return undefined;
          return { namespace, account: accountCache.get({ namespace: key.name, name: NAME }) };
        },
        plan: planDefaultServiceAccount,
      },
      { ...setup, recorder: setup.recorderOf('serviceaccount-controller') },
    );
  },
};
