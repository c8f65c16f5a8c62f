import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readIfThere, writeAtomic } from '#base/files.ts';

export type CniConfig = {
  /** The interface all pods of the node are attached to. */
  bridge: string;
  /** This node's shares of the pod network, one per family. */
  podCidrs: readonly string[];
  mtu: number;
  /** Where addresses in use are remembered. Another folder would give addresses out twice. */
  addressDir: string;
};

const FILE = '10-gantry.conflist';

/**
 * The network of pods as CNI plugins build it: a bridge that is the pods' gateway, addresses from
 * the node's range. Neither masquerading nor host ports are the plugins' business (service-table.ts).
 * Source: CNI specification 1.0; documentation of the bridge and host-local plugins.
 */
export function cniConflist({ bridge, podCidrs, mtu, addressDir }: CniConfig): string {
  const conflist = {
    cniVersion: '1.0.0',
    name: 'gantry',
    plugins: [
      {
        type: 'bridge',
        bridge,
        isGateway: true,
        isDefaultGateway: true,
        ipMasq: false,
        hairpinMode: true,
        mtu,
        ipam: {
          type: 'host-local',
          dataDir: addressDir,
          ranges: podCidrs.map((subnet) => [{ subnet }]),
        },
      },
    ],
  };
  return `${JSON.stringify(conflist, null, 2)}\n`;
}

/** Writes the configuration in one step (the runtime watches the folder), unless it is there. */
export function writeCniConfig(confDir: string, config: CniConfig): void {
  mkdirSync(confDir, { recursive: true });
  const file = join(confDir, FILE);
  const text = cniConflist(config);
  if (readIfThere(file) === text) return;
  writeAtomic(file, text);
}
