import type { Pod } from '#api/types.ts';
import type { DnsConfig } from '#node-agent/runtime/service.ts';

export type DnsFacts = {
  clusterDns: readonly string[];
  clusterDomain: string;
  /** The node's own resolv.conf. */
  host: DnsConfig;
};

/** The resolver takes no more. Source: resolv.conf(5) of glibc. */
const MAX_SERVERS = 3;
const MAX_SEARCHES = 32;

/** resolv.conf of a pod by its dnsPolicy and dnsConfig. */
export function podDns({ spec, metadata }: Pod, facts: DnsFacts): DnsConfig {
  const { clusterDns, clusterDomain, host } = facts;
  const policy = spec.dnsPolicy ?? 'ClusterFirst';
  const cluster =
    clusterDns.length > 0 &&
    (policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && !spec.hostNetwork));
  const base: DnsConfig =
    policy === 'None'
      ? { servers: [], searches: [], options: [] }
      : cluster
        ? {
            servers: [...clusterDns],
            searches: [
              `${metadata.namespace}.svc.${clusterDomain}`,
              `svc.${clusterDomain}`,
              clusterDomain,
              ...host.searches,
            ],
            options: ['ndots:5'],
          }
        : host;
  const own = spec.dnsConfig;
  const options = new Map(base.options.map((option) => [option.split(':')[0] ?? '', option]));
  for (const { name = '', value } of own?.options ?? [])
    options.set(name, value === undefined ? name : `${name}:${value}`);
  return {
    servers: unique([...base.servers, ...(own?.nameservers ?? [])]).slice(0, MAX_SERVERS),
    searches: unique([...base.searches, ...(own?.searches ?? [])]).slice(0, MAX_SEARCHES),
    options: [...options.values()],
  };
}

const unique = (list: readonly string[]): string[] => [...new Set(list)];

/** Reads a resolv.conf. */
export function parseResolvConf(text: string): DnsConfig {
  const result: DnsConfig = { servers: [], searches: [], options: [] };
  for (const line of text.split('\n')) {
    const [word, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (word === 'nameserver' && values[0]) result.servers.push(values[0]);
    else if (word === 'search' || word === 'domain')
      result.searches = values.filter((value) => value !== '.');
    else if (word === 'options') result.options.push(...values);
  }
  return result;
}
