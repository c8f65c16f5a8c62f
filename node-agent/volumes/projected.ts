import type * as models from '@kubernetes/client-node';
import type { Plain, Pod } from '#api/types.ts';
import { type Payload, writeAtomically } from '#node-agent/storage/atomic-writer.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { configMapData, secretData } from '#node-agent/containers/env-vars.ts';
import { DEFAULT_MODE, downwardFiles, keyFiles } from '#node-agent/storage/volume-content.ts';
import type { VolumeContext, VolumeType } from '#node-agent/storage/volume-type.ts';

const DEFAULT_TOKEN_SECONDS = 3600;
/** A token that only its own user may read. */
const PRIVATE_MODE = 0o600;

type Projection = Plain<models.V1VolumeProjection>;

/** Several sources in one directory; service account tokens among them are renewed in place. */
export const projectedVolume: VolumeType = {
  plugin: 'projected',
  live: true,
  readOnly: true,
  inMemory: true,
  handles: (volume) => volume.projected !== undefined,
  async prepare(context) {
    const { sources, defaultMode = DEFAULT_MODE } = context.volume.projected ?? {};
    const parts = await Promise.all(
      (sources ?? []).map((source) => project(source, context, defaultMode)),
    );
    const files: Payload = new Map(parts.flatMap((part) => [...part]));
    await writeAtomically(context.dir, files, {
      gid: context.pod.spec.securityContext?.fsGroup,
    });
    return context.dir;
  },
};

async function project(
  source: Projection,
  { pod, objects, tokens, downward, trust }: VolumeContext,
  defaultMode: number,
): Promise<Payload> {
  const namespace = pod.metadata.namespace ?? '';
  const ref = source.configMap ?? source.secret;
  if (ref) {
    const { name = '', items, optional = false } = ref;
    const what = `${source.configMap ? 'configmap' : 'secret'} "${name}"`;
    const data = source.configMap
      ? configMapData(await objects.configMap(namespace, name))
      : secretData(await objects.secret(namespace, name));
    if (!data && !optional) throw new ConfigError(`${what} not found`);
    return keyFiles(data ?? new Map(), items, { defaultMode, optional, what });
  }
  if (source.downwardAPI)
    return downwardFiles(source.downwardAPI.items ?? [], downward, defaultMode);
  if (source.serviceAccountToken) {
    const {
      path,
      audience,
      expirationSeconds = DEFAULT_TOKEN_SECONDS,
    } = source.serviceAccountToken;
    const token = await tokens.token(pod, audience, expirationSeconds);
    const uid = soleUser(pod);
    const isPrivate = uid !== undefined || pod.spec.securityContext?.fsGroup !== undefined;
    return new Map([
      [
        path,
        {
          content: Buffer.from(token),
          mode: isPrivate ? PRIVATE_MODE : defaultMode,
          ...(uid === undefined ? {} : { uid }),
        },
      ],
    ]);
  }
  if (source.clusterTrustBundle) {
    const { path, ...wanted } = source.clusterTrustBundle;
    return new Map([[path, { content: Buffer.from(await trust(wanted)), mode: defaultMode }]]);
  }
  throw new ConfigError(`projected source ${Object.keys(source).join()} is not supported`);
}

/** The user all containers run as, when the pod says so for each of them. */
function soleUser({ spec }: Pod): number | undefined {
  const users = new Set(
    [...spec.containers, ...(spec.initContainers ?? [])].map(
      (c) => c.securityContext?.runAsUser ?? spec.securityContext?.runAsUser,
    ),
  );
  return users.size === 1 ? [...users][0] : undefined;
}
