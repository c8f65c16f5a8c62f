import { join } from 'node:path';
import type { Pod } from '#api/types.ts';

/** Where the agent keeps what belongs to pods; all below its root directory. */
export type PodPaths = { podsDir: string; logsDir: string; seccompDir: string };

export const podPaths = (rootDir: string): PodPaths => ({
  podsDir: join(rootDir, 'pods'),
  logsDir: join(rootDir, 'log/pods'),
  seccompDir: join(rootDir, 'seccomp'),
});

export const podDir = ({ podsDir }: PodPaths, uid: string): string => join(podsDir, uid);

/** The directory of one volume, named as the kubelet does: plugin, then volume. */
export const volumeDir = (paths: PodPaths, uid: string, plugin: string, name: string): string =>
  join(podDir(paths, uid), 'volumes', `kubernetes.io~${plugin}`, name);

export const hostsFile = (paths: PodPaths, uid: string): string =>
  join(podDir(paths, uid), 'etc-hosts');

/** What the container writes its last words to, one file per attempt. */
export const terminationFile = (
  paths: PodPaths,
  { uid, name, attempt }: { uid: string; name: string; attempt: number },
): string => join(podDir(paths, uid), 'containers', name, `${attempt}.termination`);

export const podLogDir = (
  { logsDir }: PodPaths,
  { namespace, name, uid }: { namespace: string; name: string; uid: string },
): string => join(logsDir, `${namespace}_${name}_${uid}`);

/** Relative to the pod's log directory. */
export const containerLogPath = (name: string, attempt: number): string => `${name}/${attempt}.log`;

export type PodIdentity = { uid: string; name: string; namespace: string };

export const identityOf = ({ metadata }: Pod): PodIdentity => ({
  uid: metadata.uid ?? '',
  name: metadata.name ?? '',
  namespace: metadata.namespace ?? '',
});

/** The longest host name Linux takes, less one. */
const MAX_HOSTNAME = 63;

/** Host name of a pod, and its full name when it has a subdomain. */
export function podHostname(pod: Pod, clusterDomain: string): { hostname: string; fqdn: string } {
  const { spec, metadata } = pod;
  const own = (spec.hostname ?? metadata.name ?? '').slice(0, MAX_HOSTNAME).replace(/[-.]+$/, '');
  const fqdn = spec.subdomain
    ? `${own}.${spec.subdomain}.${metadata.namespace}.svc.${clusterDomain}`
    : '';
  if (spec.hostnameOverride) return { hostname: spec.hostnameOverride, fqdn: '' };
  return { hostname: spec.setHostnameAsFQDN && fqdn ? fqdn : own, fqdn };
}

/**
 * /etc/hosts of a pod. On the host's network it is the host's own with the aliases after it.
 * Source: Kubernetes documentation, "Adding entries to Pod /etc/hosts with HostAliases".
 */
export function hostsText(
  pod: Pod,
  options: { ips: readonly string[]; clusterDomain: string; hostFile: string },
): string {
  const lines: string[] = [];
  if (pod.spec.hostNetwork) {
    lines.push('# Kubernetes-managed hosts file (host network).', options.hostFile.trimEnd());
  } else {
    const { hostname, fqdn } = podHostname(pod, options.clusterDomain);
    lines.push(
      '# Kubernetes-managed hosts file.',
      '127.0.0.1\tlocalhost',
      '::1\tlocalhost ip6-localhost ip6-loopback',
      'fe00::0\tip6-localnet',
      'fe00::0\tip6-mcastprefix',
      'fe00::1\tip6-allnodes',
      'fe00::2\tip6-allrouters',
      ...options.ips.map((ip) =>
        fqdn && fqdn !== hostname ? `${ip}\t${fqdn}\t${hostname}` : `${ip}\t${hostname}`,
      ),
    );
  }
  const aliases = pod.spec.hostAliases ?? [];
  if (aliases.length > 0) {
    lines.push('', '# Entries added by HostAliases.');
    for (const { ip, hostnames } of aliases) lines.push([ip, ...(hostnames ?? [])].join('\t'));
  }
  return `${lines.join('\n')}\n`;
}
