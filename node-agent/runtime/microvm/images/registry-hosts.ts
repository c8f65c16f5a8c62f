import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** One address that may be asked for a registry's images, in the order of asking. */
export type RegistryEndpoint = { url: string; skipVerify: boolean };

/**
 * Where images of `host` are pulled from: what its hosts.toml below `certsDir` says (then that of
 * `_default`), else the host itself, https, or http on this machine. Read again at each pull.
 * Source: containerd documentation, "Registry Configuration"; of its TOML, what names hosts.
 */
export function registryEndpoints(certsDir: string, host: string): RegistryEndpoint[] {
  const own = read(join(certsDir, host, 'hosts.toml'));
  if (own !== undefined) return parseHostsToml(own, registryUrl(host));
  const fallback = read(join(certsDir, '_default', 'hosts.toml'));
  return fallback === undefined
    ? [{ url: registryUrl(host), skipVerify: false }]
    : parseHostsToml(fallback, registryUrl(host));
}

/** The endpoints of a hosts.toml: its `[host."…"]` tables that can pull, then its `server`. */
export function parseHostsToml(text: string, fallbackUrl: string): RegistryEndpoint[] {
  let server = fallbackUrl;
  const hosts: { url: string; pulls: boolean; skipVerify: boolean }[] = [];
  let current: (typeof hosts)[number] | undefined;
  for (const raw of text.split('\n')) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const table = /^\[\s*(.*?)\s*\]/.exec(line)?.[1];
    if (table !== undefined && !line.includes('=')) {
      const url = /^host\s*\.\s*["']([^"']+)["']$/.exec(table)?.[1];
      current = url ? { url: withScheme(url), pulls: true, skipVerify: false } : current;
      if (url && current) hosts.push(current);
      continue;
    }
    const [, key, value = ''] = /^([A-Za-z_]+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (key === 'server' && !current) server = withScheme(unquoted(value));
    if (key === 'skip_verify' && current) current.skipVerify = value.startsWith('true');
    if (key === 'capabilities' && current)
      current.pulls = /["']pull["']/.test(value) && /["']resolve["']/.test(value);
  }
  const able = hosts
    .filter(({ pulls }) => pulls)
    .map(({ url, skipVerify }) => ({ url, skipVerify }));
  return able.some(({ url }) => url === server)
    ? able
    : [...able, { url: server, skipVerify: false }];
}

/** The address of a registry itself. */
export function registryUrl(host: string): string {
  const name = host.replace(/:\d+$/, '');
  if (host === 'docker.io') return 'https://registry-1.docker.io';
  const local = name === 'localhost' || name === '[::1]' || name.startsWith('127.');
  return `${local ? 'http' : 'https'}://${host}`;
}

const unquoted = (text: string): string => /^["'](.*?)["']/.exec(text)?.[1] ?? text;
const withScheme = (url: string): string => {
  const full = url.includes('://') ? url : `https://${url}`;
  return full.replace(/\/$/, '');
};

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined; // no configuration of its own
  }
}
