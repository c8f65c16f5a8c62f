import { spawn } from 'node:child_process';
import {
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import type { TestServer } from '#apiserver/testing.ts';
import { silentLog } from '#base/log.ts';
import { openCgroups } from '#node-agent/node/cgroups.ts';
import { clearNode } from '#node-agent/start.ts';
import { unmountAll } from '#node-agent/storage/mounts.ts';
import { addTestImage, startTestRuntime } from '#node-agent/testing.ts';
import { end, run } from '#e2e/processes.ts';

/** A node whose agent is a process of its own; `stop` ends it and removes every trace. */
export type NodeProcess = { nodeName: string; pid: number; stop(): Promise<void> };

const GANTRY = join(import.meta.dirname, '../gantry');
const NETWORK = 'gbench';

/** Credentials of a node, as the agent's flags. */
async function credentials(server: TestServer, nodeName: string): Promise<string[]> {
  const where = ['--node-ip', '127.0.0.1', '--server', server.url, '--data-dir', server.dataDir];
  const issued = await run(GANTRY, ['node-credentials', nodeName, ...where]);
  if (issued.code !== 0) throw new Error(issued.stderr);
  return issued.stdout.trim().split(' ');
}

/** Our agent with the containerd that it starts. */
export async function startAgent(server: TestServer, nodeName: string): Promise<NodeProcess> {
  const dir = mkdtempSync('/tmp/G-full-');
  await addTestImage(join(dir, 'images'));
  const flags = await credentials(server, nodeName);
  // Compiled once, as on every machine after the first start: that compiler takes 25 MB with it.
  await run(GANTRY, ['node-agent', '--help']);
  const network = ['--network-name', NETWORK, '--pod-cidr', '10.229.0.0/24'];
  const ranges = ['--cluster-cidr', '10.229.0.0/16', '--service-cidr', '10.228.0.0/16'];
  const own = ['--data-dir', dir, '--port', '10259', '--cluster-dns', '10.228.0.10'];
  const args = ['node-agent', ...flags, ...own, ...network, ...ranges];
  const child = spawn(GANTRY, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  return {
    nodeName,
    pid: child.pid ?? 0,
    async stop() {
      await end(child, 'SIGTERM');
      await clearNode(dir, { networkName: NETWORK });
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What a kubelet sets for the whole machine, and a bench has to give back. */
const KERNEL_SETTINGS = ['kernel/panic', 'kernel/panic_on_oops', 'vm/overcommit_memory'].map(
  (name) => `/proc/sys/${name}`,
);
const KUBEPODS = 'kubepods';

/**
 * Kubernetes' own kubelet, `binary`, on a containerd of the same make and configuration. Throws where
 * another kubelet has pods: their cgroups have the same name.
 */
export async function startKubelet(
  server: TestServer,
  nodeName: string,
  { binary, maxPods }: { binary: string; maxPods: number },
): Promise<NodeProcess> {
  const foreign = globSync(`/sys/fs/cgroup/{,*/}${KUBEPODS}`);
  if (foreign.length > 0) throw new Error(`${foreign[0]} exists: does a kubelet run here?`);
  const settings = KERNEL_SETTINGS.map((file) => [file, readFileSync(file, 'utf8')] as const);
  const runtime = await startTestRuntime('K');
  const rootDir = join(runtime.dir, 'kubelet');
  mkdirSync(rootDir);
  const flags = await credentials(server, nodeName);
  const flag = (name: string): string => flags[flags.indexOf(name) + 1] ?? '';
  const configFile = join(runtime.dir, 'kubelet.json');
  const config = {
    kind: 'KubeletConfiguration',
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    containerRuntimeEndpoint: runtime.endpoint,
    cgroupDriver: 'cgroupfs',
    failCgroupV1: false,
    failSwapOn: false,
    oomScoreAdj: 0,
    port: 10_258,
    healthzPort: 0,
    maxPods,
    clusterDNS: ['10.228.0.10'],
    clusterDomain: 'cluster.local',
    resolvConf: existsSync('/etc/resolv.conf') ? '/etc/resolv.conf' : '',
    evictionHard: { 'memory.available': '100Mi' },
    podLogsDir: join(runtime.dir, 'logs'),
    volumePluginDir: join(rootDir, 'volume-plugins'),
    tlsCertFile: flag('--tls-cert-file'),
    tlsPrivateKeyFile: flag('--tls-private-key-file'),
    authentication: { anonymous: { enabled: false }, webhook: { enabled: true } },
    authorization: { mode: 'Webhook' },
  };
  writeFileSync(configFile, JSON.stringify(config));
  const names = ['--hostname-override', nodeName, '--node-ip', '127.0.0.1'];
  const places = [
    '--config',
    configFile,
    '--root-dir',
    rootDir,
    '--cert-dir',
    join(rootDir, 'pki'),
  ];
  const args = [...places, ...names, '--kubeconfig', flag('--kubeconfig')];
  const child = spawn(binary, args, { stdio: 'ignore' });
  return {
    nodeName,
    pid: child.pid ?? 0,
    async stop() {
      await end(child, 'SIGTERM');
      for (const [file, value] of settings) writeFileSync(file, value);
      // The runtime first: what its containers use cannot be unmounted.
      await unmountAfter(() => runtime.close(), rootDir);
      await openCgroups({ root: '', log: silentLog }).removeAll();
      // Links to logs that are gone.
      for (const link of globSync(`/var/log/containers/${nodeName}-*_default_main-*.log`))
        rmSync(link);
    },
  };
}

/** `close` removes the folder that `rootDir` is in, and would fail on what is mounted there. */
async function unmountAfter(close: () => Promise<void>, rootDir: string): Promise<void> {
  await close().catch(() => undefined);
  await unmountAll(rootDir);
  await close();
}
