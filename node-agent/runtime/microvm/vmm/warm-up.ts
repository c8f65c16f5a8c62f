import { execFile } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { GuestContainer, Vm } from '../machine.ts';

const run = promisify(execFile);

/**
 * Runs in a VM that waits for a pod what every pod's start runs: link, disks, file systems, share,
 * namespaces, a first process. Emulated, most of a start's time goes into translating that code. What
 * it made is taken away again; the pod gets random state, clock, name and addresses of its own.
 */
export async function warmUp(
  vm: Vm,
  { dir, image }: { dir: string; image: string },
): Promise<void> {
  const disk = join(dir, 'warm.ext4');
  const shared = join(dir, 'share/pod/warm');
  const features = ['-O', '^has_journal,^resize_inode', '-E', 'nodiscard'];
  await run('mke2fs', ['-q', '-F', '-t', 'ext4', ...features, disk, '16M']);
  writeFileSync(shared, '');
  try {
    const { guest } = vm;
    const link = { mac: '02:00:00:00:00:01', mtu: 1500, addresses: [], routes: [], sysctls: {} };
    await guest.configure({ hostname: 'warm', ...link });
    const luns = await Promise.all([
      vm.addDisk({ path: image, readonly: true }),
      vm.addDisk({ path: disk, readonly: false }),
    ]);
    await guest.createContainer(container(...luns));
    await (await guest.startContainer('warm')).exit;
    await guest.removeContainer('warm');
    for (const lun of luns) await vm.removeDisk(lun);
  } finally {
    rmSync(disk, { force: true });
    rmSync(shared, { force: true });
  }
}

/** An image with one program that ends at once, made of the jail, which is static. */
export async function warmImage(dir: string, jail: string): Promise<string> {
  const image = join(dir, 'warm.erofs');
  if (existsSync(image)) return image;
  const root = join(dir, 'warm-root');
  mkdirSync(join(root, 'etc'), { recursive: true });
  copyFileSync(jail, join(root, 'end'));
  await run('mkfs.erofs', ['--quiet', `${image}.partial`, root]);
  rmSync(root, { recursive: true });
  renameSync(`${image}.partial`, image);
  return image;
}

const container = (lun: number, writable: number): GuestContainer => ({
  id: 'warm',
  rootfs: { lun, filesystem: 'erofs', writable: { lun: writable } },
  readonlyRootfs: false,
  process: {
    ...{ argv: ['/end'], env: ['PATH=/'], cwd: '/', capabilities: [] },
    user: { uid: 0, gid: 0, groups: [] },
    ...{ noNewPrivileges: false, tty: false, stdin: false },
  },
  mounts: [{ source: { share: 'warm' }, target: '/etc/warm', readonly: false }],
  devices: [],
  limits: { pids: 16 },
  pidNamespace: 'own',
  maskedPaths: ['/proc/kcore'],
  readonlyPaths: ['/proc/sys'],
  seccompFilter: new Uint8Array(),
  privileged: false,
});
