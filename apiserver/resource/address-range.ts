import { cidrFamily, ipFamily, ipNumber } from '#api/validate-network.ts';
import { type Random } from '#base/random.ts';

export type IpFamily = 'IPv4' | 'IPv6';

/** Numbers from `first` to `last`, both included; empty when `last` is smaller. */
export type Band = { first: bigint; last: bigint };

/**
 * A range that numbers are given out of. Numbers that users choose themselves are mostly low, so
 * the server chooses from the upper band while it has any. Source: KEP-3070, KEP-3668.
 */
export type NumberRange = Band & { dynamic: Band; reserved: Band };

export type AddressRange = NumberRange & {
  /** As configured, in its shortest form: `10.96.0.0/16`. */
  cidr: string;
  family: IpFamily;
  /** The whole network; first and last leave out what is no host's address. */
  network: Band;
};

type BandRule = { smallest: bigint; largest: bigint; share: bigint };

const ADDRESS_BANDS: BandRule = { smallest: 16n, largest: 256n, share: 16n };
const PORT_BANDS: BandRule = { smallest: 16n, largest: 128n, share: 32n };

/** Shorter IPv6 prefixes are more than anybody needs and than upstream takes. */
const SHORTEST_IPV6_PREFIX = 64;

/** Reads one CIDR of --service-cluster-ip-range. Throws RangeError. */
export function parseAddressRange(text: string): AddressRange {
  const version = cidrFamily(text);
  const [base = '', prefixText = ''] = text.split('/');
  const prefix = Number(prefixText);
  if (version === 0 || (version === 6 && prefix < SHORTEST_IPV6_PREFIX)) {
    throw new RangeError(
      `service IP range "${text}" is no network: expected one such as 10.96.0.0/16 or fd00::/108`,
    );
  }
  const family = version === 4 ? 'IPv4' : 'IPv6';
  const hostBits = BigInt((version === 4 ? 32 : 128) - prefix);
  const lowest = (ipNumber(base) >> hostBits) << hostBits;
  const network = { first: lowest, last: lowest + (1n << hostBits) - 1n };
  const first = network.first + 1n;
  // The last address of an IPv4 network is for broadcasts.
  const last = version === 4 ? network.last - 1n : network.last;
  if (last < first) throw new RangeError(`service IP range "${text}" has no room for a Service`);
  const cidr = `${formatAddress(lowest, family)}/${prefix}`;
  return { cidr, family, network, ...withBands({ first, last }, ADDRESS_BANDS) };
}

/** Reads --service-node-port-range, `30000-32767`. Throws RangeError. */
export function parsePortRange(text: string): NumberRange {
  const [, from, to] = /^(\d{1,5})-(\d{1,5})$/.exec(text) ?? [];
  const first = BigInt(from ?? 0);
  const last = BigInt(to ?? 0);
  if (first < 1n || last > 65_535n || last < first) {
    throw new RangeError(`node port range "${text}": expected one such as 30000-32767`);
  }
  return withBands({ first, last }, PORT_BANDS);
}

function withBands({ first, last }: Band, { smallest, largest, share }: BandRule): NumberRange {
  const size = last - first + 1n;
  const wanted = size / share;
  const bounded = wanted < smallest ? smallest : wanted > largest ? largest : wanted;
  const kept = size <= smallest ? 0n : bounded;
  return {
    first,
    last,
    reserved: { first, last: first + kept - 1n },
    dynamic: { first: first + kept, last },
  };
}

export const contains = ({ first, last }: Band, number: bigint): boolean =>
  number >= first && number <= last;

/** All numbers of the range: the dynamic band's first, each band from a random place on. */
export function* candidates(
  { dynamic, reserved }: NumberRange,
  random: Random,
): Generator<bigint, void, void> {
  for (const { first, last } of [dynamic, reserved]) {
    const size = last - first + 1n;
    if (size <= 0n) continue;
    const start = BigInt(Math.floor(random() * 2 ** 52)) % size;
    for (let n = 0n; n < size; n++) yield first + ((start + n) % size);
  }
}

/** The canonical text of an address. Source: RFC 5952. */
export function formatAddress(number: bigint, family: IpFamily): string {
  if (family === 'IPv4') {
    return [24n, 16n, 8n, 0n].map((shift) => (number >> shift) & 0xffn).join('.');
  }
  const groups = Array.from({ length: 8 }, (_, n) =>
    ((number >> BigInt(112 - 16 * n)) & 0xffffn).toString(16),
  );
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1);
}

/** An address in canonical form, so that one address has one record; as it is when unreadable. */
export function canonicalAddress(text: string): string {
  return ipFamily(text) === 6 ? formatAddress(ipNumber(text), 'IPv6') : text;
}
