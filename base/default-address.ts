import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/** An address as a host is written in URLs and before ports. Source: RFC 3986, 3.2.2. */
export const urlHost = (address: string): string =>
  address.includes(':') ? `[${address}]` : address;

/** The prefix of addresses that hold on one link only. */
const LINK_LOCAL = /^fe[89ab]/i;

/**
 * The address of that family (IPv4 by default) of the interface that the default route uses, else the
 * first that is neither loopback nor of one link only; undefined on a machine that has none.
 */
export function defaultAddress(
  family: 'IPv4' | 'IPv6' = 'IPv4',
  routes = readFileSync('/proc/net/route', 'utf8'),
): string | undefined {
  const via = routes
    .split('\n')
    .map((line) => line.split('\t'))
    .find((fields) => fields[1] === '00000000')?.[0];
  const interfaces = networkInterfaces();
  const candidates = via
    ? [interfaces[via], ...Object.values(interfaces)]
    : Object.values(interfaces);
  return candidates
    .flatMap((addresses) => addresses ?? [])
    .find((one) => one.family === family && !one.internal && !LINK_LOCAL.test(one.address))
    ?.address;
}
