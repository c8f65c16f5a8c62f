import { randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * NaCl's secretbox: XSalsa20 for secrecy, Poly1305 against changes. Node's OpenSSL has neither by
 * itself. Source: "Cryptography in NaCl" (D. J. Bernstein, 2009); RFC 8439 for Poly1305.
 */

const NONCE_BYTES = 24;
const TAG_BYTES = 16;
const BLOCK_BYTES = 64;
/** The first half of the first block is Poly1305's key. */
const MAC_KEY_BYTES = 32;

/** nonce, tag, ciphertext. `key` has 32 bytes. */
export function sealSecretbox(
  value: Uint8Array,
  key: Uint8Array,
  nonce: Uint8Array = randomBytes(NONCE_BYTES),
): Uint8Array {
  const { macKey, mixed } = xsalsa20(value, key, nonce);
  return Buffer.concat([nonce, poly1305(mixed, macKey), mixed]);
}

/** Throws when the bytes were not sealed with this key, or have been changed. */
export function openSecretbox(sealed: Uint8Array, key: Uint8Array): Uint8Array {
  if (sealed.length < NONCE_BYTES + TAG_BYTES) throw new Error('the stored data was too short');
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  const hidden = sealed.subarray(NONCE_BYTES + TAG_BYTES);
  const { macKey, mixed } = xsalsa20(hidden, key, nonce);
  if (!timingSafeEqual(poly1305(hidden, macKey), tag)) {
    throw new Error('secretbox: the data has been changed, or the key is another one');
  }
  return mixed;
}

/** `expand 32-byte k` as little-endian words. */
const SIGMA = [0x61707865, 0x3320646e, 0x79622d32, 0x6b206574] as const;

/** The four words of a quarter round's column, or row, by place. */
const ROUNDS = [
  [0, 4, 8, 12],
  [5, 9, 13, 1],
  [10, 14, 2, 6],
  [15, 3, 7, 11],
  [0, 1, 2, 3],
  [5, 6, 7, 4],
  [10, 11, 8, 9],
  [15, 12, 13, 14],
] as const;

/** Ten double rounds, in place. */
function scramble(x: Uint32Array): void {
  for (let round = 0; round < 10; round++) {
    for (const [a, b, c, d] of ROUNDS) {
      mix(x, b, a, d, 7);
      mix(x, c, b, a, 9);
      mix(x, d, c, b, 13);
      mix(x, a, d, c, 18);
    }
  }
}

function mix(x: Uint32Array, to: number, a: number, b: number, bits: number): void {
  const sum = ((x[a] ?? 0) + (x[b] ?? 0)) | 0;
  x[to] = (x[to] ?? 0) ^ ((sum << bits) | (sum >>> (32 - bits)));
}

function wordsOf(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint32Array.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true));
}

/** Salsa20's input: constants on the diagonal, the key around them, `input` in the middle. */
function stateOf(key: Uint32Array, input: Uint32Array): Uint32Array {
  const [s0, s1, s2, s3] = SIGMA;
  const [k0 = 0, k1 = 0, k2 = 0, k3 = 0, k4 = 0, k5 = 0, k6 = 0, k7 = 0] = key;
  const [i0 = 0, i1 = 0, i2 = 0, i3 = 0] = input;
  return Uint32Array.of(s0, k0, k1, k2, k3, s1, i0, i1, i2, i3, s2, k4, k5, k6, k7, s3);
}

const KEPT_BY_HSALSA = [0, 5, 10, 15, 6, 7, 8, 9] as const;

function xsalsa20(
  data: Uint8Array,
  key: Uint8Array,
  nonce: Uint8Array,
): { macKey: Uint8Array; mixed: Uint8Array } {
  const first = stateOf(wordsOf(key), wordsOf(nonce.subarray(0, 16)));
  scramble(first);
  const subkey = Uint32Array.from(KEPT_BY_HSALSA, (place) => first[place] ?? 0);
  const input = new Uint32Array(4);
  input.set(wordsOf(nonce.subarray(16, NONCE_BYTES)));
  const stream = Buffer.alloc(Math.ceil((MAC_KEY_BYTES + data.length) / BLOCK_BYTES) * BLOCK_BYTES);
  for (let at = 0; at < stream.length; at += BLOCK_BYTES) {
    input[2] = at / BLOCK_BYTES;
    const start = stateOf(subkey, input);
    const words = start.slice();
    scramble(words);
    for (let i = 0; i < words.length; i++) {
      stream.writeUInt32LE(((words[i] ?? 0) + (start[i] ?? 0)) >>> 0, at + 4 * i);
    }
  }
  const mixed = Buffer.alloc(data.length);
  for (let i = 0; i < data.length; i++) {
    mixed[i] = (data[i] ?? 0) ^ (stream[MAC_KEY_BYTES + i] ?? 0);
  }
  return { macKey: stream.subarray(0, MAC_KEY_BYTES), mixed };
}

const PRIME = (1n << 130n) - 5n;
const CLAMP = 0x0ffffffc0ffffffc0ffffffc0fffffffn;
const BITS_128 = (1n << 128n) - 1n;

function poly1305(message: Uint8Array, key: Uint8Array): Uint8Array {
  const r = littleEndian(key.subarray(0, 16)) & CLAMP;
  const s = littleEndian(key.subarray(16, 32));
  let sum = 0n;
  for (let at = 0; at < message.length; at += 16) {
    const block = message.subarray(at, at + 16);
    const marked = littleEndian(block) + (1n << BigInt(8 * block.length));
    sum = ((sum + marked) * r) % PRIME;
  }
  const tag = Buffer.alloc(TAG_BYTES);
  const total = (sum + s) & BITS_128;
  tag.writeBigUInt64LE(total & 0xffffffffffffffffn, 0);
  tag.writeBigUInt64LE(total >> 64n, 8);
  return tag;
}

function littleEndian(bytes: Uint8Array): bigint {
  if (bytes.length === 16) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
    return view.getBigUint64(0, true) | (view.getBigUint64(8, true) << 64n);
  }
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] ?? 0);
  return value;
}
