import type { Pod } from '#api/types.ts';
import { type Family, familyOf } from './addresses.ts';
import type { HostPort } from './service-rules.ts';

/** Whether a pod takes part in the map of host ports at all. */
export const wantsHostPorts = (pod: Pod): boolean =>
  hostPortsOf([pod], 'IPv4').length + hostPortsOf([pod], 'IPv6').length > 0;

/** The host ports, in one family, of pods that have an address of their own and have not ended. */
export function hostPortsOf(pods: readonly Pod[], family: Family = 'IPv4'): HostPort[] {
  return pods.flatMap(({ spec, status }) => {
    const addresses = [...(status?.podIPs ?? []).map(({ ip }) => ip), status?.podIP ?? ''];
    const address = addresses.find((ip) => ip !== '' && familyOf(ip) === family);
    const ended = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    if (spec.hostNetwork || !address || ended) return [];
    const sidecars = (spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
    return [...sidecars, ...spec.containers].flatMap((container) =>
      (container.ports ?? []).flatMap(({ hostPort, hostIP, containerPort, protocol }) => {
        if (!hostPort) return [];
        // An address of the other family is that family's to map.
        if (hostIP && hostIP !== '0.0.0.0' && hostIP !== '::' && familyOf(hostIP) !== family)
          return [];
        const everywhere = hostIP === undefined || hostIP === '0.0.0.0' || hostIP === '::';
        return {
          protocol: (protocol ?? 'TCP') as HostPort['protocol'],
          port: hostPort,
          hostIp: everywhere ? '' : hostIP,
          target: { address, port: containerPort },
        };
      }),
    );
  });
}
