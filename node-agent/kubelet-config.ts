import { parse } from 'yaml';
import { ConfigError } from '#node-agent/config-error.ts';

/** Flags of the node agent by their names in camelCase, as the command line would give them. */
export type ConfigFlags = Record<string, string | boolean>;

type Field = { flag: string; text: (value: unknown) => string | boolean };

const plain = (flag: string): Field => ({ flag, text: String });
const yes = (flag: string): Field => ({ flag, text: Boolean });
/** `{a: 1}` as `a=1`, or with another sign between. */
const map = (flag: string, sign = '='): Field => ({
  flag,
  text: (value) =>
    Object.entries(value as object)
      .map(([key, one]) => `${key}${sign}${one}`)
      .join(','),
});
const list = (flag: string): Field => ({ flag, text: (value) => (value as unknown[]).join(',') });

/** Fields of KubeletConfiguration that mean what a flag of the agent means. */
const FIELDS: Readonly<Record<string, Field>> = {
  address: plain('address'),
  port: plain('port'),
  containerRuntimeEndpoint: plain('containerRuntimeEndpoint'),
  clusterDNS: { flag: 'clusterDns', text: (value) => String((value as unknown[])[0] ?? '') },
  clusterDomain: plain('clusterDomain'),
  resolvConf: plain('resolvConf'),
  podCIDR: plain('podCidr'),
  staticPodPath: plain('podManifestPath'),
  cgroupDriver: plain('cgroupDriver'),
  cgroupRoot: plain('cgroupRoot'),
  maxPods: plain('maxPods'),
  podPidsLimit: plain('podMaxPids'),
  systemReserved: map('systemReserved'),
  kubeReserved: map('kubeReserved'),
  allowedUnsafeSysctls: list('allowedUnsafeSysctls'),
  maxParallelImagePulls: plain('maxParallelImagePulls'),
  evictionHard: map('evictionHard', '<'),
  evictionSoft: map('evictionSoft', '<'),
  evictionSoftGracePeriod: map('evictionSoftGracePeriod'),
  evictionMinimumReclaim: map('evictionMinimumReclaim'),
  evictionMaxPodGracePeriod: plain('evictionMaxPodGracePeriod'),
  shutdownGracePeriod: plain('shutdownGracePeriod'),
  shutdownGracePeriodCriticalPods: plain('shutdownGracePeriodCriticalPods'),
  shutdownGracePeriodByPodPriority: {
    flag: 'shutdownGracePeriodByPodPriority',
    text: (value) =>
      (value as { priority: number; shutdownGracePeriodSeconds: number }[])
        .map((one) => `${one.priority}=${one.shutdownGracePeriodSeconds}`)
        .join(','),
  },
  tlsCertFile: plain('tlsCertFile'),
  tlsPrivateKeyFile: plain('tlsPrivateKeyFile'),
  rotateCertificates: yes('rotateCertificates'),
  serverTLSBootstrap: yes('rotateServerCertificates'),
};

/**
 * Reads a KubeletConfiguration (YAML or JSON). `ignored` names the fields that have no flag here.
 * Throws ConfigError for a text that is none. Source: kubelet.config.k8s.io/v1beta1.
 */
export function readKubeletConfig(
  text: string,
  file: string,
): { flags: ConfigFlags; ignored: string[] } {
  const flags: ConfigFlags = {};
  const ignored: string[] = [];
  const { kind, apiVersion, ...fields } = parseObject(text, file);
  if (kind !== 'KubeletConfiguration' || apiVersion !== 'kubelet.config.k8s.io/v1beta1')
    throw new ConfigError(
      `--config ${file}: expected kind KubeletConfiguration of kubelet.config.k8s.io/v1beta1, ` +
        `not ${String(kind)} of ${String(apiVersion)}`,
    );
  for (const [name, value] of Object.entries(fields)) {
    const field = FIELDS[name];
    if (!field) ignored.push(name);
    else if (value !== null && value !== undefined) {
      try {
        flags[field.flag] = field.text(value);
      } catch {
        throw new ConfigError(`--config ${file}: ${name} has a wrong shape`);
      }
    }
  }
  return { flags, ignored };
}

function parseObject(text: string, file: string): Record<string, unknown> {
  try {
    const value: unknown = parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch (error) {
    throw new ConfigError(`--config ${file}: ${(error as Error).message}`);
  }
  throw new ConfigError(`--config ${file} is no object`);
}
