import { isIPv6 } from 'node:net';
import { UserError } from '#cli/verb.ts';

/** The cluster's DNS has the tenth address of the Service range, as kubeadm gives it. */
export function clusterDnsIp(serviceCidr: string): string {
  const [address = ''] = serviceCidr.split('/');
  const isSix = address.endsWith('::') && isIPv6(address);
  if (isSix) return `${address}a`;
  const bytes = address.split('.').map(Number);
  if (bytes.length !== 4 || bytes.some((byte) => !Number.isInteger(byte) || byte > 255)) {
    throw new UserError(
      `--service-cluster-ip-range takes a range like 10.96.0.0/16, or one of each family with a ` +
        `comma between, not "${serviceCidr}"`,
    );
  }
  return [...bytes.slice(0, 3), (bytes[3] ?? 0) + 10].join('.');
}
