import { isDeepStrictEqual } from 'node:util';
import { isStatusError } from '#api/status.ts';
import type { CSINode, Node } from '#api/types.ts';
import type { Api } from '#client/api.ts';
import { csiNodes, nodes } from '#client/resources.ts';
import type { NodeInfo } from '#node-agent/csi/csi-driver.ts';

/** The node id of each driver, for those that read it there. Source: kubelet nodeinfomanager. */
const NODE_ID_NOTE = 'csi.volume.kubernetes.io/nodeid';
/** Others write to the same objects. */
const MAX_TRIES = 5;

type Driver = CSINode['spec']['drivers'][number];

/** What a driver says of the node, as CSINode has it. Pure. */
export function driverEntry(name: string, info: NodeInfo): Driver {
  const topologyKeys = Object.keys(info.accessibleTopology?.segments ?? {}).sort();
  const { maxVolumesPerNode } = info;
  return {
    name,
    nodeID: info.nodeId,
    topologyKeys,
    ...(maxVolumesPerNode > 0 ? { allocatable: { count: maxVolumesPerNode } } : {}),
  };
}

/**
 * Tells the API of a driver on this node: labels of its topology first, then the CSINode object that
 * the scheduler and the sidecars read. Throws when the node has other values for the topology.
 */
export async function publishDriver(
  api: Api,
  nodeName: string,
  name: string,
  info: NodeInfo,
): Promise<void> {
  const segments = info.accessibleTopology?.segments ?? {};
  const node = await api.get(nodes, { name: nodeName });
  for (const [key, value] of Object.entries(segments)) {
    const has = node.metadata.labels?.[key];
    if (has === undefined || has === value) continue;
    throw new Error(
      `driver ${name} says topology ${key}=${value}, but node ${nodeName} is labelled ${key}=${has}`,
    );
  }
  const ids = { ...nodeIds(node), [name]: info.nodeId };
  await labelNode(api, node, ids, segments);
  const entry = driverEntry(name, info);
  await changeDrivers(api, node, (drivers) => {
    const before = drivers.find((one) => one.name === name);
    const rest = drivers.filter((one) => one.name !== name);
    if (!before) return [...rest, entry];
    // A driver's own fields cannot be changed; one that says something new is a new one.
    const same =
      before.nodeID === entry.nodeID &&
      isDeepStrictEqual([...(before.topologyKeys ?? [])].sort(), entry.topologyKeys);
    return same ? [...rest, { ...before, ...entry }] : rest;
  });
  await changeDrivers(api, node, (drivers) =>
    drivers.some((one) => one.name === name) ? drivers : [...drivers, entry],
  );
}

/** The driver has left the node. Labels stay: volumes that exist may still refer to them. */
export async function withdrawDriver(api: Api, nodeName: string, name: string): Promise<void> {
  const node = await api.get(nodes, { name: nodeName });
  await changeDrivers(api, node, (drivers) => drivers.filter((one) => one.name !== name));
  const { [name]: _, ...ids } = nodeIds(node);
  await labelNode(api, node, ids, {});
}

async function labelNode(
  api: Api,
  node: Node,
  ids: Readonly<Record<string, string>>,
  labels: Readonly<Record<string, string>>,
): Promise<void> {
  const note = Object.keys(ids).length > 0 ? JSON.stringify(ids) : null;
  const hasLabels = Object.entries(labels).every(([k, v]) => node.metadata.labels?.[k] === v);
  if (hasLabels && (node.metadata.annotations?.[NODE_ID_NOTE] ?? null) === note) return;
  const body = { metadata: { labels, annotations: { [NODE_ID_NOTE]: note } } };
  await api.patch(nodes, { name: node.metadata.name ?? '' }, { type: 'merge', body });
}

function nodeIds(node: Node): Record<string, string> {
  try {
    return JSON.parse(node.metadata.annotations?.[NODE_ID_NOTE] ?? '{}') as Record<string, string>;
  } catch {
    return {}; // somebody else's words; they are written anew
  }
}

/** Makes the object when there is none; writes only what differs. */
export async function changeDrivers(
  api: Api,
  node: Node,
  change: (drivers: readonly Driver[]) => readonly Driver[],
): Promise<void> {
  const { name = '', uid = '' } = node.metadata;
  for (let tries = 1; ; tries++) {
    try {
      const there = await read(api, name);
      const before = there?.spec.drivers ?? [];
      const drivers = [...change(before)];
      if (!there) {
        const ownerReferences = [{ apiVersion: 'v1', kind: 'Node', name, uid }];
        await api.create(csiNodes, {
          apiVersion: 'storage.k8s.io/v1',
          kind: 'CSINode',
          metadata: { name, ownerReferences },
          spec: { drivers },
        });
      } else if (!isDeepStrictEqual(before, drivers)) {
        await api.update(csiNodes, { ...there, spec: { ...there.spec, drivers } });
      }
      return;
    } catch (error) {
      const raced = isStatusError(error, 'Conflict') || isStatusError(error, 'AlreadyExists');
      if (!raced || tries >= MAX_TRIES) throw error;
    }
  }
}

async function read(api: Api, name: string): Promise<CSINode | undefined> {
  try {
    return await api.get(csiNodes, { name });
  } catch (error) {
    if (isStatusError(error, 'NotFound')) return undefined;
    throw error;
  }
}
