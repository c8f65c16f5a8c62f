/** Arithmetic on IP addresses and CIDRs, IPv4 and IPv6. */

export type Family = 'IPv4' | 'IPv6';

/** An address as a number; undefined when the text is none. */
export function parseAddress(text: string): { family: Family; value: bigint } | undefined {
  if (text.includes(':')) return parseV6(text);
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256))
    return undefined;
  return { family: 'IPv4', value: parts.reduce((sum, part) => (sum << 8n) | BigInt(part), 0n) };
}

function parseV6(text: string): { family: Family; value: bigint } | undefined {
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map((half) => (half === '' ? [] : half.split(':')));
  const [head = [], tail = []] = groups;
  const zeros = 8 - head.length - tail.length;
  if (halves.length === 2 ? zeros < 1 : zeros !== 0) return undefined;
  const all = [...head, ...Array<string>(Math.max(0, zeros)).fill('0'), ...tail];
  if (!all.every((group) => /^[0-9a-f]{1,4}$/i.test(group))) return undefined;
  const value = all.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
  return { family: 'IPv6', value };
}

/** The usual text. Sources: dotted quad; RFC 5952 for IPv6. */
export function formatAddress({ family, value }: { family: Family; value: bigint }): string {
  if (family === 'IPv4')
    return [24n, 16n, 8n, 0n].map((shift) => `${(value >> shift) & 255n}`).join('.');
  const shifts = Array.from({ length: 8 }, (_, i) => BigInt(112 - 16 * i));
  const text = shifts.map((shift) => ((value >> shift) & 0xffffn).toString(16)).join(':');
  const runs = text.match(/(?<=^|:)0(:0)+(?=:|$)/g) ?? [];
  const longest = runs.reduce((best, run) => (run.length > best.length ? run : best), '');
  if (longest === '') return text;
  const at = text.search(new RegExp(`(?<=^|:)${longest}(?=:|$)`));
  const before = text.slice(0, at).replace(/:$/, '');
  const after = text.slice(at + longest.length).replace(/^:/, '');
  return `${before}::${after}`;
}

export type Cidr = { family: Family; first: bigint; prefix: number };

/** Throws an Error that quotes what is no CIDR. */
export function parseCidr(text: string): Cidr {
  const [address = '', prefixText = ''] = text.split('/');
  const parsed = parseAddress(address);
  const prefix = Number(prefixText);
  const bits = parsed?.family === 'IPv6' ? 128 : 32;
  if (!parsed || !/^\d+$/.test(prefixText) || prefix > bits)
    throw new Error(`"${text}" is no network in CIDR form, such as 10.244.0.0/24`);
  const hostBits = BigInt(bits - prefix);
  return { family: parsed.family, first: (parsed.value >> hostBits) << hostBits, prefix };
}

export function cidrContains(cidr: Cidr, address: string): boolean {
  const parsed = parseAddress(address);
  if (parsed?.family !== cidr.family) return false;
  const hostBits = BigInt((cidr.family === 'IPv6' ? 128 : 32) - cidr.prefix);
  return parsed.value >> hostBits === cidr.first >> hostBits;
}

/** The first usable address of a node's range: its pods' gateway. */
export function gatewayOf(podCidr: string): { address: string; prefix: number } {
  const { family, first, prefix } = parseCidr(podCidr);
  return { address: formatAddress({ family, value: first + 1n }), prefix };
}

/** The parts of `v4,v6` by their family; at most one of each. Throws for what is no network. */
export function byFamily(networks: string): Partial<Record<Family, string>> {
  const found: Partial<Record<Family, string>> = {};
  for (const text of networks.split(',').filter(Boolean)) {
    const family = text.includes('/') ? parseCidr(text).family : parseAddress(text)?.family;
    if (family === undefined) throw new Error(`"${text}" is no IP address`);
    if (found[family] !== undefined) throw new Error(`"${networks}" has two parts of ${family}`);
    found[family] = text;
  }
  return found;
}

export const familyOf = (text: string): Family => (text.includes(':') ? 'IPv6' : 'IPv4');
