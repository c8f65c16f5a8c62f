import { posix } from 'node:path';
import type { GuestMount } from '#node-agent/runtime/microvm/machine.ts';
import { type Mount, RuntimeError } from '#node-agent/runtime/service.ts';

/** What is at a host path. */
export type HostKind = 'directory' | 'file' | 'block' | 'socket' | 'other' | 'missing';

/** A bind on the host, below the pod's shared tree. */
export type Bind = {
  hostPath: string;
  share: string;
  kind: 'directory' | 'file';
  readonly: boolean;
};

export type MountPlan = {
  binds: Bind[];
  /** Directories to make before binding them: a runtime makes missing host paths. */
  create: string[];
  guest: GuestMount[];
};

export type MountRequest = {
  containerId: string;
  mounts: readonly Mount[];
  /** Files that every container of the pod has, unless it mounts its own. */
  podFiles: readonly { containerPath: string; hostPath: string }[];
  kindOf: (hostPath: string) => HostKind;
};

/** As many as the kernel and the agent bear; a pod has a dozen. */
const MAX_MOUNTS = 500;

/**
 * How a container's mounts get into its VM: each host path is bound below the folder that the guest
 * sees, and mounted there, outer paths before inner ones. Throws RuntimeError for what cannot be.
 */
export function mountPlan(request: MountRequest): MountPlan {
  const { containerId, kindOf } = request;
  const own = request.mounts.map((mount) => ({
    ...mount,
    containerPath: posix.resolve('/', mount.containerPath),
  }));
  if (own.length > MAX_MOUNTS)
    throw refused(containerId, `more than ${MAX_MOUNTS} mounts in one container`);
  const taken = new Set(own.map(({ containerPath }) => containerPath));
  const all: Mount[] = [
    ...request.podFiles.filter(({ containerPath }) => !taken.has(containerPath)),
    ...own,
  ].sort((a, b) => depth(a.containerPath) - depth(b.containerPath));
  const plan: MountPlan = { binds: [], create: [], guest: [] };
  for (const [index, mount] of all.entries()) {
    const kind = kindOf(mount.hostPath);
    checkMount(mount, kind);
    const share = `${containerId}/${index}`;
    const readonly = mount.readonly ?? false;
    if (kind === 'missing') plan.create.push(mount.hostPath);
    plan.binds.push({
      hostPath: mount.hostPath,
      share,
      kind: kind === 'file' ? 'file' : 'directory',
      readonly,
    });
    plan.guest.push({ source: { share }, target: mount.containerPath, readonly });
  }
  return plan;
}

function checkMount(mount: Mount, kind: HostKind): void {
  const where = `mount of ${mount.hostPath || mount.image?.image} on ${mount.containerPath}`;
  if (mount.image?.image) throw refused(where, 'image volumes are not supported in a microVM');
  if (mount.containerPath === '/') throw refused(where, 'the root cannot be mounted over');
  if (!mount.hostPath.startsWith('/')) throw refused(where, 'the host path is not absolute');
  if (mount.propagation === 'PROPAGATION_BIDIRECTIONAL')
    throw refused(
      where,
      'Bidirectional mount propagation cannot leave a microVM; use runtimeClassName: container',
    );
  if (kind === 'socket')
    throw refused(
      where,
      'a socket of the host cannot be reached from a microVM; use runtimeClassName: container',
    );
  if (kind === 'block')
    throw refused(where, 'a block device is no directory or file; use volumeDevices');
  if (kind === 'other') throw refused(where, 'only directories and files can be mounted');
}

const depth = (path: string): number => path.split('/').length;

const refused = (where: string, why: string): RuntimeError =>
  new RuntimeError('Unknown', `${where}: ${why}`);
