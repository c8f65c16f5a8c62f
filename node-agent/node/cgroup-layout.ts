import { posix } from 'node:path';
import type { QosClass } from '#node-agent/containers/qos.ts';

/** Who makes pods' groups: the agent itself, as folders, or systemd, as slices. */
export type CgroupDriver = 'cgroupfs' | 'systemd';

/** Where the groups of a node's pods are; paths begin with `/` at a hierarchy's mount. */
export type CgroupLayout = {
  driver: CgroupDriver;
  /** Of all pods of the node. */
  node: string;
  /** Of a class; Guaranteed pods are in the node's. */
  parentOf(qos: QosClass): string;
  pod(uid: string, qos: QosClass): string;
  /** What the runtime is told: a path for cgroupfs, the name of a slice for systemd. */
  sandboxParent(uid: string, qos: QosClass): string;
  /** The pod whose group a folder of one of the parents is; undefined for any other folder. */
  uidOf(folder: string): string | undefined;
};

/** The kubelet's word for the group above all pods. */
const KUBEPODS = 'kubepods';
const SLICE = '.slice';

/**
 * Pods' groups below `root`: `/<root>/kubepods/<qos>/pod<uid>`, or with systemd
 * `kubepods-<qos>-pod<uid>.slice` below the slices that its name consists of.
 * Source: the kubelet's names of both drivers; systemd.slice(5).
 */
export function cgroupLayout(driver: CgroupDriver, root: string): CgroupLayout {
  const above = root.split('/').filter(Boolean);
  const partsOf = (qos: QosClass): string[] => [
    ...above,
    KUBEPODS,
    ...(qos === 'Guaranteed' ? [] : [qos.toLowerCase()]),
  ];
  const path = driver === 'systemd' ? slicePath : (parts: string[]) => `/${parts.join('/')}`;
  const pod = (uid: string, qos: QosClass): string => path([...partsOf(qos), `pod${uid}`]);
  return {
    driver,
    node: path([...above, KUBEPODS]),
    parentOf: (qos) => path(partsOf(qos)),
    pod,
    sandboxParent: (uid, qos) =>
      driver === 'systemd' ? posix.basename(pod(uid, qos)) : pod(uid, qos),
    uidOf(folder) {
      if (driver === 'cgroupfs') return /^pod(.+)$/.exec(folder)?.[1];
      const found = /^(?:.+-)?pod([^-]+)\.slice$/.exec(folder)?.[1];
      return found?.replaceAll('_', '-');
    },
  };
}

/** A dash stands between a slice and the one it is in, so names may not have one. */
function slicePath(parts: readonly string[]): string {
  const names = parts.map((part) => part.replaceAll('-', '_'));
  return names.map((_, i) => `/${names.slice(0, i + 1).join('-')}${SLICE}`).join('');
}

/** The slices on the way to a path, the outermost first; `-.slice` itself is always there. */
export const slicesOf = (path: string): string[] => path.split('/').filter(Boolean);
