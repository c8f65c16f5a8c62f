import { isIPv4 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** The first address of this machine that others can reach; 127.0.0.1 when there is none. */
export function defaultAddress(): string {
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address, internal, family } of addresses ?? []) {
      if (!internal && family === 'IPv4') return address;
    }
  }
  return '127.0.0.1';
}

/** The first usable address of an IPv4 network: `10.96.0.0/16` → `10.96.0.1`. Throws RangeError. */
export const firstAddress = (cidr: string): string => addressAt(cidr, 1);

/** An address of an IPv4 network by its place, counted from the network's own. Throws RangeError. */
export function addressAt(cidr: string, offset: number): string {
  const [base = '', bits = ''] = cidr.split('/');
  const length = Number(bits);
  if (!isIPv4(base) || !/^\d+$/.test(bits) || length > 30) {
    throw new RangeError(`${JSON.stringify(cidr)} is no IPv4 network such as 10.96.0.0/16`);
  }
  const number = base.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
  const size = 2 ** (32 - length);
  if (offset >= size) throw new RangeError(`${cidr} has no address number ${offset}`);
  const wanted = Math.floor(number / size) * size + offset;
  return [24, 16, 8, 0].map((shift) => Math.floor(wanted / 2 ** shift) % 256).join('.');
}
