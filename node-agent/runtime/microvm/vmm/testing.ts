import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestContainer, GuestProcess, GuestStreams, VmSpec } from '../machine.ts';

/** What tests and measurements of VMs stand on: a network namespace, a shared tree, an image. */
export type VmGround = {
  dir: string;
  /** An EROFS file with busybox in /bin. */
  image: string;
  spec(id: string, change?: Partial<VmSpec>): VmSpec;
  /** The namespace's address as CIDR, and the host's end of its link. */
  address: string;
  gateway: string;
  /** An empty ext4 file for a written layer. */
  makeDisk(name: string): string;
  remove(): void;
};

const BUSYBOX = '/bin/busybox';
const APPLETS = [
  ...[
    'sh',
    'cat',
    'echo',
    'ls',
    'id',
    'sleep',
    'stat',
    'mount',
    'grep',
    'head',
    'dd',
    'wc',
    'tty',
    'unshare',
    'chroot',
  ],
  ...[
    'kill',
    'ps',
    'hostname',
    'ip',
    'nc',
    'httpd',
    'wget',
    'seq',
    'touch',
    'chown',
    'stty',
    'mknod',
  ],
  ...['true', 'date', 'yes', 'env', 'pwd', 'mkdir', 'md5sum', 'rm', 'tail', 'cut', 'trap'],
];

/** Needs root, ip, mkfs.erofs, busybox. `octet` sets this ground's addresses and names apart. */
export function makeGround(octet: number): VmGround {
  const dir = mkdtempSync(join(tmpdir(), 'gantry-vm-'));
  const run = (command: string, ...args: string[]): string =>
    execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const gateway = `10.131.${octet}.1`;
  const networks = new Map<string, string>();

  /** A namespace for each VM, as each pod has one; the first one's link has the host's address. */
  function netnsOf(id: string): string {
    const known = networks.get(id);
    if (known !== undefined) return known;
    const [name, link] = [`gantry-vm-${octet}-${networks.size}`, `gv${octet}-${networks.size}`];
    quietly('ip', 'netns', 'del', name); // of a test that was killed
    quietly('ip', 'link', 'del', link);
    run('ip', 'netns', 'add', name);
    run(
      'ip',
      '-n',
      name,
      'link',
      'add',
      'eth0',
      'type',
      'veth',
      'peer',
      'name',
      link,
      'netns',
      '1',
    );
    run('ip', '-n', name, 'link', 'set', 'eth0', 'up');
    run('ip', 'link', 'set', link, 'up');
    if (networks.size === 0) run('ip', 'addr', 'replace', `${gateway}/24`, 'dev', link);
    networks.set(id, name);
    return name;
  }

  const share = join(dir, 'share');
  mkdirSync(share);
  run('mount', '--bind', share, share);
  run('mount', '--make-shared', share);
  const image = join(dir, 'image.erofs');
  buildImage(join(dir, 'rootfs'), image, run);
  return {
    dir,
    image,
    address: `10.131.${octet}.5/24`,
    gateway,
    spec(id, change) {
      const shareDir = join(share, id);
      mkdirSync(shareDir, { recursive: true });
      const network = { netnsPath: `/run/netns/${netnsOf(id)}`, interfaceName: 'eth0' };
      return { id, memoryMib: 256, vcpus: 1, cgroupPath: '', shareDir, ...network, ...change };
    },
    makeDisk(name) {
      const file = join(dir, `${name}.ext4`);
      run('truncate', '-s', '64M', file);
      run('mke2fs', '-q', '-t', 'ext4', file);
      return file;
    },
    remove() {
      for (const name of networks.values()) quietly('ip', 'netns', 'del', name);
      execFileSync('umount', ['-R', share]);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function buildImage(
  root: string,
  image: string,
  run: (command: string, ...args: string[]) => string,
): void {
  for (const name of ['bin', 'etc', 'tmp', 'home', 'var/www'])
    mkdirSync(join(root, name), { recursive: true });
  run('cp', BUSYBOX, join(root, 'bin/busybox'));
  for (const applet of APPLETS) run('ln', '-s', 'busybox', join(root, 'bin', applet));
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0::/root:/bin/sh\nweb:x:1000:1000::/home:/bin/sh\n',
  );
  run('mkfs.erofs', image, root);
}

/** Where there may be nothing to remove. */
function quietly(command: string, ...args: string[]): void {
  spawnSync(command, args, { stdio: 'ignore' });
}

/** A process of `argv` as root, with the rights a container has by default. */
export function guestProcess(argv: string[], change: Partial<GuestProcess> = {}): GuestProcess {
  return {
    argv,
    env: ['PATH=/bin'],
    cwd: '/',
    user: { uid: 0, gid: 0, groups: [] },
    capabilities: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'KILL', 'SETGID', 'SETUID', 'MKNOD'],
    noNewPrivileges: false,
    tty: false,
    stdin: false,
    ...change,
  };
}

/** A container of the image at LUN `lun` with a written layer in memory. */
export function guestContainer(
  id: string,
  lun: number,
  argv: string[],
  change: Partial<GuestContainer> = {},
): GuestContainer {
  return {
    id,
    rootfs: { lun, filesystem: 'erofs', writable: 'memory' },
    readonlyRootfs: false,
    process: guestProcess(argv),
    mounts: [],
    devices: [],
    limits: {},
    pidNamespace: 'own',
    maskedPaths: [],
    readonlyPaths: [],
    seccompFilter: new Uint8Array(),
    privileged: false,
    ...change,
  };
}

/** All that a process writes until it ends, acknowledged as it comes. */
export async function readAll(
  streams: GuestStreams,
): Promise<{ stdout: string; stderr: string; code: number; oomKilled: boolean }> {
  const text = { stdout: '', stderr: '' };
  for await (const { stream, bytes } of streams.output()) {
    text[stream] += Buffer.from(bytes).toString();
    streams.acknowledge();
  }
  const { code, oomKilled } = await streams.exit;
  return { ...text, code, oomKilled };
}
