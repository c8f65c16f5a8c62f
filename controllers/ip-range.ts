import { isIPv4, isIPv6 } from 'node:net';

/** Address ranges in CIDR notation as numbers. */
export type Range = { family: 'IPv4' | 'IPv6'; first: bigint; prefix: number };

const BITS = { IPv4: 32, IPv6: 128 };

/** Throws an Error that names the text. Host bits are cleared. */
export function parseRange(text: string): Range {
  const [address = '', prefixText = ''] = text.trim().split('/');
  const family = isIPv4(address) ? 'IPv4' : isIPv6(address) ? 'IPv6' : undefined;
  const prefix = Number(prefixText);
  if (!family || !/^\d{1,3}$/.test(prefixText) || prefix > BITS[family]) {
    throw new Error(`"${text}" is not an address range such as 10.244.0.0/16`);
  }
  const size = 1n << BigInt(BITS[family] - prefix);
  const number = family === 'IPv4' ? parseIPv4(address) : parseIPv6(address);
  return { family, first: (number / size) * size, prefix };
}

function parseIPv4(text: string): bigint {
  return text.split('.').reduce((sum, part) => sum * 256n + BigInt(part), 0n);
}

function parseIPv6(text: string): bigint {
  const [head = '', tail] = text.split('::');
  const words = (part: string | undefined): string[] => (part ? part.split(':') : []);
  const left = words(head);
  const right = words(tail);
  const middle = Array.from({ length: 8 - left.length - right.length }, () => '0');
  const all = tail === undefined ? left : [...left, ...middle, ...right];
  return all.reduce((sum, word) => sum * 65_536n + BigInt(`0x${word}`), 0n);
}

export function rangeText({ family, first, prefix }: Range): string {
  return `${family === 'IPv4' ? textOfIPv4(first) : textOfIPv6(first)}/${prefix}`;
}

function textOfIPv4(address: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => String((address >> shift) & 255n)).join('.');
}

/** Shortest form for ranges: trailing zero words become `::`. */
function textOfIPv6(address: bigint): string {
  const words = Array.from({ length: 8 }, (_, i) =>
    ((address >> BigInt(112 - 16 * i)) & 0xffffn).toString(16),
  );
  while (words.at(-1) === '0') words.pop();
  return words.length === 8 ? words.join(':') : `${words.join(':')}::`;
}

const sizeOf = ({ family, prefix }: Range): bigint => 1n << BigInt(BITS[family] - prefix);

export function overlaps(a: Range, b: Range): boolean {
  return a.family === b.family && a.first < b.first + sizeOf(b) && b.first < a.first + sizeOf(a);
}

/** The parts of a range of the given prefix length, lowest first; the range itself if shorter. */
export function* splitRange(range: Range, prefix: number): Generator<Range> {
  if (prefix <= range.prefix) {
    yield range;
    return;
  }
  const part: Range = { ...range, prefix };
  const end = range.first + sizeOf(range);
  for (let first = range.first; first < end; first += sizeOf(part)) yield { ...part, first };
}
