import type { ConfigMap, Namespace } from '#api/types.ts';
import { cacheOf, keyText, type Plan, runController } from '#client/controller.ts';
import { configMaps, namespaces } from '#client/resources.ts';
import type { ControllerDefinition } from '#controllers/definition.ts';

const NAME = 'kube-root-ca.crt';
const DESCRIPTION = 'kubernetes.io/description';
const TEXT = 'The CA with which pods verify the API server by its in-cluster addresses.';

type Observed = { namespace: Namespace; published: ConfigMap | undefined; rootCa: string };

/** Every living namespace has the CA bundle that pods mount beside their token. */
export function planRootCa({ namespace, published, rootCa }: Observed): Plan {
  if (!rootCa || namespace.metadata.deletionTimestamp) return { actions: [] };
  const data = { 'ca.crt': rootCa };
  const annotations = { ...published?.metadata.annotations, [DESCRIPTION]: TEXT };
  if (!published) {
    const metadata = { name: NAME, namespace: namespace.metadata.name ?? '', annotations };
    const object = { metadata, data };
    return { actions: [{ type: 'create', resource: configMaps, object, ifExists: 'ignore' }] };
  }
  const isRight = published.data?.['ca.crt'] === rootCa && Object.keys(published.data).length === 1;
  if (isRight) return { actions: [] };
  const object = { ...published, metadata: { ...published.metadata, annotations }, data };
  return { actions: [{ type: 'update', resource: configMaps, object }] };
}

/** Publishes the cluster's CA as ConfigMap kube-root-ca.crt in each namespace. */
export const rootCaController: ControllerDefinition = {
  name: 'root-ca-certificate-publisher-controller',
  async run(setup) {
    const { rootCa } = setup.config;
    const namespaceCache = setup.informers.of(namespaces);
    const mapCache = setup.informers.of(configMaps, { fieldSelector: `metadata.name=${NAME}` });
    await runController<Observed>(
      {
        name: 'root-ca-certificate-publisher-controller',
        caches: [cacheOf(namespaces, namespaceCache), cacheOf(configMaps, mapCache)],
        triggers(add) {
          namespaceCache.onChange(({ object }) => add(keyText(object)));
          mapCache.onChange(({ object }) => add(object.metadata.namespace ?? ''));
        },
        observe(key) {
          const namespace = namespaceCache.get(key);
          if (!namespace) return undefined;
          const published = mapCache.get({ namespace: key.name, name: NAME });
          return { namespace, published, rootCa };
        },
        plan: planRootCa,
      },
      { ...setup, recorder: setup.recorderOf('root-ca-certificate-publisher') },
    );
  },
};
