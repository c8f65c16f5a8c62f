import { defaultAddress as machineAddress } from '#base/default-address.ts';
import { cidrBand } from '#api/validate-network.ts';
import { formatAddress } from '#apiserver/resource/address-range.ts';

/** The address of this machine that others can reach; that of loopback when there is none. */
export const defaultAddress = (family: 'IPv4' | 'IPv6' = 'IPv4'): string =>
  machineAddress(family) ?? (family === 'IPv4' ? '127.0.0.1' : '::1');

/** The first usable address of a network: `10.96.0.0/16` → `10.96.0.1`. Throws RangeError. */
export const firstAddress = (cidr: string): string => addressAt(cidr, 1);

/** An address of a network by its place, counted from the network's own. Throws RangeError. */
export function addressAt(cidr: string, offset: number): string {
  const band = cidrBand(cidr);
  if (!band || band.last - band.first < 3n) {
    throw new RangeError(
      `${JSON.stringify(cidr)} is no network such as 10.96.0.0/16 or fd00:10:96::/112`,
    );
  }
  const wanted = band.first + BigInt(offset);
  if (wanted > band.last) throw new RangeError(`${cidr} has no address number ${offset}`);
  return formatAddress(wanted, band.version === 4 ? 'IPv4' : 'IPv6');
}
