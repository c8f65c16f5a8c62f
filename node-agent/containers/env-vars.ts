import type { ConfigMap, Container, Pod, Secret, Service } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import {
  type DownwardSource,
  fieldText,
  resourceText,
} from '#node-agent/containers/downward-api.ts';

export type EnvVar = { key: string; value: string };

/** Where values come from. `configMap` and `secret` give undefined for what does not exist. */
export type EnvSources = DownwardSource & {
  configMap(name: string): Promise<ConfigMap | undefined>;
  secret(name: string): Promise<Secret | undefined>;
  /** All services of the pod's namespace, and `default/kubernetes`. */
  services: readonly Service[];
};

/**
 * The environment of a container: services, then envFrom, then env, later ones winning. Throws
 * ConfigError for a reference that is neither there nor optional.
 * Source: API documentation of Container.env, .envFrom and PodSpec.enableServiceLinks.
 */
export async function envVars(container: Container, sources: EnvSources): Promise<EnvVar[]> {
  const services = serviceEnv(sources.pod, sources.services);
  const result = new Map<string, string>();
  for (const from of container.envFrom ?? []) {
    const ref = from.configMapRef ?? from.secretRef;
    if (!ref?.name) continue;
    const data = from.configMapRef
      ? configMapData(await sources.configMap(ref.name))
      : secretData(await sources.secret(ref.name));
    if (!data) {
      if (ref.optional) continue;
      throw new ConfigError(
        `${from.configMapRef ? 'configmap' : 'secret'} "${ref.name}" not found`,
      );
    }
    for (const [key, bytes] of data) result.set(`${from.prefix ?? ''}${key}`, bytes.toString());
  }
  for (const env of container.env ?? []) {
    const value = env.valueFrom
      ? await valueFrom(env.valueFrom, container, sources)
      : expand(env.value ?? '', (name) => result.get(name) ?? services.get(name));
    if (value !== undefined) result.set(env.name, value);
  }
  for (const [key, value] of services) if (!result.has(key)) result.set(key, value);
  return [...result].map(([key, value]) => ({ key, value }));
}

type ValueFrom = NonNullable<NonNullable<Container['env']>[number]['valueFrom']>;

async function valueFrom(
  from: ValueFrom,
  container: Container,
  sources: EnvSources,
): Promise<string | undefined> {
  if (from.fieldRef) return fieldText(sources, from.fieldRef.fieldPath);
  if (from.resourceFieldRef) {
    const { containerName } = from.resourceFieldRef;
    const spec = sources.pod.spec;
    const of = containerName
      ? [...spec.containers, ...(spec.initContainers ?? [])].find((c) => c.name === containerName)
      : container;
    return resourceText(sources, of ?? container, from.resourceFieldRef);
  }
  const namespace = sources.pod.metadata.namespace ?? '';
  const ref = from.configMapKeyRef ?? from.secretKeyRef;
  if (!ref) return undefined;
  const isConfigMap = from.configMapKeyRef !== undefined;
  const name = ref.name ?? '';
  const data = isConfigMap
    ? configMapData(await sources.configMap(name))
    : secretData(await sources.secret(name));
  const value = data?.get(ref.key);
  if (value) return value.toString();
  if (ref.optional) return undefined;
  throw new ConfigError(
    data
      ? `couldn't find key ${ref.key} in ${isConfigMap ? 'ConfigMap' : 'Secret'} ${namespace}/${name}`
      : `${isConfigMap ? 'configmap' : 'secret'} "${name}" not found`,
  );
}

/** All keys of a ConfigMap as bytes, sorted. */
export function configMapData(map: ConfigMap | undefined): Map<string, Buffer> | undefined {
  if (!map) return undefined;
  return sorted([
    ...Object.entries(map.data ?? {}).map(([k, v]) => [k, Buffer.from(v)] as const),
    ...Object.entries(map.binaryData ?? {}).map(([k, v]) => [k, Buffer.from(v, 'base64')] as const),
  ]);
}

/** All keys of a Secret as bytes, sorted. */
export function secretData(secret: Secret | undefined): Map<string, Buffer> | undefined {
  if (!secret) return undefined;
  return sorted(
    Object.entries(secret.data ?? {}).map(([k, v]) => [k, Buffer.from(v, 'base64')] as const),
  );
}

const sorted = (entries: (readonly [string, Buffer])[]): Map<string, Buffer> =>
  new Map(entries.sort(([a], [b]) => (a < b ? -1 : 1)));

/**
 * Replaces `$(NAME)` by its value, `$$` by `$`; an unknown reference stays as written.
 * Source: API documentation of EnvVar.value and Container.command.
 */
export function expand(text: string, value: (name: string) => string | undefined): string {
  return text.replace(/\$\$|\$\(([^()]*)\)/g, (whole, name: string | undefined) =>
    name === undefined ? '$' : (value(name) ?? whole),
  );
}

/** Variables that tell where services are, in the form Docker links had. */
export function serviceEnv(pod: Pod, services: readonly Service[]): Map<string, string> {
  const linked = pod.spec.enableServiceLinks ?? true;
  const namespace = pod.metadata.namespace ?? '';
  const result = new Map<string, string>();
  for (const service of services) {
    const { name = '', namespace: home = '' } = service.metadata;
    const isMaster = home === 'default' && name === 'kubernetes';
    if (!isMaster && (!linked || home !== namespace)) continue;
    const ip = service.spec?.clusterIP;
    const ports = service.spec?.ports ?? [];
    const [first] = ports;
    if (!ip || ip === 'None' || !first) continue;
    const prefix = upper(name);
    const host = ip.includes(':') ? `[${ip}]` : ip;
    result.set(`${prefix}_SERVICE_HOST`, ip);
    result.set(`${prefix}_SERVICE_PORT`, String(first.port));
    for (const port of ports)
      if (port.name) result.set(`${prefix}_SERVICE_PORT_${upper(port.name)}`, String(port.port));
    const url = (protocol: string, port: number): string =>
      `${protocol.toLowerCase()}://${host}:${port}`;
    result.set(`${prefix}_PORT`, url(first.protocol ?? 'TCP', first.port));
    for (const { protocol = 'TCP', port } of ports) {
      const base = `${prefix}_PORT_${port}_${protocol.toUpperCase()}`;
      result.set(base, url(protocol, port));
      result.set(`${base}_PROTO`, protocol.toLowerCase());
      result.set(`${base}_PORT`, String(port));
      result.set(`${base}_ADDR`, ip);
    }
  }
  return result;
}

const upper = (name: string): string => name.toUpperCase().replaceAll('-', '_');
