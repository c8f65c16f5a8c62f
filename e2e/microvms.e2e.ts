import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { systemClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { listProcesses } from '#node-agent/runtime/containerd-processes.ts';
import { ensureMicrovmRuntime } from '#node-agent/runtime/microvm/daemon.ts';
import { missingForMicrovms } from '#node-agent/runtime/microvm/host.ts';
import { microvmOptions } from '#node-agent/runtimes.ts';
import { cannotRun, freePort, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { end, run } from '#e2e/processes.ts';
import { BUSYBOX, webManifest } from '#e2e/workloads.ts';

const missing = missingForMicrovms();
const skip =
  cannotRun() ?? (missing.length > 0 ? `no microVMs here: ${missing.join('; ')}` : false);

/** Everything a user does with a pod, on a pod with a kernel of its own. */
const POD = `
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { word: first }
---
apiVersion: v1
kind: Pod
metadata: { name: vm, labels: { app: vm } }
spec:
  runtimeClassName: microvm
  terminationGracePeriodSeconds: 2
  securityContext: { seccompProfile: { type: RuntimeDefault } }
  volumes:
  - { name: settings, configMap: { name: settings } }
  - { name: scratch, emptyDir: {} }
  containers:
  - name: main
    image: ${BUSYBOX}
    command: [sh, -c]
    args:
    - |
      trap "echo bye > /dev/termination-log; exit 3" TERM
      echo out; echo err >&2
      mkdir -p /tmp/www; echo "kernel $(uname -r)" > /tmp/www/index.html
      httpd -p 8080 -h /tmp/www
      while :; do sleep 0.1; done
    ports: [{ name: http, containerPort: 8080 }]
    readinessProbe: { httpGet: { path: /, port: http }, periodSeconds: 1 }
    livenessProbe: { exec: { command: [test, -d, /tmp/www] }, periodSeconds: 1 }
    volumeMounts:
    - { name: settings, mountPath: /etc/settings }
    - { name: scratch, mountPath: /scratch }
    resources: { limits: { memory: 64Mi } }
---
apiVersion: v1
kind: Service
metadata: { name: vm }
spec: { selector: { app: vm }, ports: [{ port: 80, targetPort: http }] }
`;

const POLICY = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: vm }
spec:
  podSelector: { matchLabels: { app: vm } }
  policyTypes: [Ingress]
  ingress: [{ from: [{ podSelector: { matchLabels: { app: nobody } } }] }]
`;

describe('pods in microVMs', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const dir = mkdtempSync(join(tmpdir(), 'gantry-e2e-vm-'));

  before(async () => {
    cluster = await layOutCluster({ microvms: 'auto' });
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    await kubectl('wait --for=condition=MicroVMReady node --all --timeout=60s');
    await kubectl('apply -f -', POD);
    await kubectl('wait --for=condition=Ready pod/vm --timeout=60s');
  });
  after(async () => {
    rmSync(dir, { recursive: true, force: true });
    await cluster.destroy();
    const left = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' });
    assert.doesNotMatch(left, new RegExp(`microvm-runtime.*${cluster.dataDir}`));
  });

  test('gantry status says how microVMs run', async () => {
    const { stdout } = await cluster.gantry(['status']);
    assert.match(stdout, /^MicroVMs +microVMs run under (KVM|TCG): /m);
  });

  test('the pod has a kernel of its own, and its class counts what that costs', async () => {
    const host = readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim();
    const inside = (await kubectl('exec vm -- uname -r')).trim();
    assert.notEqual(inside, host);
    const overhead = JSON.parse(await kubectl("get pod vm -o jsonpath='{.spec.overhead}'"));
    assert.deepEqual(Object.keys(overhead).sort(), ['cpu', 'memory']);
  });

  test('logs, exec with its exit code and input, cp, port-forward', async () => {
    assert.deepEqual((await kubectl('logs vm')).split('\n').sort(), ['', 'err', 'out']);
    const failed = await cluster.kubectl('exec vm -- sh -c "echo said; exit 7"', { mayFail: true });
    assert.match(failed, /said[^]*exit code 7/);
    assert.equal(await kubectl('exec -i vm -- cat', 'typed'), 'typed');
    await kubectl(`cp vm:/tmp/www/index.html ${join(dir, 'page')}`);
    assert.match(readFileSync(join(dir, 'page'), 'utf8'), /^kernel /);
    await kubectl(`cp ${join(dir, 'page')} vm:/scratch/page`);
    assert.match(await kubectl('exec vm -- cat /scratch/page'), /^kernel /);
    const port = await freePort();
    const forward = spawn(
      'kubectl',
      ['--kubeconfig', cluster.kubeconfig, 'port-forward', 'pod/vm', `${port}:8080`],
      { stdio: 'ignore' },
    );
    try {
      const page = await eventually('the forwarded port answers', async () =>
        (await fetch(`http://127.0.0.1:${port}/`)).text(),
      );
      assert.match(page, /^kernel /);
    } finally {
      await end(forward, 'SIGTERM');
    }
  });

  test('a terminal, and the seccomp profile that the pod asks for', async () => {
    const inside = 'test -t 0 && echo a terminal; test -c /dev/tty && exit 4';
    const command = `kubectl --kubeconfig ${cluster.kubeconfig} exec -it vm -- sh -c '${inside}'`;
    const { stdout, code } = await run('script', ['-qec', command, '/dev/null'], {});
    assert.match(stdout, /a terminal\r\n/);
    assert.equal(code, 4);
    assert.match(await kubectl('exec vm -- grep Seccomp: /proc/self/status'), /\t2\n/);
  });

  test('Service and DNS, from the pod and to it', async () => {
    const address = await kubectl("get service vm -o jsonpath='{.spec.clusterIP}'");
    assert.match(await (await fetch(`http://${address}/`)).text(), /^kernel /);
    assert.match(
      await kubectl('exec vm -- nslookup vm.default.svc.cluster.local'),
      new RegExp(address),
    );
    assert.match(
      await kubectl('exec vm -- wget -qO- http://vm.default.svc.cluster.local/'),
      /^kernel /,
    );
  });

  test('a changed configMap arrives while the pod runs', async () => {
    assert.equal(await kubectl('exec vm -- cat /etc/settings/word'), 'first');
    await kubectl(`patch configmap settings --type=merge -p '{"data":{"word":"second"}}'`);
    await eventually(
      'the new word',
      async () => (await kubectl('exec vm -- cat /etc/settings/word')) === 'second',
      100_000,
    );
  });

  /** Processes that are the cluster's microVM runtime. */
  const runtimes = (): string[] =>
    listProcesses()
      .filter(({ command }) => command.includes('microvm-runtime'))
      .filter(({ command }) => command.join(' ').includes(cluster.dataDir))
      .map(({ pid }) => String(pid));
  const untouched = async (before: string): Promise<void> => {
    const status = JSON.parse(await kubectl('get pod vm -o json')).status.containerStatuses[0];
    assert.deepEqual([status.containerID, status.restartCount], [before, 0]);
    assert.match(before, /^gantry-microvm:\/\//);
    assert.deepEqual((await kubectl('logs vm')).split('\n').sort(), ['', 'err', 'out']);
  };

  test('a kill of the runtime, or another build of it, leaves pods and their logs whole', async () => {
    const container = await kubectl(
      "get pod vm -o jsonpath='{.status.containerStatuses[0].containerID}'",
    );
    const [killed = ''] = runtimes();
    process.kill(Number(killed), 'SIGKILL');
    await eventually('another runtime', async () => runtimes().some((one) => one !== killed));
    await eventually(
      'exec works again',
      async () => (await kubectl('exec vm -- echo back')) === 'back\n',
    );
    await untouched(container);
    const [old = ''] = runtimes();
    const rootDir = join(cluster.dataDir, 'node', cluster.nodeName);
    const around = { clock: systemClock, log: silentLog, signal: new AbortController().signal };
    await ensureMicrovmRuntime({ ...microvmOptions({ rootDir }, around), build: 'of-tomorrow' });
    // The agent may have seen that nobody answers, and put its own build back meanwhile.
    await eventually('the old one is gone', async () => !runtimes().includes(old));
    await eventually(
      'exec works once more',
      async () => (await kubectl('exec vm -- echo new')) === 'new\n',
    );
    await untouched(container);
  });

  test('a process that ends leaves its message and is restarted', async () => {
    await eventually('the signal is sent', async () => {
      const answer = await cluster.kubectl('exec vm -- kill -TERM 1', { mayFail: true });
      return !/error/i.test(answer) || /exit code/.test(answer);
    });
    const last = await eventually('a restart', async () => {
      const [status] = JSON.parse(await kubectl('get pod vm -o json')).status.containerStatuses;
      return status.restartCount >= 1 && status.state.running && status.lastState.terminated;
    });
    assert.deepEqual([last.exitCode, last.message], [3, 'bye\n']);
  });

  test('a Deployment moves from containers to microVMs by a rolling update', async () => {
    await kubectl('apply -f -', webManifest({ name: 'web', replicas: 2, spec: 'type: NodePort' }));
    await kubectl('rollout status deployment/web --timeout=60s');
    const port = await kubectl("get service web -o jsonpath='{.spec.ports[0].nodePort}'");
    const patch = '{"spec":{"template":{"spec":{"runtimeClassName":"microvm"}}}}';
    await kubectl(`patch deployment web --type=merge -p '${patch}'`);
    await kubectl('rollout status deployment/web --timeout=120s');
    assert.match(await (await fetch(`http://127.0.0.1:${port}/`)).text(), /^web-/);
    const classes = await kubectl(
      "get pods -l app=web --field-selector=status.phase=Running -o jsonpath='{.items[*].spec.runtimeClassName}'",
    );
    assert.match(classes, /^microvm microvm/);
  });

  test('a NetworkPolicy holds between microVMs', async () => {
    const page = () =>
      cluster.kubectl('exec deploy/web -- timeout 3 wget -qO- http://vm/', { mayFail: true });
    assert.match(await page(), /^kernel /);
    await kubectl('apply -f -', POLICY);
    await eventually('the way is closed', async () => !/kernel/.test(await page()));
    await kubectl('exec deploy/web -- timeout 3 wget -qO- http://web/');
    await kubectl('delete networkpolicy vm');
    await eventually('the way is open', async () => /kernel/.test(await page()));
  });

  test('a namespace can require microVMs', async () => {
    await kubectl('create namespace walled');
    await kubectl('label namespace walled gantry.dev/isolation=microvm');
    await kubectl(`run -n walled one --image=${BUSYBOX} --restart=Never -- true`);
    await eventually(
      'it ran',
      async () =>
        (await kubectl("get pod -n walled one -o jsonpath='{.status.phase}'")) === 'Succeeded',
    );
    assert.equal(
      await kubectl("get pod -n walled one -o jsonpath='{.spec.runtimeClassName}'"),
      'microvm',
    );
    const overrides = '{"spec":{"runtimeClassName":"container"}}';
    const refused = await cluster.kubectl(
      `run -n walled two --image=${BUSYBOX} --overrides='${overrides}' -- true`,
      { mayFail: true },
    );
    assert.match(refused, /spec.runtimeClassName "container" runs containers/);
  });
});
