import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';

/**
 * The IPv4 address of the interface that the default route uses, else the first that is no loopback;
 * undefined on a machine that has none.
 */
export function defaultAddress(
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
    .find((address) => address.family === 'IPv4' && !address.internal)?.address;
}
