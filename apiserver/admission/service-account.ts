import { forbiddenError } from '#api/status.ts';
import type { Pod, ServiceAccount } from '#api/types.ts';
import { randomInt } from '#base/random.ts';
import type { Random } from '#base/random.ts';
import type {
  AdmissionContext,
  AdmissionRequest,
  AdmissionRule,
} from '#apiserver/admission-rule.ts';
import { isMirrorPod, isPod, PODS } from '#apiserver/admission-pods.ts';

const TOKEN_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';
const VOLUME_PREFIX = 'kube-api-access-';
/** An hour, and 7 s by which one sees that the token was asked for by this rule. */
const TOKEN_SECONDS = 3607;
const SUFFIX_LETTERS = 'bcdfghjklmnpqrstvwxz2456789';
const SUFFIX_LENGTH = 5;

/**
 * Gives a pod its service account: the name, the account's pull secrets, and a volume with a token,
 * the cluster's CA and the namespace in every container.
 * Source: Kubernetes "Managing Service Accounts", ServiceAccount admission controller.
 */
export const serviceAccount: AdmissionRule = {
  name: 'ServiceAccount',
  handles: (request) => request.operation === 'CREATE' && isPod(request),
  mutate(request, context) {
    const pod = request.object as Pod;
    if (isMirrorPod(pod)) return;
    const name = pod.spec.serviceAccountName || 'default';
    pod.spec.serviceAccountName = name;
    pod.spec.serviceAccount = name;
    const account = find(request, context, name);
    if (!account) throw noAccount(request, name);
    if (!pod.spec.imagePullSecrets?.length && account.imagePullSecrets?.length) {
      pod.spec.imagePullSecrets = structuredClone(account.imagePullSecrets);
    }
    const automount =
      pod.spec.automountServiceAccountToken ?? account.automountServiceAccountToken ?? true;
    if (automount) mountToken(pod, context.random);
  },
  validate(request, context) {
    const pod = request.object as Pod;
    const name = pod.spec.serviceAccountName ?? '';
    if (isMirrorPod(pod)) {
      if (name === '') return;
      const why = 'a mirror pod may not reference service accounts';
      throw forbiddenError(PODS, request.name, why);
    }
    // Rules after this one may have changed the name.
    if (!find(request, context, name)) throw noAccount(request, name);
  },
};

const find = (request: AdmissionRequest, context: AdmissionContext, name: string) =>
  context.reader.get<ServiceAccount>('', 'serviceaccounts', {
    namespace: request.namespace,
    name,
  });

const noAccount = (request: AdmissionRequest, name: string) =>
  forbiddenError(
    PODS,
    request.name,
    `error looking up service account ${request.namespace}/${name}: serviceaccount "${name}" not found`,
  );

function mountToken(pod: Pod, random: Random): void {
  const present = pod.spec.volumes?.find((volume) => volume.name.startsWith(VOLUME_PREFIX));
  const name = present?.name ?? VOLUME_PREFIX + suffix(random);
  let needed = false;
  for (const container of [...(pod.spec.initContainers ?? []), ...pod.spec.containers]) {
    if (container.volumeMounts?.some((mount) => mount.mountPath === TOKEN_DIR)) continue;
    const mount = { name, readOnly: true, mountPath: TOKEN_DIR };
    container.volumeMounts = [...(container.volumeMounts ?? []), mount];
    needed = true;
  }
  if (!needed || present) return;
  const sources = [
    { serviceAccountToken: { expirationSeconds: TOKEN_SECONDS, path: 'token' } },
    { configMap: { name: 'kube-root-ca.crt', items: [{ key: 'ca.crt', path: 'ca.crt' }] } },
    {
      downwardAPI: {
        items: [
          {
            path: 'namespace',
            fieldRef: { apiVersion: 'v1', fieldPath: 'metadata.namespace' },
          },
        ],
      },
    },
  ];
  const volume = { name, projected: { defaultMode: 0o644, sources } };
  pod.spec.volumes = [...(pod.spec.volumes ?? []), volume];
}

function suffix(random: Random): string {
  let text = '';
  for (let i = 0; i < SUFFIX_LENGTH; i++) {
    text += SUFFIX_LETTERS[randomInt(random, SUFFIX_LETTERS.length)];
  }
  return text;
}
