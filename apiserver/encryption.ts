import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from 'node:crypto';
import type { EncryptionProvider, EncryptionRule } from '#apiserver/encryption-config.ts';
import { openSecretbox, sealSecretbox } from '#apiserver/encryption-secretbox.ts';

/** Turns what is to be stored into what is stored, and back. */
export type Transformer = {
  /** Begins every value that this one writes; '' for values as they are. */
  prefix: string;
  /** `key` is where the value is stored: a value moved elsewhere cannot be read there. */
  seal(value: Uint8Array, key: string): Uint8Array;
  /** Gets the bytes after the prefix. Throws when they are not what was sealed. */
  open(sealed: Uint8Array, key: string): Uint8Array;
};

export type ResourceEncryption = { transformers: readonly Transformer[] };

const MARK = 'k8s:enc:';

const identity: Transformer = {
  prefix: '',
  seal: (value) => value,
  open: (sealed) => {
    if (startsWith(sealed, Buffer.from(MARK))) {
      throw new Error('identity transformer tried to read encrypted data');
    }
    return sealed;
  },
};

const plain: ResourceEncryption = { transformers: [identity] };

/** What is done with values by the place where they are stored. */
export type Encryption = { of(group: string, resource: string): ResourceEncryption };

/** The first rule with the resource decides; resources without a rule are stored as they are. */
export function createEncryption(rules: readonly EncryptionRule[]): Encryption {
  const ready = rules.map(({ resources, providers }) => ({
    resources,
    encryption: { transformers: providers.flatMap(transformersOf) },
  }));
  const known = new Map<string, ResourceEncryption>();
  return {
    of(group, resource) {
      const name = group ? `${resource}.${group}` : resource;
      let found = known.get(name);
      if (!found) {
        const names = new Set(['*.*', `*.${group}`, name]);
        found =
          ready.find((rule) => rule.resources.some((one) => names.has(one)))?.encryption ?? plain;
        known.set(name, found);
      }
      return found;
    },
  };
}

/** One per key: the first key of the first provider writes. */
function transformersOf(provider: EncryptionProvider): Transformer[] {
  if (provider.type === 'identity') return [identity];
  const cipher = CIPHERS[provider.type];
  return provider.keys.map(({ name, key }) => {
    const prefix = `${MARK}${provider.type}:v1:${name}:`;
    const head = Buffer.from(prefix);
    return {
      prefix,
      seal: (value, at) => Buffer.concat([head, ...cipher.seal(value, key, at)]),
      open: (sealed, at) => cipher.open(sealed, key, at),
    };
  });
}

type Cipher = {
  seal(value: Uint8Array, key: KeyObject, at: string): Uint8Array[];
  open(sealed: Uint8Array, key: KeyObject, at: string): Uint8Array;
};

const GCM_NONCE = 12;
const GCM_TAG = 16;
const CBC_BLOCK = 16;

const CIPHERS: Readonly<Record<'aesgcm' | 'aescbc' | 'secretbox', Cipher>> = {
  aesgcm: {
    seal(value, key, at) {
      const nonce = randomBytes(GCM_NONCE);
      const cipher = createCipheriv(gcmName(key), key, nonce);
      cipher.setAAD(Buffer.from(at));
      const body = [cipher.update(value), cipher.final()];
      return [nonce, ...body, cipher.getAuthTag()];
    },
    open(sealed, key, at) {
      if (sealed.length < GCM_NONCE + GCM_TAG) throw new Error('the stored data was too short');
      const end = sealed.length - GCM_TAG;
      const decipher = createDecipheriv(gcmName(key), key, sealed.subarray(0, GCM_NONCE), {
        authTagLength: GCM_TAG,
      });
      decipher.setAAD(Buffer.from(at));
      decipher.setAuthTag(sealed.subarray(end));
      return Buffer.concat([decipher.update(sealed.subarray(GCM_NONCE, end)), decipher.final()]);
    },
  },
  /** Does not notice changes of the stored bytes: kept for data that others have written. */
  aescbc: {
    seal(value, key) {
      const start = randomBytes(CBC_BLOCK);
      const cipher = createCipheriv(cbcName(key), key, start);
      return [start, cipher.update(value), cipher.final()];
    },
    open(sealed, key) {
      if (sealed.length < 2 * CBC_BLOCK) throw new Error('the stored data was too short');
      const decipher = createDecipheriv(cbcName(key), key, sealed.subarray(0, CBC_BLOCK));
      return Buffer.concat([decipher.update(sealed.subarray(CBC_BLOCK)), decipher.final()]);
    },
  },
  secretbox: {
    seal: (value, key) => [sealSecretbox(value, key.export())],
    open: (sealed, key) => openSecretbox(sealed, key.export()),
  },
};

const bitsOf = (key: KeyObject): number => (key.symmetricKeySize ?? 0) * 8;
const gcmName = (key: KeyObject) => `aes-${bitsOf(key)}-gcm` as 'aes-256-gcm';
const cbcName = (key: KeyObject): string => `aes-${bitsOf(key)}-cbc`;

export const startsWith = (bytes: Uint8Array, head: Uint8Array): boolean =>
  bytes.length >= head.length &&
  Buffer.compare(bytes.subarray(0, head.length), head as Buffer) === 0;

/**
 * Reads a stored value with whichever key wrote it. Throws an Error that says why it cannot be
 * read: no key of that name, or bytes that are not what was written.
 */
export function openValue(
  { transformers }: ResourceEncryption,
  stored: Uint8Array,
  key: string,
): { value: Uint8Array; seal: string } {
  const marked = startsWith(stored, Buffer.from(MARK));
  let failure: unknown;
  for (const transformer of transformers) {
    const { prefix } = transformer;
    if (marked ? prefix === '' || !startsWith(stored, Buffer.from(prefix)) : prefix !== '')
      continue;
    try {
      return { value: transformer.open(stored.subarray(prefix.length), key), seal: prefix };
    } catch (error) {
      failure = error;
    }
  }
  if (failure) throw failure;
  const seal = marked ? Buffer.from(stored.subarray(0, 80)).toString('latin1') : '';
  const what = /^k8s:enc:[^:]*:[^:]*:[^:]*:/.exec(seal)?.[0];
  throw new Error(
    what
      ? `no matching prefix found: it was written with ${what.slice(0, -1)}`
      : 'no matching prefix found: it is not encrypted, and no identity provider is configured',
  );
}
