import { isIP } from 'node:net';
import { invalid } from '#api/field-error.ts';
import type { Errors } from '#api/validate.ts';

export const NOT_AN_IP = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const NOT_A_CIDR = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';

/** 4, 6 or 0 for what is no address. Zones (`fe80::1%eth0`) are no part of an API address. */
export const ipFamily = (text: string): 4 | 6 | 0 => {
  const family = isIP(text);
  return text.includes('%') ? 0 : (family as 4 | 6 | 0);
};

export function checkIp(errors: Errors, path: string, text: string): boolean {
  if (ipFamily(text) !== 0) return true;
  errors.push(invalid(path, text, NOT_AN_IP));
  return false;
}

/** The family of an address range, or 0 for what is none. */
export function cidrFamily(text: string): 4 | 6 | 0 {
  const slash = text.indexOf('/');
  const bits = text.slice(slash + 1);
  if (slash < 0 || !/^(0|[1-9]\d{0,2})$/.test(bits)) return 0;
  const family = ipFamily(text.slice(0, slash));
  return family === 0 || Number(bits) > (family === 4 ? 32 : 128) ? 0 : family;
}

export function checkCidr(errors: Errors, path: string, text: string): boolean {
  if (cidrFamily(text) !== 0) return true;
  errors.push(invalid(path, text, NOT_A_CIDR));
  return false;
}

/** Exactly one address (or range) of each family. */
export const isDualStack = (families: readonly (4 | 6 | 0)[]): boolean =>
  families.includes(4) && families.includes(6) && !families.includes(0);

/**
 * The number of an address, 32 or 128 bits; the text must be one.
 * Source: RFC 4291 text forms of IPv6 addresses.
 */
export function ipNumber(text: string): bigint {
  if (ipFamily(text) === 4) {
    return text.split('.').reduce((sum, part) => (sum << 8n) + BigInt(part), 0n);
  }
  const dotted = text.lastIndexOf('.') >= 0 ? text.slice(text.lastIndexOf(':') + 1) : '';
  let head = dotted ? text.slice(0, -dotted.length) : text;
  if (dotted) {
    const low = ipNumber(dotted);
    head += `${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  }
  const [left = '', right] = head.split('::');
  const first = left === '' ? [] : left.split(':');
  const last = right === undefined || right === '' ? [] : right.split(':');
  const zeros = right === undefined ? 0 : 8 - first.length - last.length;
  const groups = [...first, ...Array.from({ length: zeros }, () => '0'), ...last];
  return groups.reduce((sum, group) => (sum << 16n) + BigInt(`0x${group}`), 0n);
}

const within = (ip: bigint, bits: 32 | 128, base: bigint, prefix: number): boolean =>
  ip >> BigInt(bits - prefix) === base >> BigInt(bits - prefix);

const RANGES: readonly {
  four: readonly [string, number];
  six: readonly [string, number];
  text: string;
}[] = [
  {
    four: ['127.0.0.0', 8],
    six: ['::1', 128],
    text: 'may not be in the loopback range (127.0.0.0/8, ::1/128)',
  },
  {
    four: ['169.254.0.0', 16],
    six: ['fe80::', 10],
    text: 'may not be in the link-local range (169.254.0.0/16, fe80::/10)',
  },
  {
    four: ['224.0.0.0', 24],
    six: ['ff02::', 16],
    text: 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)',
  },
];

/** First and last address of a network as numbers; undefined when the text is none. */
export function cidrBand(
  text: string,
): { version: 4 | 6; first: bigint; last: bigint } | undefined {
  const version = cidrFamily(text);
  if (version === 0) return undefined;
  const [base = '', prefix = ''] = text.split('/');
  const hostBits = BigInt((version === 4 ? 32 : 128) - Number(prefix));
  const first = (ipNumber(base) >> hostBits) << hostBits;
  return { version, first, last: first + (1n << hostBits) - 1n };
}

/** Addresses that mean something else on each node cannot be endpoints. */
export function checkNonSpecialIp(errors: Errors, path: string, text: string): void {
  const family = ipFamily(text);
  if (family === 0) {
    errors.push(invalid(path, text, 'must be a valid IP address'));
    return;
  }
  const ip = ipNumber(text);
  if (ip === 0n) errors.push(invalid(path, text, `may not be unspecified (${text})`));
  for (const range of RANGES) {
    const [base, prefix] = family === 4 ? range.four : range.six;
    if (within(ip, family === 4 ? 32 : 128, ipNumber(base), prefix)) {
      errors.push(invalid(path, text, range.text));
    }
  }
}
