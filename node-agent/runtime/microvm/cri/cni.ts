import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { RuntimeError } from '#node-agent/runtime/service.ts';

/** What an ADD answers. Source: CNI specification 1.0, "ADD Success". */
export type CniResult = {
  cniVersion?: string;
  interfaces?: { name: string; mac?: string; sandbox?: string }[];
  ips?: { address: string; gateway?: string; interface?: number }[];
  routes?: { dst: string; gw?: string }[];
  dns?: object;
};

type Plugin = { type: string; capabilities?: Record<string, boolean> } & Record<string, unknown>;
export type CniNetwork = { name: string; cniVersion: string; plugins: Plugin[] };

export type CniAttachment = {
  containerId: string;
  netns: string;
  interfaceName: string;
  pod: { name: string; namespace: string; uid: string };
  /** By capability: `portMappings`, `bandwidth`. Given to plugins that declare them. */
  runtimeConfig: Record<string, unknown>;
};

/** A plugin that waits longer hangs. */
const PLUGIN_TIMEOUT_MS = 60_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

/** The network in use: the first configuration of the folder, by name. Throws RuntimeError. */
export function readCniNetwork(confDir: string): CniNetwork {
  const files = readIfThere(confDir)
    .filter((name) => /\.(conflist|conf|json)$/.test(name))
    .sort();
  const [first] = files;
  if (!first)
    throw new RuntimeError('Unavailable', `no CNI network configuration in ${confDir} yet`);
  try {
    const value = JSON.parse(readFileSync(join(confDir, first), 'utf8')) as Plugin &
      Partial<CniNetwork>;
    const { name = first, cniVersion = '0.4.0', plugins = [value] } = value;
    return { name, cniVersion, plugins };
  } catch (cause) {
    throw new RuntimeError('Unknown', `${join(confDir, first)} is no CNI configuration`, { cause });
  }
}

/** Runs each plugin's ADD in order; what the last answers is the pod's network. */
export async function cniAdd(
  network: CniNetwork,
  attachment: CniAttachment,
  binDir: string,
): Promise<CniResult> {
  let result: CniResult = {};
  for (const [index, plugin] of network.plugins.entries()) {
    const previous = index === 0 ? undefined : result;
    const answer = await runPlugin('ADD', { network, plugin, attachment, binDir, previous });
    result = JSON.parse(answer) as CniResult;
  }
  return result;
}

/** Runs each plugin's DEL, last first; goes on after a failure and throws the first at the end. */
export async function cniDel(
  network: CniNetwork,
  attachment: CniAttachment,
  options: { binDir: string; result: CniResult | null },
): Promise<void> {
  const failures: unknown[] = [];
  for (const plugin of network.plugins.toReversed()) {
    const previous = options.result ?? undefined;
    await runPlugin('DEL', { network, plugin, attachment, binDir: options.binDir, previous }).catch(
      (error: unknown) => failures.push(error),
    );
  }
  if (failures.length > 0) throw failures[0];
}

type PluginRun = {
  network: CniNetwork;
  plugin: Plugin;
  attachment: CniAttachment;
  binDir: string;
  previous: CniResult | undefined;
};

/** What a plugin reads. Source: CNI specification 1.0, "Deriving execution configuration". */
export function pluginConfig({ network, plugin, attachment, previous }: PluginRun): object {
  const { capabilities = {}, ...own } = plugin;
  const wanted = Object.entries(attachment.runtimeConfig).filter(
    ([name, value]) => capabilities[name] === true && value !== undefined,
  );
  return {
    ...own,
    name: network.name,
    cniVersion: network.cniVersion,
    ...(wanted.length > 0 ? { runtimeConfig: Object.fromEntries(wanted) } : {}),
    ...(previous ? { prevResult: previous } : {}),
  };
}

async function runPlugin(command: 'ADD' | 'DEL', run: PluginRun): Promise<string> {
  const { attachment, binDir, plugin } = run;
  const { pod } = attachment;
  if (!/^[a-zA-Z0-9._-]+$/.test(plugin.type))
    throw new RuntimeError('Unknown', `CNI: "${plugin.type}" is no name of a plugin`);
  const child = spawn(join(binDir, plugin.type), [], {
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: PLUGIN_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    env: {
      PATH: process.env['PATH'],
      CNI_COMMAND: command,
      CNI_CONTAINERID: attachment.containerId,
      CNI_NETNS: attachment.netns,
      CNI_IFNAME: attachment.interfaceName,
      CNI_PATH: binDir,
      CNI_ARGS:
        `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.namespace};K8S_POD_NAME=${pod.name};` +
        `K8S_POD_INFRA_CONTAINER_ID=${attachment.containerId};K8S_POD_UID=${pod.uid}`,
    },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk: Buffer) => {
    if (out.length < MAX_ANSWER_BYTES) out += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => (err = (err + chunk.toString()).slice(-4096)));
  child.stdin.on('error', () => {}); // a plugin that ends early says why by itself
  child.stdin.end(JSON.stringify(pluginConfig(run)));
  const code = await new Promise<number | string | null>((resolve, reject) => {
    child.once('error', (cause) =>
      reject(
        new RuntimeError('Unknown', `cannot run the CNI plugin ${plugin.type} in ${binDir}`, {
          cause,
        }),
      ),
    );
    child.once('close', (status, signal) => resolve(status ?? signal));
  });
  if (code === 0) return out;
  throw new RuntimeError('Unknown', `CNI plugin ${plugin.type} ${command}: ${reasonOf(out, err)}`);
}

function reasonOf(out: string, err: string): string {
  try {
    const { msg = '', details = '' } = JSON.parse(out) as { msg?: string; details?: string };
    return [msg, details].filter(Boolean).join(': ');
  } catch {
    return (out || err || 'it was killed').trim();
  }
}

function readIfThere(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return []; // made by the node agent when it knows the node's addresses
  }
}
