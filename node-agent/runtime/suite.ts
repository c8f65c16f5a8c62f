import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { criSignal } from '#node-agent/containers/stop-signal.ts';
import {
  type ContainerConfig,
  type ContainerStatus,
  type ImageService,
  isRuntimeError,
  LABEL,
  type PodSandboxConfig,
  type RuntimeEvent,
  type RuntimeService,
} from '#node-agent/runtime/service.ts';

/** What the suite needs of the runtime under test: it is started once for all cases. */
export type SuiteSubject = {
  runtime: RuntimeService & ImageService;
  /** An image with `/bin/sh` and the usual small programs, which `pullImage` can get. */
  image: string;
  logDir: string;
};

/** Cases that every runtime behind RuntimeService has to pass. */
export function runtimeSuite(
  name: string,
  subject: () => SuiteSubject,
  skip: string | false,
): void {
  const it = (what: string, body: (s: Kit) => Promise<void>): void => {
    void test(`${name}: ${what}`, { skip, timeout: 60_000 }, async () => {
      const kit = makeKit(subject());
      try {
        await body(kit);
      } finally {
        await kit.cleanUp();
      }
    });
  };

  it('says what it is and that it is ready', async ({ runtime }) => {
    const version = await runtime.version();
    assert.match(version.version, /\d+\.\d+/);
    const conditions = await runtime.status();
    assert.ok(conditions.find((c) => c.type === 'RuntimeReady')?.status);
  });

  it('pulls an image once, lists it, and says null for one it lacks', async ({
    runtime,
    image,
  }) => {
    const ref = await runtime.pullImage(image, undefined);
    assert.ok(ref.length > 0);
    const found = await runtime.imageStatus(image);
    assert.ok(found && found.size > 0);
    assert.ok((await runtime.listImages()).some((i) => i.id === found.id));
    assert.equal(await runtime.imageStatus('gantry.internal/none:1'), null);
    await assert.rejects(runtime.pullImage('gantry.internal/none:1', undefined), isRuntimeError);
    assert.ok((await runtime.imageFsInfo())[0]?.mountpoint.startsWith('/'));
  });

  it('runs a sandbox with an address, finds it by label, and removes it', async (kit) => {
    const { runtime } = kit;
    const { id, config } = await kit.sandbox();
    const status = await runtime.podSandboxStatus(id);
    assert.equal(status.state, 'SANDBOX_READY');
    assert.match(status.network?.ip ?? '', /^\d+\.\d+\.\d+\.\d+$/);
    const selector = { [LABEL.podUid]: config.metadata.uid };
    assert.deepEqual(
      (await runtime.listPodSandboxes({ labelSelector: selector })).map((s) => s.id),
      [id],
    );
    await runtime.stopPodSandbox(id);
    await runtime.stopPodSandbox(id);
    assert.equal((await runtime.podSandboxStatus(id)).state, 'SANDBOX_NOTREADY');
    await runtime.removePodSandbox(id);
    await runtime.removePodSandbox(id);
    await assert.rejects(runtime.podSandboxStatus(id), (e) => isRuntimeError(e, 'NotFound'));
  });

  it('runs a container to its exit code, with a log', async (kit) => {
    const { runtime } = kit;
    const id = await kit.start('echo hello; exit 3');
    const status = await kit.exited(id);
    assert.equal(status.exitCode, 3);
    assert.equal(status.reason, 'Error');
    // A process that ends at once may have ended before its start was noted.
    assert.ok(status.finishedAt > 0 && status.startedAt > 0);
    assert.match(await kit.log(status), /^\S+ stdout F hello\n$/);
    // What users of a kubelet see: a name, and the digest by which the registry knows it.
    assert.equal(status.image?.image, kit.image);
    assert.match(status.imageRef, /@sha256:[0-9a-f]{64}$/);
    await runtime.removeContainer(id);
    await runtime.removeContainer(id);
  });

  it('tells the start and the end of a container at once', async (kit) => {
    const stop = new AbortController();
    const seen: RuntimeEvent[] = [];
    let wake: () => void = () => {};
    const reading = (async () => {
      for await (const event of kit.runtime.events(stop.signal)) {
        seen.push(event);
        wake();
      }
    })();
    try {
      const id = await kit.start('exit 0');
      const told = (type: string): boolean =>
        seen.some((e) => e.type === type && 'containerId' in e && e.containerId === id);
      while (!told('started') || !told('exited'))
        await new Promise<void>((resolve) => (wake = resolve));
    } finally {
      stop.abort();
      await reading;
    }
  });

  it('gives environment, arguments, working directory, user and mounts', async (kit) => {
    const hostPath = kit.logDir;
    const id = await kit.start(
      'echo "$WORD $(pwd) $(id -u):$(id -g) $(test -d /mnt/x && echo ok)"',
      {
        envs: [{ key: 'WORD', value: 'naïve' }],
        workingDir: '/tmp',
        mounts: [{ containerPath: '/mnt/x', hostPath, readonly: true }],
        user: 1234,
      },
    );
    const status = await kit.exited(id);
    assert.match(await kit.log(status), /F naïve \/tmp 1234:4321 ok\n$/);
  });

  it('stops with SIGTERM first, kills when the time is over', async (kit) => {
    const { runtime } = kit;
    const polite = await kit.start('trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done');
    // A first process without a handler gets no SIGTERM at all.
    await kit.log(await kit.running(polite));
    await runtime.stopContainer(polite, 20);
    assert.equal((await kit.exited(polite)).exitCode, 7);
    if ((await runtime.version()).features.stopSignal) {
      const script = 'trap "exit 8" USR1; echo ready; while :; do sleep 0.05; done';
      const choosy = await kit.start(script, { stopSignal: criSignal('SIGUSR1') });
      await kit.log(await kit.running(choosy));
      await runtime.stopContainer(choosy, 20);
      assert.equal((await kit.exited(choosy)).exitCode, 8);
    }
    const stubborn = await kit.start('trap "" TERM; while :; do sleep 0.05; done');
    await kit.running(stubborn);
    const slow = runtime.stopContainer(stubborn, 30);
    await runtime.stopContainer(stubborn, 0);
    assert.equal((await kit.exited(stubborn)).exitCode, 137);
    await slow;
  });

  it('runs commands inside, with their output, exit code and time limit', async (kit) => {
    const { runtime } = kit;
    const id = await kit.start('sleep 1000');
    await kit.running(id);
    const result = await runtime.execSync(
      id,
      ['sh', '-c', 'echo out; echo err >&2; exit 5'],
      10_000,
    );
    assert.equal(Buffer.from(result.stdout).toString(), 'out\n');
    assert.equal(Buffer.from(result.stderr).toString(), 'err\n');
    assert.equal(result.exitCode, 5);
    const begun = Date.now();
    await assert.rejects(runtime.execSync(id, ['sh', '-c', 'sleep 30 & echo hi'], 1_000), (e) =>
      isRuntimeError(e, 'DeadlineExceeded'),
    );
    assert.ok(Date.now() - begun < 5_000);
    assert.match(
      await runtime.exec({
        containerId: id,
        command: ['true'],
        stdin: false,
        stdout: true,
        stderr: true,
        tty: true,
      }),
      /^http:\/\//,
    );
    await runtime.stopContainer(id, 0);
  });

  it('reopens a log that was renamed, changes limits, counts usage', async (kit) => {
    const { runtime } = kit;
    const id = await kit.start('while :; do echo tick; sleep 0.05; done');
    const { logPath } = await kit.running(id);
    const until = async (ok: () => boolean): Promise<void> => {
      while (!ok()) await new Promise((resolve) => setTimeout(resolve, 10));
    };
    await until(() => existsSync(logPath) && readFileSync(logPath).length > 0);
    renameSync(logPath, `${logPath}.old`);
    await runtime.reopenContainerLog(id);
    await until(() => existsSync(logPath) && readFileSync(logPath).length > 0);
    await runtime.updateContainerResources(id, { memoryLimitInBytes: 64 * 1024 * 1024 });
    const [stats] = await runtime.listContainerStats({ id });
    assert.equal(stats?.attributes.id, id);
    assert.ok((stats?.memory?.workingSetBytes?.value ?? 0) > 0);
    assert.ok((stats?.cpu?.usageCoreNanoSeconds?.value ?? 0) > 0);
    await runtime.stopContainer(id, 0);
  });

  it('reports a command that does not exist as an end with its reason', async (kit) => {
    const { runtime } = kit;
    const id = await kit.create({ command: ['/no/such/program'] });
    await assert.rejects(runtime.startContainer(id), isRuntimeError);
    const status = await kit.exited(id);
    assert.equal(status.reason, 'StartError');
    assert.equal(status.exitCode, 128);
    assert.match(status.message, /no such file/i);
  });
}

// ---- tools of the cases -------------------------------------------------------------------------

type Special = Partial<
  Pick<ContainerConfig, 'command' | 'envs' | 'workingDir' | 'mounts' | 'stopSignal'>
> & {
  user?: number;
};

type Kit = SuiteSubject & {
  sandbox(): Promise<{ id: string; config: PodSandboxConfig }>;
  create(special: Special): Promise<string>;
  start(script: string, special?: Special): Promise<string>;
  running(id: string): Promise<ContainerStatus>;
  exited(id: string): Promise<ContainerStatus>;
  /** The log of a container that wrote one line; it may be complete a moment after the end. */
  log(status: ContainerStatus): Promise<string>;
  cleanUp(): Promise<void>;
};

let serial = 0;

function makeKit(subject: SuiteSubject): Kit {
  const { runtime, image, logDir } = subject;
  const sandboxes: string[] = [];
  let shared: { id: string; config: PodSandboxConfig } | undefined;

  async function sandbox(): Promise<{ id: string; config: PodSandboxConfig }> {
    const uid = `suite-${process.pid}-${serial++}`;
    const config: PodSandboxConfig = {
      metadata: { name: 'suite', namespace: 'default', uid, attempt: 0 },
      hostname: 'suite',
      logDirectory: join(logDir, uid),
      portMappings: [],
      labels: { [LABEL.podUid]: uid },
      annotations: {},
      linux: { securityContext: { namespaceOptions: { pid: 'CONTAINER' } } },
    };
    const id = await runtime.runPodSandbox(config, '');
    sandboxes.push(id);
    return { id, config };
  }

  async function create({ user, ...special }: Special): Promise<string> {
    await runtime.pullImage(image, undefined);
    shared ??= await sandbox();
    const name = `c${serial++}`;
    const config: ContainerConfig = {
      metadata: { name, attempt: 0 },
      image: { image },
      command: [],
      args: [],
      workingDir: '',
      envs: [],
      mounts: [],
      devices: [],
      labels: { [LABEL.podUid]: shared.config.metadata.uid, [LABEL.containerName]: name },
      annotations: {},
      logPath: `${name}.log`,
      stdin: false,
      stdinOnce: false,
      tty: false,
      linux: {
        resources: {},
        securityContext: {
          namespaceOptions: { pid: 'CONTAINER' },
          ...(user === undefined
            ? {}
            : { runAsUser: { value: user }, runAsGroup: { value: 4321 } }),
        },
      },
      ...special,
    };
    return runtime.createContainer(shared.id, config, shared.config);
  }

  async function inState(id: string, state: ContainerStatus['state']): Promise<ContainerStatus> {
    for (;;) {
      const status = await runtime.containerStatus(id);
      if (status.state === state) return status;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  return {
    ...subject,
    sandbox,
    create,
    async start(script, special = {}) {
      const id = await create({ command: ['/bin/sh', '-c', script], ...special });
      await runtime.startContainer(id);
      return id;
    },
    running: (id) => inState(id, 'CONTAINER_RUNNING'),
    exited: (id) => inState(id, 'CONTAINER_EXITED'),
    async log({ logPath }) {
      for (;;) {
        const text = existsSync(logPath) ? readFileSync(logPath, 'utf8') : '';
        if (text.endsWith('\n')) return text;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
    async cleanUp() {
      for (const id of sandboxes) {
        await runtime.stopPodSandbox(id);
        await runtime.removePodSandbox(id);
      }
    },
  };
}
