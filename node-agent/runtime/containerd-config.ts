import { accessSync, constants, existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { readIfThere } from '#base/files.ts';

/** What of the machine decides how containerd must be configured. */
export type HostFacts = {
  /** Absolute paths; undefined when not installed. */
  containerd: string | undefined;
  runc: string | undefined;
  crun: string | undefined;
  /** Folder of the CNI plugins; undefined when none holds what the pod network needs. */
  cniBinDir: string | undefined;
  root: boolean;
  cgroups: 'v1' | 'v2' | 'hybrid';
  /** Without CAP_SYS_RESOURCE, no process may lower its oom_score_adj. */
  canLowerOomScore: boolean;
  hasHugetlb: boolean;
  hasOverlayfs: boolean;
  hasAppArmor: boolean;
};

/** Everything `containerdConfig` writes; paths are absolute. */
export type ContainerdConfig = {
  /** Images and metadata; survives a reboot. */
  rootDir: string;
  /** Live state: bundles, sockets, network namespaces; meaningless after a reboot. */
  stateDir: string;
  /** At most 100 bytes: the kernel bounds a socket's path at 108, and `.ttrpc` is added. */
  socket: string;
  cniConfDir: string;
  /** `<host>/hosts.toml` files, read again at each pull. */
  certsDir: string;
  sandboxImage: string;
  /** True puts cgroups below systemd's slices; the agent's cgroup parents must then be slices. */
  systemdCgroup?: boolean;
};

const CNI_DIRS = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni'];
const CNI_PLUGINS = ['bridge', 'host-local', 'loopback'];
/** Bit of CAP_SYS_RESOURCE in a capability mask. Source: capability.h of the kernel's API. */
const CAP_SYS_RESOURCE = 24n;

/** Looks at this machine: reads /proc and /sys, runs nothing. */
export function detectHost(env: NodeJS.ProcessEnv = process.env): HostFacts {
  return {
    containerd: findProgram('containerd', env.PATH),
    runc: findProgram('runc', env.PATH),
    crun: findProgram('crun', env.PATH),
    cniBinDir: CNI_DIRS.find((dir) => CNI_PLUGINS.every((name) => existsSync(join(dir, name)))),
    root: process.geteuid?.() === 0,
    cgroups: detectCgroups(),
    canLowerOomScore: hasCapability(textOf('/proc/self/status'), CAP_SYS_RESOURCE),
    hasHugetlb: detectHugetlb(),
    hasOverlayfs: /\boverlay$/m.test(textOf('/proc/filesystems')),
    hasAppArmor: textOf('/sys/module/apparmor/parameters/enabled').startsWith('Y'),
  };
}

/** What keeps containerd from running here, each with the way out; empty when nothing does. */
export function missingForContainerd(host: HostFacts): string[] {
  const missing: string[] = [];
  if (!host.root) missing.push('containers need root: run the same command with sudo');
  if (!host.containerd)
    missing.push("containerd is not installed: 'apt-get install containerd' (or 'make setup')");
  if (!host.runc && !host.crun)
    missing.push("no OCI runtime is installed: 'apt-get install runc' (or crun)");
  if (!host.cniBinDir)
    missing.push(
      `the CNI plugins ${CNI_PLUGINS.join(', ')} are in none of ${CNI_DIRS.join(', ')}: ` +
        "'apt-get install containernetworking-plugins'",
    );
  return missing;
}

/**
 * The runtime handler used when a pod names none: crun where it can run (it starts a container in
 * half of runc's time), else runc. crun refuses a hybrid cgroup layout.
 */
export function defaultRuntime(host: HostFacts): 'runc' | 'crun' {
  if (host.crun && (host.cgroups !== 'hybrid' || !host.runc)) return 'crun';
  return 'runc';
}

/**
 * The text of config.toml, version 2, understood by containerd 1.6 to 2.x.
 * Source: containerd's documentation of its CRI plugin configuration.
 */
export function containerdConfig(config: ContainerdConfig, host: HostFacts): string {
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  const systemdCgroup = config.systemdCgroup ?? false;
  const sections: [string, Record<string, TomlValue>][] = [
    ['', topLevel(config, host)],
    ['grpc', { address: config.socket }],
    ['ttrpc', { address: `${config.socket}.ttrpc` }],
    ['plugins."io.containerd.internal.v1.opt"', { path: join(config.rootDir, 'opt') }],
    [cri, criOptions(config, host)],
    [
      `${cri}.containerd`,
      {
        snapshotter: host.hasOverlayfs ? 'overlayfs' : 'native',
        default_runtime_name: defaultRuntime(host),
      },
    ],
    ...runtimeSections(cri, host, systemdCgroup),
    [
      `${cri}.cni`,
      { bin_dir: host.cniBinDir ?? '/opt/cni/bin', conf_dir: config.cniConfDir, max_conf_num: 1 },
    ],
    [`${cri}.registry`, { config_path: config.certsDir }],
  ];
  return sections.map(([name, values]) => tomlSection(name, values)).join('\n');
}

/**
 * The hosts.toml that sends pulls of one registry host to `url` (plain http is allowed). `mirror`:
 * the registry itself is asked for what is not there.
 */
export function hostsToml(url: string, { mirror = false } = {}): string {
  return [
    ...(mirror ? [] : [`server = ${tomlText(url)}`]),
    `[host.${tomlText(url)}]`,
    '  capabilities = ["pull", "resolve"]',
    '',
  ].join('\n');
}

function topLevel(config: ContainerdConfig, host: HostFacts): Record<string, TomlValue> {
  return {
    version: 2,
    root: config.rootDir,
    state: config.stateDir,
    oom_score: host.canLowerOomScore ? -999 : 0,
    // Snapshotters that probe for what is not there only fill the log. The old runtime.v1.linux
    // plugin must stay: in 1.6 the task service, and CRI with it, does not load without it.
    disabled_plugins: [
      'io.containerd.snapshotter.v1.aufs',
      'io.containerd.snapshotter.v1.btrfs',
      'io.containerd.snapshotter.v1.devmapper',
      'io.containerd.snapshotter.v1.zfs',
      'io.containerd.internal.v1.restart',
      'io.containerd.internal.v1.tracing',
    ],
  };
}

function criOptions(config: ContainerdConfig, host: HostFacts): Record<string, TomlValue> {
  return {
    sandbox_image: config.sandboxImage,
    systemd_cgroup: false,
    disable_apparmor: !host.hasAppArmor,
    restrict_oom_score_adj: !host.canLowerOomScore,
    disable_hugetlb_controller: !host.hasHugetlb,
    tolerate_missing_hugetlb_controller: true,
    enable_unprivileged_ports: true,
    enable_unprivileged_icmp: true,
    max_container_log_line_size: 16384,
    stream_server_address: '127.0.0.1',
    stream_server_port: '0',
    stats_collect_period: 10,
    netns_mounts_under_state_dir: true,
  };
}

function runtimeSections(
  cri: string,
  host: HostFacts,
  systemdCgroup: boolean,
): [string, Record<string, TomlValue>][] {
  const programs = [
    { name: 'runc', path: host.runc },
    { name: 'crun', path: host.crun },
  ];
  return programs.flatMap(({ name, path }): [string, Record<string, TomlValue>][] => {
    if (!path) return [];
    const section = `${cri}.containerd.runtimes.${name}`;
    return [
      [section, { runtime_type: 'io.containerd.runc.v2' }],
      [`${section}.options`, { BinaryName: path, SystemdCgroup: systemdCgroup }],
    ];
  });
}

type TomlValue = string | number | boolean | string[];

function tomlSection(name: string, values: Record<string, TomlValue>): string {
  const lines = Object.entries(values).map(([key, value]) => `${key} = ${tomlValue(value)}`);
  return `${name ? [`[${name}]`, ...lines].join('\n') : lines.join('\n')}\n`;
}

function tomlValue(value: TomlValue): string {
  if (Array.isArray(value)) return `[${value.map(tomlText).join(', ')}]`;
  return typeof value === 'string' ? tomlText(value) : String(value);
}

/** A TOML basic string; JSON's escapes are a subset of TOML's. */
function tomlText(text: string): string {
  return JSON.stringify(text);
}

/** First executable of that name on the path, with the folders root's own path may lack. */
export function findProgram(name: string, path = ''): string | undefined {
  const dirs = [...path.split(delimiter), '/usr/local/sbin', '/usr/local/bin', '/usr/sbin'];
  for (const dir of [...dirs, '/usr/bin', '/sbin', '/bin']) {
    if (!dir) continue;
    const file = join(dir, name);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {
      continue;
    }
  }
  return undefined;
}

/** True when bit `bit` is set in the effective capabilities of a /proc/<pid>/status text. */
export function hasCapability(status: string, bit: bigint): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return mask !== undefined && ((BigInt(`0x${mask}`) >> bit) & 1n) === 1n;
}

function detectCgroups(): HostFacts['cgroups'] {
  if (existsSync('/sys/fs/cgroup/cgroup.controllers')) return 'v2';
  return existsSync('/sys/fs/cgroup/unified/cgroup.controllers') ? 'hybrid' : 'v1';
}

function detectHugetlb(): boolean {
  if (existsSync('/sys/fs/cgroup/hugetlb')) return true;
  return /\bhugetlb\b/.test(textOf('/sys/fs/cgroup/cgroup.controllers'));
}

const textOf = (file: string): string => readIfThere(file) ?? '';
