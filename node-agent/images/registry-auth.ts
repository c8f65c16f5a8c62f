import type { Secret } from '#api/types.ts';
import type { AuthConfig } from '#node-agent/runtime/service.ts';

type DockerEntry = {
  username?: string;
  password?: string;
  auth?: string;
  identitytoken?: string;
  registrytoken?: string;
};

/** The registry's host name in an image reference. */
export function registryOf(image: string): string {
  const first = image.split('/')[0] ?? '';
  const isHost = image.includes('/') && (/[.:]/.test(first) || first === 'localhost');
  return isHost ? first : 'docker.io';
}

/**
 * Credentials for an image in pull Secrets, best match first. Keys are hosts or URLs, with a path and
 * `*` for parts of the host. Source: Kubernetes documentation, "Interpretation of config.json".
 */
export const registryAuths = (image: string, secrets: readonly Secret[]): AuthConfig[] =>
  secretAuths(image, secrets).map(({ auth }) => auth);

/** The same, with the Secret that each is in. */
export function secretAuths(
  image: string,
  secrets: readonly Secret[],
): { auth: AuthConfig; secret: Secret }[] {
  const registry = registryOf(image);
  const found: { length: number; auth: AuthConfig; secret: Secret }[] = [];
  for (const secret of secrets) {
    for (const [key, entry] of Object.entries(entriesOf(secret))) {
      const place = key
        .replace(/^https?:\/\//, '')
        .replace(/\/v[12]\/?$/, '')
        .replace(/\/$/, '')
        .replace(/^index\.docker\.io/, 'docker.io');
      if (matchesImage(place, image))
        found.push({ length: place.length, auth: authOf(entry, registry), secret });
    }
  }
  return found.sort((a, b) => b.length - a.length);
}

function entriesOf(secret: Secret): Record<string, DockerEntry> {
  const data = secret.data ?? {};
  const text = data['.dockerconfigjson'] ?? data['.dockercfg'];
  if (!text) return {};
  try {
    const parsed: unknown = JSON.parse(Buffer.from(text, 'base64').toString());
    const auths = (parsed as { auths?: unknown }).auths ?? parsed;
    return auths && typeof auths === 'object' ? (auths as Record<string, DockerEntry>) : {};
  } catch {
    return {}; // no credentials in it; the pull then says what the registry thinks
  }
}

/**
 * Whether `place` (a host with `*` for parts, perhaps a port and a path) covers an image. Source:
 * Kubernetes "Interpretation of config.json"; CredentialProviderConfig, matchImages.
 */
export function matchesImage(place: string, image: string): boolean {
  const named =
    registryOf(image) === 'docker.io' ? `docker.io/${image.replace(/^docker\.io\//, '')}` : image;
  const [host = '', ...path] = place.split('/');
  const [imageHost = '', ...imagePath] = named.split('/');
  const parts = host.split('.').map((part) => literal(part).replaceAll('\\*', '[^.]*'));
  if (!new RegExp(`^${parts.join('\\.')}$`).test(imageHost)) return false;
  return path.every((part, index) => imagePath[index] === part);
}

/** A text as a pattern that matches it alone. */
const literal = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, '\\$&');

function authOf(entry: DockerEntry, serverAddress: string): AuthConfig {
  const [username, ...password] = entry.auth
    ? Buffer.from(entry.auth, 'base64').toString().split(':')
    : [];
  return {
    serverAddress,
    username: entry.username ?? username ?? '',
    password: entry.password ?? password.join(':'),
    ...(entry.identitytoken ? { identityToken: entry.identitytoken } : {}),
    ...(entry.registrytoken ? { registryToken: entry.registrytoken } : {}),
  };
}
