import type { Clock } from '#base/clock.ts';
import type { Log } from '#base/log.ts';
import type { Api } from '#client/api.ts';
import type { Informers } from '#client/informer-factory.ts';
import { csiDrivers } from '#client/resources.ts';
import { connectCsiDriver, type CsiDriver } from '#node-agent/csi/csi-driver.ts';
import { publishDriver, withdrawDriver } from '#node-agent/csi/csi-node.ts';
import { registrationDir } from '#node-agent/csi/csi-paths.ts';
import { CsiVolumes, type CsiVolumesOptions } from '#node-agent/csi/csi-volumes.ts';
import { followPlugins, type PluginInfo } from '#node-agent/csi/plugin-registry.ts';

export type Csi = {
  volumes: CsiVolumes;
  /** Follows drivers as they come and go, until the signal. `onDriver` is told of those that came. */
  run(signal: AbortSignal, onDriver: () => void): Promise<void>;
};

/** The CSI side of a node agent. */
export function createCsi(
  options: Omit<CsiVolumesOptions, 'driverObject' | 'driver'> & {
    informers: Informers;
    api: Api;
    clock: Clock;
    log: Log;
  },
): Csi {
  const { api, nodeName, informers, rootDir, clock, log } = options;
  const objects = informers.of(csiDrivers);
  const drivers = new Map<string, CsiDriver>();
  const volumes = new CsiVolumes({
    ...options,
    driverObject: (name) => objects.get({ name }),
    driver: (name) => drivers.get(name),
  });

  async function register({ name, endpoint }: PluginInfo, onDriver: () => void): Promise<void> {
    const driver = connectCsiDriver(name, endpoint);
    try {
      await publishDriver(api, nodeName, name, await driver.nodeInfo());
      await objects.synced(); // what the API says of it decides how it is used
    } catch (error) {
      driver.close();
      throw error;
    }
    drivers.get(name)?.close();
    drivers.set(name, driver);
    onDriver();
  }

  async function deregister(name: string): Promise<void> {
    drivers.get(name)?.close();
    drivers.delete(name);
    await withdrawDriver(api, nodeName, name);
  }

  return {
    volumes,
    async run(signal, onDriver) {
      objects.onChange(({ type }) => {
        if (type !== 'deleted') onDriver();
      });
      const dir = registrationDir(rootDir);
      const take = (plugin: PluginInfo) => register(plugin, onDriver);
      await followPlugins({ dir, clock, log, register: take, deregister }, signal);
      for (const driver of drivers.values()) driver.close();
    },
  };
}
