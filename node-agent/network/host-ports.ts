import type { Pod } from '#api/types.ts';
import type { HostPort } from './service-rules.ts';

/** The host ports of pods that have an address of their own and have not ended. */
export function hostPortsOf(pods: readonly Pod[]): HostPort[] {
  return pods.flatMap(({ spec, status }) => {
    const address = status?.podIP;
    const ended = status?.phase === 'Succeeded' || status?.phase === 'Failed';
    if (spec.hostNetwork || !address || ended) return [];
    const sidecars = (spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
    return [...sidecars, ...spec.containers].flatMap((container) =>
      (container.ports ?? []).flatMap(({ hostPort, hostIP, containerPort, protocol }) => {
        if (!hostPort) return [];
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
