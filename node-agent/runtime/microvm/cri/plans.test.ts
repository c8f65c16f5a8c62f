import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerConfig } from '#node-agent/runtime/service.ts';
import { type HostKind, mountPlan } from './mount-plan.ts';
import { capabilitySet, processPlan, stopSignalOf } from './process-plan.ts';
import { lastWords } from './sandboxes.ts';
import { resolveUser } from './users.ts';
import { vmSize } from './vm-size.ts';

const MIB = 1024 * 1024;

test('the size of a VM follows the limits of its pod', () => {
  const table = [
    { what: 'nothing said', given: {}, is: [512, 1] },
    { what: 'a limit', given: { memoryLimitInBytes: 128 * MIB }, is: [192, 1] },
    { what: 'an odd limit', given: { memoryLimitInBytes: 129 * MIB }, is: [256, 1] },
    { what: 'a tiny limit', given: { memoryLimitInBytes: 4 * MIB }, is: [128, 1] },
    {
      what: 'a request above the default',
      given: { unified: { 'memory.min': `${1000 * MIB}` } },
      is: [1088, 1],
    },
    { what: 'half a core', given: { cpuQuota: 50_000, cpuPeriod: 100_000 }, is: [512, 1] },
    { what: 'a core and a half', given: { cpuQuota: 150_000, cpuPeriod: 100_000 }, is: [512, 2] },
    { what: 'more than there are', given: { cpuQuota: 900_000, cpuPeriod: 100_000 }, is: [512, 4] },
    { what: 'a request of two', given: { cpuShares: 2048 }, is: [512, 2] },
    {
      what: 'unlimited',
      given: { memoryLimitInBytes: -1, cpuQuota: -1, cpuPeriod: 100_000 },
      is: [512, 1],
    },
  ];
  for (const { what, given, is } of table) {
    const size = vmSize(given, 4);
    assert.deepEqual([size.memoryMib, size.vcpus], is, what);
  }
});

const FILES = {
  passwd: 'root:x:0:0::/root:/bin/sh\n# no one\napp:x:1000:50::/home/app:\nbroken\n',
  group: 'root:x:0:\nstaff:x:50:\nvideo:x:44:app,other\n',
};

test('users by number and name, of pod and image', () => {
  const table = [
    { what: 'nothing', wish: {}, image: '', is: { uid: 0, gid: 0, groups: [0], home: '/root' } },
    {
      what: 'image name',
      wish: {},
      image: 'app',
      is: { uid: 1000, gid: 50, groups: [50, 44], home: '/home/app' },
    },
    {
      what: 'image name and group',
      wish: {},
      image: 'app:video',
      is: { uid: 1000, gid: 44, groups: [44], home: '/home/app' },
    },
    {
      what: 'image numbers',
      wish: {},
      image: '7:8',
      is: { uid: 7, gid: 8, groups: [8], home: '/' },
    },
    {
      what: 'pod over image',
      wish: { runAsUser: { value: 0 } },
      image: 'app:video',
      is: { uid: 0, gid: 0, groups: [0], home: '/root' },
    },
    {
      what: 'a known number',
      wish: { runAsUser: { value: 1000 } },
      image: '',
      is: { uid: 1000, gid: 50, groups: [50, 44], home: '/home/app' },
    },
    {
      what: 'group alone',
      wish: { runAsGroup: { value: 9 } },
      image: 'app',
      is: { uid: 1000, gid: 9, groups: [9, 44], home: '/home/app' },
    },
    {
      what: 'strict',
      wish: {
        runAsUsername: 'app',
        supplementalGroups: [3],
        supplementalGroupsPolicy: 'Strict' as const,
      },
      image: '',
      is: { uid: 1000, gid: 50, groups: [50, 3], home: '/home/app' },
    },
  ];
  for (const { what, wish, image, is } of table) {
    const { user, home } = resolveUser(wish, image, FILES);
    assert.deepEqual({ ...user, home }, is, what);
  }
  assert.throws(() => resolveUser({ runAsUsername: 'ghost' }, '', FILES), /no users found.*ghost/);
  assert.throws(() => resolveUser({}, 'app:ghosts', FILES), /no groups found.*ghosts/);
});

test('capabilities', () => {
  const set = (addCapabilities: string[], dropCapabilities: string[]) =>
    capabilitySet({ capabilities: { addCapabilities, dropCapabilities } });
  assert.equal(set([], []).length, 14);
  assert.deepEqual(set(['CAP_NET_ADMIN'], ['ALL']), ['NET_ADMIN']);
  assert.ok(!set(['ALL'], ['SYS_ADMIN']).includes('SYS_ADMIN'));
  assert.equal(set(['all'], []).length, 41);
  assert.equal(capabilitySet({ privileged: true }).length, 41);
  assert.throws(() => set(['FLY'], []), /unknown capability "FLY"/);
});

const config = (special: Partial<ContainerConfig> = {}): ContainerConfig => ({
  metadata: { name: 'c', attempt: 0 },
  image: { image: 'i' },
  command: [],
  args: [],
  workingDir: '',
  envs: [],
  mounts: [],
  devices: [],
  labels: {},
  annotations: {},
  logPath: 'c.log',
  stdin: false,
  stdinOnce: false,
  tty: false,
  linux: { resources: {}, securityContext: { namespaceOptions: {} } },
  ...special,
});

test('command, arguments, environment, folder', () => {
  const image = { Entrypoint: ['/e'], Cmd: ['c'], Env: ['A=1', 'B=x=y'], WorkingDir: '/w' };
  const plan = (special: Partial<ContainerConfig>, settings: typeof image | object = image) =>
    processPlan({
      config: config(special),
      image: settings,
      user: { uid: 0, gid: 0, groups: [] },
      home: '/h',
      hostname: 'p',
    });
  assert.deepEqual(plan({}).argv, ['/e', 'c']);
  assert.deepEqual(plan({ args: ['d'] }).argv, ['/e', 'd']);
  assert.deepEqual(plan({ command: ['/x'] }).argv, ['/x']);
  assert.deepEqual(plan({ command: ['/x'], args: ['y'] }).argv, ['/x', 'y']);
  assert.throws(() => plan({}, {}), /no command specified/);
  const { env, cwd } = plan({ envs: [{ key: 'A', value: '2' }], tty: true });
  for (const line of ['A=2', 'B=x=y', 'HOME=/h', 'HOSTNAME=p', 'TERM=xterm'])
    assert.ok(env.includes(line), line);
  assert.equal(cwd, '/w');
  assert.equal(plan({ workingDir: '/own' }).cwd, '/own');
});

test('stop signals by name and number', () => {
  const table = {
    '': 15,
    SIGQUIT: 3,
    quit: 3,
    '9': 9,
    'SIGRTMIN+3': 37,
    RTMIN: 34,
    nonsense: 15,
    '99': 15,
  };
  for (const [text, number] of Object.entries(table))
    assert.equal(stopSignalOf(text), number, text);
});

test('mounts: outer before inner, files and folders, own files over those of the pod', () => {
  const kinds: Record<string, HostKind> = {
    '/h/f': 'file',
    '/h/s': 'socket',
    '/dev/sda': 'block',
    '/h/none': 'missing',
  };
  const plan = (
    mounts: {
      containerPath: string;
      hostPath: string;
      readonly?: boolean;
      propagation?: 'PROPAGATION_BIDIRECTIONAL';
    }[],
  ) =>
    mountPlan({
      containerId: 'c1',
      mounts,
      podFiles: [{ containerPath: '/etc/hosts', hostPath: '/h/f' }],
      kindOf: (path) => kinds[path] ?? 'directory',
    });
  const { binds, create, guest } = plan([
    { containerPath: '/a/b/c', hostPath: '/h/f', readonly: true },
    { containerPath: '/a/', hostPath: '/h/none' },
  ]);
  assert.deepEqual(
    guest.map(({ target }) => target),
    ['/a', '/etc/hosts', '/a/b/c'],
  );
  assert.deepEqual(
    binds.map(({ kind, readonly }) => [kind, readonly]),
    [
      ['directory', false],
      ['file', false],
      ['file', true],
    ],
  );
  assert.equal(new Set(binds.map(({ share }) => share)).size, 3);
  assert.deepEqual(create, ['/h/none']);
  assert.equal(plan([{ containerPath: '/etc/hosts', hostPath: '/h/x' }]).binds.length, 1);
  assert.throws(() => plan([{ containerPath: '/s', hostPath: '/h/s' }]), /socket of the host/);
  assert.throws(() => plan([{ containerPath: '/d', hostPath: '/dev/sda' }]), /volumeDevices/);
  assert.throws(() => plan([{ containerPath: '/', hostPath: '/h' }]), /root cannot/);
  assert.throws(
    () => plan([{ containerPath: '/x', hostPath: '/h', propagation: 'PROPAGATION_BIDIRECTIONAL' }]),
    /cannot leave a microVM/,
  );
});

test('what is shown of a kernel that died begins with why', () => {
  const trace = Array.from({ length: 200 }, (_, line) => `[ 1.${line}] frame ${line}`).join('\r\n');
  const why = '[ 1.0] Kernel panic - not syncing: Attempted to kill init!';
  const said = lastWords(`[ 0.1] booting\r\n${why}\r\n${trace}\r\n---[ end ${why} ]---`);
  assert.ok(said.startsWith(`${why}\n`) && said.length <= 2000);
  assert.match(lastWords(trace), /frame 199$/);
  assert.equal(lastWords(''), '');
});
