import {
  BOOTSTRAP_TOKEN_NAMESPACE,
  BOOTSTRAP_TOKEN_TYPE,
  CLUSTER_INFO,
  CLUSTER_INFO_KEY,
  SIGNATURE_PREFIX,
  signDetached,
  tokenExpiryMs,
  usableToken,
} from '#api/bootstrap-token.ts';
import { equalJson } from '#api/json.ts';
import type { ConfigMap, Secret } from '#api/types.ts';
import { cacheOf, type Plan, runController } from '#client/controller.ts';
import { configMaps, secrets } from '#client/resources.ts';
import type { ControllerDefinition, ControllerSetup } from '#controllers/definition.ts';

type Observed = { info: ConfigMap; tokens: readonly Secret[] };

/**
 * The public ConfigMap carries one signature of its kubeconfig per living token that may sign, and no
 * other, so that whoever holds a token can tell that it is the right cluster's. Pure.
 */
export function planSignatures({ info, tokens }: Observed, now: number): Plan {
  const kubeconfig = info.data?.[CLUSTER_INFO_KEY];
  if (kubeconfig === undefined) return { actions: [] };
  const signing = tokens.flatMap((secret) => {
    const token = usableToken(secret, 'signing', now);
    return token ? [{ token, expiryMs: tokenExpiryMs(secret) }] : [];
  });
  const data = Object.fromEntries([
    ...Object.entries(info.data ?? {}).filter(([key]) => !key.startsWith(SIGNATURE_PREFIX)),
    ...signing.map(({ token }) => [
      `${SIGNATURE_PREFIX}${token.id}`,
      signDetached(kubeconfig, token),
    ]),
  ]) as Record<string, string>;
  const nextMs = Math.min(...signing.map(({ expiryMs }) => expiryMs)) - now;
  const requeue = Number.isFinite(nextMs) ? { requeueAfterMs: Math.max(nextMs, 0) } : {};
  if (equalJson(data, info.data ?? {})) return { actions: [], ...requeue };
  return {
    actions: [{ type: 'update', resource: configMaps, object: { ...info, data } }],
    ...requeue,
  };
}

/** The cluster's bootstrap tokens: one cache for both controllers that look at them. */
export const tokenCache = ({ informers }: ControllerSetup) =>
  informers.of(secrets, {
    namespace: BOOTSTRAP_TOKEN_NAMESPACE,
    fieldSelector: `type=${BOOTSTRAP_TOKEN_TYPE}`,
  });

/** Signs kube-public/cluster-info. Source: upstream's bootstrapsigner. */
export const bootstrapSignerController: ControllerDefinition = {
  name: 'bootstrap-signer-controller',
  async run(setup) {
    const tokens = tokenCache(setup);
    const infos = setup.informers.of(configMaps, {
      namespace: CLUSTER_INFO.namespace,
      fieldSelector: `metadata.name=${CLUSTER_INFO.name}`,
    });
    await runController<Observed>(
      {
        name: 'bootstrap-signer-controller',
        workers: 1,
        caches: [cacheOf(secrets, tokens), cacheOf(configMaps, infos)],
        triggers(add) {
          tokens.onChange(() => add('all'));
          infos.onChange(() => add('all'));
        },
        observe() {
          const info = infos.get(CLUSTER_INFO);
          return info && { info, tokens: tokens.list() };
        },
        plan: planSignatures,
      },
      { ...setup, recorder: setup.recorderOf('bootstrap-signer') },
    );
  },
};
