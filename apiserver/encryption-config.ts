import { createSecretKey, type KeyObject } from 'node:crypto';
import { parseYaml } from '#api/yaml.ts';

/** How values of some resources are kept. Source: Kubernetes "Encrypting Confidential Data at Rest". */
export type EncryptionRule = {
  /** `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) or `*.*`. */
  resources: string[];
  /** The first one writes; all of them read. */
  providers: EncryptionProvider[];
};

export type EncryptionProvider =
  | { type: 'identity' }
  | { type: 'aesgcm' | 'aescbc' | 'secretbox'; keys: { name: string; key: KeyObject }[] };

const KEY_BYTES: Readonly<Record<string, readonly number[]>> = {
  aesgcm: [16, 24, 32],
  aescbc: [16, 24, 32],
  secretbox: [32],
};

type Refuse = (path: string, rule: string) => never;

/**
 * Reads --encryption-provider-config. Throws an Error that names the file, the field and what would
 * be right; secrets are never shown.
 */
export function parseEncryptionConfig(text: string, source: string): EncryptionRule[] {
  const refuse: Refuse = (path, rule) => {
    throw new Error(`${source}: ${path}: ${rule}`);
  };
  const config = recordOf(parseYaml(text, { source })[0]?.value, 'the file', refuse);
  if (config['kind'] !== 'EncryptionConfiguration') {
    refuse('kind', 'must be EncryptionConfiguration');
  }
  if (config['apiVersion'] !== 'apiserver.config.k8s.io/v1') {
    refuse('apiVersion', 'must be apiserver.config.k8s.io/v1');
  }
  return listOf(config['resources'], 'resources', refuse).map((one, i) => {
    const path = `resources[${i}]`;
    const rule = recordOf(one, path, refuse);
    const resources = listOf(rule['resources'], `${path}.resources`, refuse).map((resource, j) =>
      readResource(resource, `${path}.resources[${j}]`, refuse),
    );
    const providers = listOf(rule['providers'], `${path}.providers`, refuse).map((provider, j) =>
      readProvider(provider, `${path}.providers[${j}]`, refuse),
    );
    return { resources, providers };
  });
}

function recordOf(value: unknown, path: string, refuse: Refuse): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return value as Record<string, unknown>;
  }
  return refuse(path, 'must be an object');
}

function listOf(value: unknown, path: string, refuse: Refuse): unknown[] {
  if (Array.isArray(value) && value.length > 0) return value as unknown[];
  return refuse(path, 'must have at least one item');
}

function readResource(value: unknown, path: string, refuse: Refuse): string {
  if (typeof value !== 'string' || value === '') return refuse(path, 'must be a resource');
  const star = value.indexOf('*');
  const wildcard = value === '*.*' || /^\*\.[^*]*$/.test(value);
  if (star >= 0 && !wildcard) refuse(path, `${value}: use *.* for all, *.GROUP for a group`);
  if (value !== value.toLowerCase() || value.includes('/')) {
    refuse(path, `${value}: must be a plural in lower case, like secrets or deployments.apps`);
  }
  return value;
}

function readProvider(value: unknown, path: string, refuse: Refuse): EncryptionProvider {
  const provider = recordOf(value, path, refuse);
  const [type = '', ...others] = Object.keys(provider);
  if (others.length > 0) refuse(path, 'more than one provider specified in a single element');
  if (type === 'identity') return { type };
  if (type !== 'aesgcm' && type !== 'aescbc' && type !== 'secretbox') {
    const known = 'identity, aesgcm, aescbc, secretbox';
    return refuse(path, `${type || 'nothing'}: must be one of ${known}`);
  }
  const at = `${path}.${type}`;
  const { keys } = recordOf(provider[type], at, refuse);
  const names = new Set<string>();
  return {
    type,
    keys: listOf(keys, `${at}.keys`, refuse).map((one, i) => {
      const keyAt = `${at}.keys[${i}]`;
      const { name, secret } = recordOf(one, keyAt, refuse);
      if (typeof name !== 'string' || name === '') return refuse(`${keyAt}.name`, 'is required');
      if (name.includes(':')) refuse(`${keyAt}.name`, `${name}: must not contain a colon`);
      if (names.has(name)) refuse(`${keyAt}.name`, `${name}: is there twice`);
      names.add(name);
      return { name, key: readKey(secret, type, `${keyAt}.secret`, refuse) };
    }),
  };
}

function readKey(secret: unknown, type: string, path: string, refuse: Refuse): KeyObject {
  if (typeof secret !== 'string' || !/^[A-Za-z0-9+/]+={0,2}$/.test(secret)) {
    return refuse(path, 'secrets must be base64 encoded');
  }
  const bytes = Buffer.from(secret, 'base64');
  const sizes = KEY_BYTES[type] ?? [];
  if (!sizes.includes(bytes.length)) {
    refuse(path, `has ${bytes.length} bytes: must have ${sizes.join(', ')}`);
  }
  return createSecretKey(bytes);
}
