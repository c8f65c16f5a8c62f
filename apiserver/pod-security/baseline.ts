import type { Check, Violation } from '#apiserver/pod-security/checks.ts';
import {
  type Container,
  containersOf,
  containerText,
  namesWhere,
  quoted,
  settersText,
  type Subject,
} from '#apiserver/pod-security/subjects.ts';

/** Known ways out of a container. Source: "Pod Security Standards", Baseline. */

const DEFAULT_CAPABILITIES = new Set([
  'AUDIT_WRITE',
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'MKNOD',
  'NET_BIND_SERVICE',
  'SETFCAP',
  'SETGID',
  'SETPCAP',
  'SETUID',
  'SYS_CHROOT',
]);

const capabilities: Check = {
  id: 'capabilities',
  since: 0,
  find({ spec }) {
    const added = containersOf(spec).map(({ name, securityContext }) => ({
      name,
      wrong: (securityContext?.capabilities?.add ?? []).filter((c) => !DEFAULT_CAPABILITIES.has(c)),
    }));
    const bad = added.filter(({ wrong }) => wrong.length > 0);
    if (bad.length === 0) return undefined;
    const names = containerText(bad.map(({ name }) => name));
    const all = [...new Set(bad.flatMap(({ wrong }) => wrong))].sort();
    return {
      reason: 'non-default capabilities',
      detail: `${names} must not include ${quoted(all)} in securityContext.capabilities.add`,
    };
  },
};

const appArmorProfile: Check = {
  id: 'appArmorProfile',
  since: 0,
  find({ metadata, spec }) {
    const details: string[] = [];
    const isOpen = (context: { appArmorProfile?: { type: string } } | undefined): boolean =>
      context?.appArmorProfile?.type === 'Unconfined';
    const setters = settersText(
      isOpen(spec.securityContext),
      namesWhere(spec, ({ securityContext }) => isOpen(securityContext)),
    );
    if (setters) {
      details.push(`${setters} must not set AppArmor profile type to "Unconfined"`);
    }
    for (const [key, value] of Object.entries(metadata?.annotations ?? {})) {
      if (!key.startsWith('container.apparmor.security.beta.kubernetes.io/')) continue;
      if (value === '' || value === 'runtime/default' || value.startsWith('localhost/')) continue;
      details.push(`annotation ${key}=${JSON.stringify(value)}`);
    }
    if (details.length === 0) return undefined;
    const reason = `forbidden AppArmor profile${details.length > 1 ? 's' : ''}`;
    return { reason, detail: details.join('; ') };
  },
};

const hostNamespaces: Check = {
  id: 'hostNamespaces',
  since: 0,
  find({ spec }) {
    const used = (['hostNetwork', 'hostPID', 'hostIPC'] as const).filter((field) => spec[field]);
    if (used.length === 0) return undefined;
    return { reason: 'host namespaces', detail: used.map((one) => `${one}=true`).join(', ') };
  },
};

const hostPathVolumes: Check = {
  id: 'hostPathVolumes',
  since: 0,
  find({ spec }) {
    const names = (spec.volumes ?? []).filter(({ hostPath }) => hostPath).map(({ name }) => name);
    if (names.length === 0) return undefined;
    return {
      reason: 'hostPath volumes',
      detail: `volume${names.length > 1 ? 's' : ''} ${quoted(names)}`,
    };
  },
};

const hostPorts: Check = {
  id: 'hostPorts',
  since: 0,
  find({ spec }) {
    const names: string[] = [];
    const ports = new Set<number>();
    for (const container of containersOf(spec)) {
      const own = (container.ports ?? []).flatMap(({ hostPort }) => hostPort || []);
      if (own.length > 0) names.push(container.name);
      for (const port of own) ports.add(port);
    }
    if (names.length === 0) return undefined;
    const list = [...ports].sort((a, b) => a - b);
    const use = `${names.length > 1 ? 'use' : 'uses'} hostPort${list.length > 1 ? 's' : ''}`;
    return { reason: 'hostPort', detail: `${containerText(names)} ${use} ${list.join(', ')}` };
  },
};

/** A probe or hook with a host would let the node's agent call anybody. */
const hostProbes: Check = {
  id: 'hostProbesAndHostLifecycle',
  since: 34,
  find({ spec }) {
    const hosts = new Set<string>();
    const names = namesWhere(spec, (container) => {
      const own = probeHosts(container);
      for (const host of own) hosts.add(host);
      return own.length > 0;
    });
    if (names.length === 0) return undefined;
    const use = `${names.length > 1 ? 'use' : 'uses'} probe or lifecycle host`;
    const list = [...hosts].sort();
    return {
      reason: 'probe or lifecycle host',
      detail: `${containerText(names)} ${use}${list.length > 1 ? 's' : ''} ${quoted(list)}`,
    };
  },
};

function probeHosts(container: Container): string[] {
  const { livenessProbe, readinessProbe, startupProbe, lifecycle } = container;
  const actions = [
    livenessProbe,
    readinessProbe,
    startupProbe,
    lifecycle?.postStart,
    lifecycle?.preStop,
  ];
  return actions.flatMap((action) =>
    [action?.httpGet?.host, action?.tcpSocket?.host].filter(
      (host) => host !== undefined && host !== '',
    ),
  ) as string[];
}

const privileged: Check = {
  id: 'privileged',
  since: 0,
  find: ({ spec }) =>
    mustNotSet(
      'privileged',
      namesWhere(spec, ({ securityContext }) => securityContext?.privileged === true),
      'securityContext.privileged=true',
    ),
};

const procMount: Check = {
  id: 'procMount',
  since: 0,
  find({ spec }, minor) {
    // A pod with its own users cannot harm the host's by what it sees in /proc.
    if (minor >= 35 && spec.hostUsers === false) return undefined;
    const values = new Set<string>();
    const names = namesWhere(spec, ({ securityContext }) => {
      const value = securityContext?.procMount;
      if (!value || value === 'Default') return false;
      values.add(value);
      return true;
    });
    const list = quoted([...values].sort());
    return mustNotSet('procMount', names, `securityContext.procMount to ${list}`);
  },
};

function mustNotSet(reason: string, names: readonly string[], what: string): Violation | undefined {
  if (names.length === 0) return undefined;
  return { reason, detail: `${containerText(names)} must not set ${what}` };
}

type SelinuxOptions = { type?: string; user?: string; role?: string };
const SELINUX_TYPES = new Set(['', 'container_t', 'container_init_t', 'container_kvm_t']);

const seLinuxOptions: Check = {
  id: 'seLinuxOptions',
  since: 0,
  find({ spec }, minor) {
    const types = new Set<string>();
    let [user, role] = [false, false];
    const isBad = (options: SelinuxOptions | undefined): boolean => {
      const type = options?.type ?? '';
      const known = SELINUX_TYPES.has(type) || (minor >= 31 && type === 'container_engine_t');
      if (!known) types.add(type);
      user ||= Boolean(options?.user);
      role ||= Boolean(options?.role);
      return !known || Boolean(options?.user) || Boolean(options?.role);
    };
    const pod = isBad(spec.securityContext?.seLinuxOptions);
    const names = namesWhere(spec, ({ securityContext }) => isBad(securityContext?.seLinuxOptions));
    const setters = settersText(pod, names);
    if (!setters) return undefined;
    const bad = [
      ...(types.size > 0 ? [`type${types.size > 1 ? 's' : ''} ${quoted([...types].sort())}`] : []),
      ...(user ? ['user may not be set'] : []),
      ...(role ? ['role may not be set'] : []),
    ];
    const detail = `${setters} set forbidden securityContext.seLinuxOptions: ${bad.join('; ')}`;
    return { reason: 'seLinuxOptions', detail };
  },
};

const seccompProfile: Check = {
  id: 'seccompProfile',
  since: 19,
  find({ spec }) {
    const isOpen = (context: { seccompProfile?: { type: string } } | undefined): boolean =>
      context?.seccompProfile?.type === 'Unconfined';
    const names = namesWhere(spec, ({ securityContext }) => isOpen(securityContext));
    const setters = settersText(isOpen(spec.securityContext), names);
    if (!setters) return undefined;
    const what = 'securityContext.seccompProfile.type to "Unconfined"';
    return { reason: 'seccompProfile', detail: `${setters} must not set ${what}` };
  },
};

/** Sysctls of the pod's own namespaces, with the minor version that allowed them. */
const SAFE_SYSCTLS: Readonly<Record<string, number>> = {
  'kernel.shm_rmid_forced': 0,
  'net.ipv4.ip_local_port_range': 0,
  'net.ipv4.ip_unprivileged_port_start': 0,
  'net.ipv4.ping_group_range': 0,
  'net.ipv4.tcp_syncookies': 0,
  'net.ipv4.ip_local_reserved_ports': 27,
  'net.ipv4.tcp_fin_timeout': 29,
  'net.ipv4.tcp_keepalive_intvl': 29,
  'net.ipv4.tcp_keepalive_probes': 29,
  'net.ipv4.tcp_keepalive_time': 29,
  'net.ipv4.tcp_rmem': 32,
  'net.ipv4.tcp_wmem': 32,
};

const sysctls: Check = {
  id: 'sysctls',
  since: 0,
  find({ spec }, minor) {
    const wrong = (spec.securityContext?.sysctls ?? [])
      .map(({ name }) => name)
      .filter((name) => (SAFE_SYSCTLS[name] ?? Infinity) > minor || !(name in SAFE_SYSCTLS));
    return wrong.length > 0 ? { reason: 'forbidden sysctls', detail: wrong.join(', ') } : undefined;
  },
};

const windowsHostProcess: Check = {
  id: 'windowsHostProcess',
  since: 0,
  find({ spec }) {
    const isSet = (context: { windowsOptions?: { hostProcess?: boolean } } | undefined): boolean =>
      context?.windowsOptions?.hostProcess === true;
    const names = namesWhere(spec, ({ securityContext }) => isSet(securityContext));
    const setters = settersText(isSet(spec.securityContext), names);
    if (!setters) return undefined;
    const what = 'securityContext.windowsOptions.hostProcess=true';
    return { reason: 'hostProcess', detail: `${setters} must not set ${what}` };
  },
};

export const BASELINE_CHECKS: readonly Check[] = [
  appArmorProfile,
  capabilities,
  hostNamespaces,
  hostPathVolumes,
  hostPorts,
  hostProbes,
  privileged,
  procMount,
  seLinuxOptions,
  seccompProfile,
  sysctls,
  windowsHostProcess,
];

/** From this version on, what only means something on Linux is not asked of Windows pods. */
const OS_AWARE = 25;
export const isForLinux = ({ spec }: Subject, minor: number): boolean =>
  minor < OS_AWARE || spec.os?.name !== 'windows';
