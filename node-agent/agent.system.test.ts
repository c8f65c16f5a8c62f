import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Pod } from '#api/types.ts';
import {
  FOREVER,
  inPhase,
  isReady,
  mainStatus,
  PODS,
  sh,
  testCluster,
} from '#node-agent/testing-cluster.ts';

/** Pods that really run: an API server in this process, and a containerd of the test's own. */
const cluster = testCluster({ tls: true });
const { run, request, call, create, until, remove } = cluster;

const put = (path: string, body: object) =>
  call('POST', `/api/v1/namespaces/default/${path}`, body);

/** The last traces go after the object. */
async function cleaned({ metadata }: Pod): Promise<void> {
  const uid = metadata.uid ?? '';
  const dirs = ['pods', 'log/pods'].map((dir) => join(cluster.node.rootDir, dir));
  while (dirs.some((dir) => readdirSync(dir).some((name) => name.includes(uid))))
    await new Promise((resolve) => setTimeout(resolve, 20));
}

function logOf(pod: Pod, container = 'main', attempt = 0): string {
  const { name, uid } = pod.metadata;
  const file = join(
    cluster.node.rootDir,
    'log/pods',
    `default_${name}_${uid}`,
    container,
    `${attempt}.log`,
  );
  return readFileSync(file, 'utf8').replaceAll(/^\S+ \S+ \S+ ?/gm, '');
}

async function eventsOf(name: string): Promise<string[]> {
  const { body } = await request('GET', '/api/v1/namespaces/default/events');
  const items = body['items'] as unknown as {
    involvedObject: { name: string };
    reason: string;
    message: string;
  }[];
  return items.filter((e) => e.involvedObject.name === name).map((e) => `${e.reason} ${e.message}`);
}

run('a pod runs to its end, with its environment, user, volumes and last words', async () => {
  await put('configmaps', { metadata: { name: 'cm' }, data: { color: 'blue', 'conf.txt': 'x=1' } });
  await put('secrets', { metadata: { name: 'sec' }, stringData: { pw: 'geheim' } });
  await create(
    'job',
    {
      restartPolicy: 'Never',
      hostname: 'box',
      subdomain: 'svc',
      hostAliases: [{ ip: '1.2.3.4', hostnames: ['alias.test'] }],
      securityContext: { runAsUser: 1000, runAsGroup: 3000, fsGroup: 2000 },
      containers: [
        sh(
          [
            'echo "$COLOR $POD $PW $(id -u):$(id -g):$(id -G)"',
            'cat /cfg/conf.txt; echo; cat /podinfo/labels; echo; cat /sec/pw; echo',
            'hostname; grep alias.test /etc/hosts; grep -c svc.cluster.local /etc/resolv.conf',
            'touch /data/f && echo "$(stat -c %g /data/f)"; touch /x 2>&1 | head -1',
            'grep NoNewPrivs /proc/self/status',
            'printf done > /dev/termination-log; exit 3',
          ].join('\n'),
          {
            env: [
              { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'cm', key: 'color' } } },
              { name: 'POD', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
              { name: 'PW', valueFrom: { secretKeyRef: { name: 'sec', key: 'pw' } } },
            ],
            securityContext: { readOnlyRootFilesystem: true, allowPrivilegeEscalation: false },
            volumeMounts: [
              { name: 'cfg', mountPath: '/cfg' },
              { name: 'sec', mountPath: '/sec' },
              { name: 'info', mountPath: '/podinfo' },
              { name: 'data', mountPath: '/data' },
            ],
          },
        ),
      ],
      volumes: [
        { name: 'cfg', configMap: { name: 'cm' } },
        { name: 'sec', secret: { secretName: 'sec', defaultMode: 0o440 } },
        {
          name: 'info',
          downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] },
        },
        { name: 'data', emptyDir: { medium: 'Memory' } },
      ],
    },
    { labels: { app: 'job' } },
  );
  const pod = await until('job', inPhase('Failed'));
  const { state } = mainStatus(pod);
  assert.equal(state?.terminated?.exitCode, 3);
  assert.equal(state?.terminated?.message, 'done');
  const lines = logOf(pod).trimEnd().split('\n');
  assert.deepEqual(lines, [
    'blue job geheim 1000:3000:3000 2000',
    'x=1',
    'app="job"',
    'geheim',
    'box',
    '1.2.3.4\talias.test',
    '1',
    '2000',
    'touch: /x: Read-only file system',
    'NoNewPrivs:\t1',
  ]);
  await remove('job');
  await cleaned(pod);
});

run('init containers go first, sidecars last; deletion waits for preStop and SIGTERM', async () => {
  const log = (text: string): string => `echo ${text} >> /shared/log`;
  const mounts = { volumeMounts: [{ name: 'shared', mountPath: '/shared' }] };
  await create('order', {
    terminationGracePeriodSeconds: 10,
    initContainers: [
      sh(log('init'), { name: 'init', ...mounts }),
      sh(`${log('sidecar')}; trap '${log('sidecar-term')}; exit 0' TERM; ${FOREVER}`, {
        name: 'side',
        restartPolicy: 'Always',
        startupProbe: { exec: { command: ['true'] }, periodSeconds: 1 },
        ...mounts,
      }),
    ],
    containers: [
      sh(`${log('main')}; trap '${log('main-term')}; exit 0' TERM; ${FOREVER}`, {
        lifecycle: {
          postStart: { exec: { command: ['/bin/sh', '-c', log('post-start')] } },
          preStop: { exec: { command: ['/bin/sh', '-c', log('pre-stop')] } },
        },
        ...mounts,
      }),
    ],
    volumes: [
      {
        name: 'shared',
        hostPath: { path: join(cluster.node.dir, 'order'), type: 'DirectoryOrCreate' },
      },
    ],
  });
  const pod = await until('order', isReady);
  assert.equal(pod.status?.initContainerStatuses?.[1]?.started, true);
  await remove('order');
  const lines = readFileSync(join(cluster.node.dir, 'order/log'), 'utf8').trim().split('\n');
  assert.deepEqual(
    lines.filter((l) => l !== 'post-start'),
    ['init', 'sidecar', 'main', 'pre-stop', 'main-term', 'sidecar-term'],
  );
  assert.ok(lines.includes('post-start'));
});

run(
  'a container that keeps failing waits longer and longer; OOM and bad images are named',
  async () => {
    await create('crash', { containers: [sh('echo attempt; exit 1')] });
    await create('oom', {
      containers: [
        sh('dd if=/dev/zero of=/dev/null bs=200M count=1', {
          resources: { limits: { memory: '32Mi' } },
        }),
      ],
      restartPolicy: 'Never',
    });
    await create('noimage', { containers: [sh('', { image: 'gantry.internal/none:1' })] });
    await create('noconfig', {
      containers: [sh('', { envFrom: [{ configMapRef: { name: 'nope' } }] })],
    });
    const waiting = (reason: string) => (pod: Pod | undefined) =>
      pod?.status?.containerStatuses?.[0]?.state?.waiting?.reason === reason;
    const crash = await until('crash', waiting('CrashLoopBackOff'));
    assert.equal(mainStatus(crash).restartCount, 1);
    assert.match(
      mainStatus(crash).state?.waiting?.message ?? '',
      /^back-off 10s restarting failed container=main/,
    );
    assert.equal(crash.status?.phase, 'Running');
    const oom = await until('oom', inPhase('Failed'));
    assert.equal(mainStatus(oom).state?.terminated?.reason, 'OOMKilled');
    await until('noimage', waiting('ErrImagePull'));
    await until('noimage', waiting('ImagePullBackOff'));
    const config = await until('noconfig', waiting('CreateContainerConfigError'));
    assert.equal(mainStatus(config).state?.waiting?.message, 'configmap "nope" not found');
    await put('configmaps', { metadata: { name: 'nope' }, data: { A: 'b' } });
    await Promise.all(['crash', 'oom', 'noimage', 'noconfig'].map((name) => remove(name)));
    const events = await eventsOf('crash');
    assert.ok(
      events.some((e) => e.startsWith('BackOff Back-off restarting failed container main')),
    );
  },
);

run('a pod that waits for an object starts as soon as that appears', async () => {
  await create('waits', {
    containers: [
      sh(`cat /v/k; echo "$K"; ${FOREVER}`, {
        volumeMounts: [{ name: 'v', mountPath: '/v' }],
        envFrom: [{ configMapRef: { name: 'later' } }],
      }),
    ],
    volumes: [{ name: 'v', secret: { secretName: 'later' } }],
  });
  // Tried again in growing steps; by the third failure the next try is seconds away.
  while ((await eventsOf('waits')).filter((e) => e.startsWith('FailedMount')).length < 1)
    await new Promise((resolve) => setTimeout(resolve, 20));
  await new Promise((resolve) => setTimeout(resolve, 1_700));
  await put('secrets', { metadata: { name: 'later' }, stringData: { k: 'from-secret' } });
  const waiting = (pod: Pod | undefined) =>
    pod?.status?.containerStatuses?.[0]?.state?.waiting?.reason === 'CreateContainerConfigError';
  const secretAtMs = Date.now();
  await until('waits', waiting);
  assert.ok(Date.now() - secretAtMs < 1_000);
  const mapAtMs = Date.now();
  await put('configmaps', { metadata: { name: 'later' }, data: { K: 'from-map' } });
  await until('waits', isReady);
  assert.ok(Date.now() - mapAtMs < 1_500, `${Date.now() - mapAtMs} ms`);
  await remove('waits');
});

run('probes decide over readiness and restarts', async () => {
  await create('probed', {
    containers: [
      sh('mkdir /www; echo ok > /www/index.html; httpd -p 8080 -h /www; ' + FOREVER, {
        ports: [{ name: 'web', containerPort: 8080 }],
        readinessProbe: { httpGet: { port: 'web', path: '/index.html' }, periodSeconds: 1 },
        livenessProbe: {
          exec: { command: ['test', '!', '-e', '/tmp/sick'] },
          periodSeconds: 1,
          failureThreshold: 1,
        },
      }),
    ],
  });
  const pod = await until('probed', isReady);
  await create('poker', {
    restartPolicy: 'Never',
    containers: [sh(`wget -qO- http://${pod.status?.podIP}:8080/`)],
  });
  const poker = await until('poker', inPhase('Succeeded'));
  assert.equal(logOf(poker), 'ok\n');
  const id = mainStatus(pod).containerID?.replace('containerd://', '') ?? '';
  execFileSync('ctr', [
    '-a',
    socket(),
    '-n',
    'k8s.io',
    'task',
    'exec',
    '--exec-id',
    'x',
    id,
    'touch',
    '/tmp/sick',
  ]);
  const again = await until(
    'probed',
    (p) => (p?.status?.containerStatuses?.[0]?.restartCount ?? 0) > 0 && isReady(p),
  );
  assert.equal(mainStatus(again).lastState?.terminated?.exitCode, 137);
  assert.ok(
    (await eventsOf('probed')).some((e) => e.startsWith('Unhealthy Liveness probe failed')),
  );
  await Promise.all([remove('probed'), remove('poker')]);
});

const socket = (): string => {
  const config = readFileSync(join(cluster.node.rootDir, 'containerd/config.toml'), 'utf8');
  return /address = "(.+\.sock)"/.exec(config)?.[1] ?? '';
};

run(
  'an agent that starts anew finds its pods as they are, and tells what happened meanwhile',
  async () => {
    await create('stays', { containers: [sh(FOREVER)] });
    await create('ends', { restartPolicy: 'Never', containers: [sh('sleep 1; exit 4')] });
    await create('vanishes', { containers: [sh(FOREVER)] });
    const stays = await until('stays', inPhase('Running'));
    await until('ends', inPhase('Running'));
    const vanishes = await until('vanishes', inPhase('Running'));
    await cluster.node.restart(async () => {
      await remove('vanishes', { gracePeriodSeconds: 0 });
      await new Promise((resolve) => setTimeout(resolve, 1200));
    });
    const ends = await until('ends', inPhase('Failed'));
    assert.equal(mainStatus(ends).state?.terminated?.exitCode, 4);
    const same = await until('stays', isReady);
    assert.equal(mainStatus(same).containerID, mainStatus(stays).containerID);
    assert.equal(mainStatus(same).restartCount, 0);
    await cleaned(vanishes);
    await Promise.all([remove('stays'), remove('ends')]);
  },
);

run('a dead sandbox is replaced; a deadline ends a pod; too much is refused', async () => {
  await create('sandboxed', { containers: [sh(FOREVER)] });
  const before = await until('sandboxed', isReady);
  const tasks = execFileSync('ctr', ['-a', socket(), '-n', 'k8s.io', 'task', 'ls']).toString();
  const own = mainStatus(before).containerID?.replace('containerd://', '') ?? '';
  const pauses = tasks.split('\n').flatMap((line) => {
    const [id, pid] = line.split(/\s+/);
    const command =
      pid && existsSync(`/proc/${pid}/cmdline`) ? readFileSync(`/proc/${pid}/cmdline`, 'utf8') : '';
    return id !== own && command.startsWith('/pause') ? [Number(pid)] : [];
  });
  for (const pid of pauses) process.kill(pid, 'SIGKILL');
  const after = await until(
    'sandboxed',
    (p) => isReady(p) && mainStatus(p as Pod).restartCount === 1,
  );
  assert.notEqual(after.status?.podIP, undefined);
  await create('late', { activeDeadlineSeconds: 1, containers: [sh(FOREVER)] });
  const late = await until('late', inPhase('Failed'));
  assert.equal(late.status?.reason, 'DeadlineExceeded');
  await create('huge', { containers: [sh(FOREVER, { resources: { requests: { cpu: '999' } } })] });
  const huge = await until('huge', inPhase('Failed'));
  assert.equal(huge.status?.reason, 'OutOfcpu');
  await Promise.all(['sandboxed', 'late', 'huge'].map((name) => remove(name)));
});

run('a pod is resized in place, by a restart, or later', async () => {
  const gib = 1024 ** 3;
  const policy = [{ resourceName: 'memory', restartPolicy: 'RestartContainer' }];
  const sized = (cpu: string, memory: string) => ({
    requests: { cpu, memory },
    limits: { cpu, memory },
  });
  await create('sized', {
    containers: [
      sh(FOREVER, { resources: sized('100m', '32Mi') }),
      sh(FOREVER, { name: 'other', resources: sized('100m', '32Mi'), resizePolicy: policy }),
    ],
  });
  const before = await until('sized', isReady);
  const resize = (name: string, sizes: object) =>
    request(
      'PATCH',
      `${PODS}/sized/resize`,
      { spec: { containers: [{ name, resources: sizes }] } },
      {
        'content-type': 'application/strategic-merge-patch+json',
      },
    );
  const of = (pod: Pod | undefined, name: string) =>
    pod?.status?.containerStatuses?.find((c) => c.name === name);
  const condition = (pod: Pod | undefined, type: string) =>
    pod?.status?.conditions?.find((c) => c.type === type);
  const answer = await resize('main', sized('200m', '64Mi'));
  assert.equal(answer.code, 200, answer.text);
  const resized = await until(
    'sized',
    (pod) =>
      of(pod, 'main')?.resources?.limits?.['memory'] === '64Mi' &&
      !condition(pod, 'PodResizeInProgress'),
  );
  assert.equal(of(resized, 'main')?.containerID, of(before, 'main')?.containerID);
  assert.equal(of(resized, 'main')?.restartCount, 0);
  assert.deepEqual(of(resized, 'main')?.allocatedResources, { cpu: '200m', memory: '64Mi' });
  assert.equal(resized.status?.observedGeneration, resized.metadata.generation);
  const read = (file: string): string =>
    execFileSync('sh', [
      '-c',
      `cat /sys/fs/cgroup/memory/gantry/n1-*/kubepods/pod${before.metadata.uid}/${file}/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/gantry/n1-*/kubepods/pod${before.metadata.uid}/${file}/memory.max`,
    ])
      .toString()
      .trim();
  const id = of(before, 'main')?.containerID?.replace('containerd://', '') ?? '';
  assert.equal(read(id), String(64 * 1024 ** 2));
  assert.equal(read('.'), String(96 * 1024 ** 2));

  await resize('other', sized('100m', '48Mi'));
  const restarted = await until(
    'sized',
    (pod) => of(pod, 'other')?.restartCount === 1 && isReady(pod),
  );
  assert.equal(of(restarted, 'other')?.resources?.limits?.['memory'], '48Mi');
  assert.equal(of(restarted, 'main')?.restartCount, 0);
  assert.equal(read('.'), String(112 * 1024 ** 2));

  const huge = sized('200m', `${64 * 1024}Gi`);
  await resize('main', huge);
  const refused = await until('sized', (pod) => condition(pod, 'PodResizePending') !== undefined);
  assert.equal(condition(refused, 'PodResizePending')?.reason, 'Infeasible');
  assert.deepEqual(of(refused, 'main')?.resources, sized('200m', '64Mi'));
  await resize('main', sized('200m', '64Mi'));
  await until('sized', (pod) => condition(pod, 'PodResizePending') === undefined);

  const { body } = await request('GET', '/api/v1/nodes/n1');
  const { allocatable } = (body as unknown as { status: { allocatable: { memory: string } } })
    .status;
  const totalKi = Number.parseInt(allocatable.memory, 10);
  const most = Math.floor((totalKi * 1024) / gib) > 1 ? totalKi - 400 * 1024 : totalKi;
  await create('hog', {
    containers: [sh(FOREVER, { resources: { requests: { memory: `${most}Ki` } } })],
  });
  await until('hog', isReady);
  await resize('main', sized('200m', '500Mi'));
  const deferred = await until('sized', (pod) => condition(pod, 'PodResizePending') !== undefined);
  assert.equal(condition(deferred, 'PodResizePending')?.reason, 'Deferred');
  await cluster.node.restart();
  assert.equal(condition(await until('sized', isReady), 'PodResizePending')?.reason, 'Deferred');
  await remove('hog');
  const last = await until(
    'sized',
    (pod) =>
      of(pod, 'main')?.resources?.limits?.['memory'] === '500Mi' &&
      !condition(pod, 'PodResizeInProgress'),
  );
  assert.equal(condition(last, 'PodResizePending'), undefined);
  assert.equal(of(last, 'main')?.restartCount, 0);
  await Promise.all(['sized', 'hog'].map((name) => remove(name)));
});

run('mounted objects follow the API; a token is there; a dead containerd comes back', async () => {
  await put('configmaps', { metadata: { name: 'live' }, data: { v: 'one' } });
  await create(
    'live',
    {
      serviceAccountName: 'default',
      containers: [
        sh(FOREVER, {
          volumeMounts: [{ name: 'all', mountPath: '/all' }],
          resources: { limits: { cpu: '200m', memory: '64Mi' } },
        }),
      ],
      volumes: [
        {
          name: 'all',
          projected: {
            sources: [
              { configMap: { name: 'live' } },
              { serviceAccountToken: { path: 'token', expirationSeconds: 3600 } },
              {
                downwardAPI: {
                  items: [{ path: 'notes', fieldRef: { fieldPath: 'metadata.annotations' } }],
                },
              },
            ],
          },
        },
      ],
    },
    { annotations: { a: '1' } },
  );
  const pod = await until('live', isReady);
  const id = mainStatus(pod).containerID?.replace('containerd://', '') ?? '';
  const inside = (command: string): string =>
    execFileSync('ctr', [
      '-a',
      socket(),
      '-n',
      'k8s.io',
      'task',
      'exec',
      '--exec-id',
      `x${Math.random()}`,
      id,
      'sh',
      '-c',
      command,
    ]).toString();
  assert.match(inside('cat /all/token'), /^[\w-]+\.[\w-]+\.[\w-]+$/);
  assert.equal(inside('cat /all/v /all/notes'), 'onea="1"');
  await request(
    'PATCH',
    '/api/v1/namespaces/default/configmaps/live',
    { data: { v: 'two' } },
    MERGE,
  );
  const changedAtMs = Date.now();
  while (inside('cat /all/v') !== 'two') await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(Date.now() - changedAtMs < 2_000, 'told by a watch, not found by a later look');
  await request('PATCH', `${PODS}/live`, { metadata: { annotations: { a: '2' } } }, MERGE);
  while (inside('cat /all/v /all/notes') !== 'twoa="2"')
    await new Promise((resolve) => setTimeout(resolve, 50));
  const cgroup = execFileSync('sh', [
    '-c',
    `cat /sys/fs/cgroup/memory/gantry/n1-*/kubepods/pod${pod.metadata.uid}/memory.limit_in_bytes /sys/fs/cgroup/gantry/n1-*/kubepods/pod${pod.metadata.uid}/memory.max 2>/dev/null || true`,
  ]).toString();
  assert.equal(cgroup.trim(), String(64 * 1024 ** 2));

  const daemon = Number(readFileSync(join(dirname(socket()), 'containerd.pid'), 'utf8'));
  process.kill(daemon, 'SIGKILL');
  await create('revived', { containers: [sh(FOREVER)] });
  await until('revived', isReady);
  const same = await until('live', isReady);
  assert.equal(mainStatus(same).containerID, mainStatus(pod).containerID);
  await Promise.all(['live', 'revived'].map((name) => remove(name)));
  await cleaned(pod);
  const left = execFileSync('sh', [
    '-c',
    `ls -d /sys/fs/cgroup/*/gantry/n1-*/kubepods/pod${pod.metadata.uid} 2>/dev/null || true`,
  ]);
  assert.equal(left.toString(), '');
});

const MERGE = { 'content-type': 'application/merge-patch+json' };
