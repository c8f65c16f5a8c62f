import type { Pod } from '#api/types.ts';
import { podDns } from '#node-agent/containers/dns-config.ts';
import { podResources } from '#node-agent/containers/container-resources.ts';
import type { NodeServices } from '#node-agent/node/node-services.ts';
import { identityOf, podHostname, podLogDir } from '#node-agent/pods/pod-files.ts';
import { qosClass } from '#node-agent/containers/qos.ts';
import { LABEL, type PodSandboxConfig, type PortMapping } from '#node-agent/runtime/service.ts';
import { sandboxSecurity } from '#node-agent/containers/security-context.ts';

type Facts = Pick<
  NodeServices,
  'paths' | 'dns' | 'clusterDomain' | 'cgroups' | 'users' | 'podPidsLimit'
>;

/** The sandbox of a pod in the runtime's words. Throws ConfigError for what cannot be honoured. */
export function sandboxConfig(pod: Pod, attempt: number, facts: Facts): PodSandboxConfig {
  const identity = identityOf(pod);
  const { uid, name, namespace } = identity;
  const cgroupParent = facts.cgroups?.sandboxParent(uid, qosClass(pod));
  return {
    metadata: { name, namespace, uid, attempt },
    hostname: pod.spec.hostNetwork ? '' : podHostname(pod, facts.clusterDomain).hostname,
    logDirectory: podLogDir(facts.paths, identity),
    dnsConfig: podDns(pod, facts.dns()),
    portMappings: portMappings(pod),
    labels: {
      ...pod.metadata.labels,
      [LABEL.podName]: name,
      [LABEL.podNamespace]: namespace,
      [LABEL.podUid]: uid,
    },
    // The network plugin reads some of them (bandwidth).
    annotations: { ...pod.metadata.annotations },
    linux: {
      ...sandboxSecurity(pod, facts.users(pod)),
      ...(cgroupParent ? { cgroupParent } : {}),
      resources: podResources(pod, facts.podPidsLimit),
    },
  };
}

function portMappings({ spec }: Pod): PortMapping[] {
  if (spec.hostNetwork) return [];
  return [...spec.containers, ...(spec.initContainers ?? [])].flatMap((container) =>
    (container.ports ?? [])
      .filter((port) => port.hostPort)
      .map((port) => ({
        protocol: (port.protocol ?? 'TCP') as PortMapping['protocol'],
        containerPort: port.containerPort,
        hostPort: port.hostPort ?? 0,
        hostIp: port.hostIP ?? '',
      })),
  );
}
