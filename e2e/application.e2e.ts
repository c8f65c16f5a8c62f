import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { cannotRun, freePort, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { end, run } from '#e2e/processes.ts';
import { BUSYBOX, shellManifest, webManifest } from '#e2e/workloads.ts';

const skip = cannotRun() ?? false;

/** One real cluster, driven by real kubectl as its user would. */
describe('an application on a real cluster', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });

  before(async () => {
    cluster = await layOutCluster();
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
  });
  after(async () => {
    await cluster.destroy();
  });

  test('the node is Ready and says what it is', async () => {
    const nodes = JSON.parse(await kubectl('get nodes -o json'));
    assert.equal(nodes.items.length, 1);
    const [node] = nodes.items;
    const ready = node.status.conditions.find((c: { type: string }) => c.type === 'Ready');
    assert.equal(ready.status, 'True');
    assert.match(node.status.nodeInfo.containerRuntimeVersion, /^containerd:\/\//);
    assert.equal(node.spec.podCIDR, '10.245.0.0/24');
  });

  test('a Deployment runs, answers through its Service, rolls out and back, and scales', async () => {
    await kubectl('apply -f -', webManifest({ name: 'web' }));
    await kubectl('rollout status deployment/web --timeout=60s');
    const port = await kubectl("get service web -o jsonpath='{.spec.ports[0].nodePort}'");
    const ask = async () => (await fetch(`http://127.0.0.1:${port}/`)).text();
    assert.match(await eventually('the NodePort answers', ask), /^web-[a-z0-9]+-[a-z0-9]{5} v1\n$/);

    await kubectl('apply -f -', webManifest({ name: 'web', version: 'v2' }));
    await kubectl('rollout status deployment/web --timeout=60s');
    await eventually('only the new version answers', async () => (await ask()).endsWith(' v2\n'));
    await kubectl('rollout undo deployment/web');
    await kubectl('rollout status deployment/web --timeout=60s');
    await eventually('the old version is back', async () => (await ask()).endsWith(' v1\n'));
    const history = await kubectl('rollout history deployment/web');
    assert.match(history, /^2\s/m);
    assert.match(history, /^3\s/m);

    await kubectl('scale deployment/web --replicas=4');
    await kubectl('rollout status deployment/web --timeout=60s');
    const endpoints = await kubectl('get endpointslices -l kubernetes.io/service-name=web -o json');
    const [slice] = JSON.parse(endpoints).items;
    assert.equal(
      slice.endpoints.filter((e: { conditions: { ready: boolean } }) => e.conditions.ready).length,
      4,
    );
    await kubectl('scale deployment/web --replicas=2');
  });

  test('a killed pod is replaced, a killed process is restarted', async () => {
    const names = async () =>
      (await kubectl("get pods -l app=web -o jsonpath='{.items[*].metadata.name}'")).split(' ');
    await eventually('two pods', async () => (await names()).length === 2);
    const [first = ''] = await names();
    await kubectl(`delete pod ${first}`);
    await kubectl('rollout status deployment/web --timeout=60s');
    assert.ok(!(await names()).includes(first));

    await kubectl('apply -f -', shellManifest('victim'));
    await kubectl('wait --for=condition=Ready pod/victim --timeout=60s');
    await cluster.kubectl('exec victim -- kill -TERM 1', { mayFail: true });
    await eventually('the container was restarted', async () => {
      const count = await kubectl(
        "get pod victim -o jsonpath='{.status.containerStatuses[0].restartCount}'",
      );
      return count === '1';
    });
    await kubectl('wait --for=condition=Ready pod/victim --timeout=60s');
  });

  test('logs, exec, cp, attach and port-forward', async () => {
    await kubectl('apply -f -', shellManifest('shell'));
    await kubectl('wait --for=condition=Ready pod/shell --timeout=60s');
    assert.equal(await kubectl('logs shell'), 'started\n');
    assert.equal(await kubectl('exec shell -- echo hello'), 'hello\n');
    assert.equal(await kubectl('exec -i shell -- cat', 'through stdin'), 'through stdin');
    const failed = await run('kubectl', [
      '--kubeconfig',
      cluster.kubeconfig,
      'exec',
      'shell',
      '--',
      'sh',
      '-c',
      'exit 7',
    ]);
    assert.equal(failed.code, 7);

    const dir = mkdtempSync(join(tmpdir(), 'gantry-cp-'));
    try {
      const content = Buffer.alloc(300_000, 'gantry').toString();
      writeFileSync(join(dir, 'there'), content);
      await kubectl(`cp ${join(dir, 'there')} shell:/tmp/copied`);
      await kubectl(`cp shell:/tmp/copied ${join(dir, 'back')}`);
      assert.equal(readFileSync(join(dir, 'back'), 'utf8'), content);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }

    const port = await freePort();
    const forward = spawn(
      'kubectl',
      ['--kubeconfig', cluster.kubeconfig, 'port-forward', 'service/web', `${port}:80`],
      { stdio: 'ignore' },
    );
    try {
      const answer = await eventually('the forwarded port answers', async () =>
        (await fetch(`http://127.0.0.1:${port}/`)).text(),
      );
      assert.match(answer, /^web-/);
    } finally {
      await end(forward, 'SIGTERM');
    }
  });

  test('gantry does the everyday things too', async () => {
    const gantry = async (...args: string[]) => {
      const result = await cluster.gantry(args);
      assert.equal(result.code, 0, `gantry ${args.join(' ')}: ${result.stderr}`);
      return result.stdout;
    };
    assert.match(await gantry('status'), /Node +e2e-node: Ready/);
    assert.match(
      await gantry('get', 'pods', '-o', 'wide'),
      /^NAME +READY .*\n(.*\n)*shell +1\/1 +Running/m,
    );
    assert.equal(await gantry('logs', 'shell'), 'started\n');
    assert.equal(await gantry('exec', 'pod/shell', '--', 'echo', 'hello'), 'hello\n');
    const piped = await cluster.gantry(['exec', '-i', 'shell', '--', 'cat'], { input: 'through' });
    assert.equal(piped.stdout, 'through');
    // The command hears of the end of its input, and may then be silent as long as it likes.
    const late = ['exec', '-i', 'shell', '--', 'sh', '-c', 'cat; sleep 2; echo after'];
    assert.equal((await cluster.gantry(late, { input: 'through' })).stdout, 'throughafter\n');
    const failed = await cluster.gantry(['exec', 'shell', '--', 'sh', '-c', 'exit 7']);
    assert.equal(failed.code, 7);
    assert.match(await gantry('describe', 'pod/shell'), /Container started/);
    assert.match(await gantry('rollout', 'history', 'deployment/web'), /^REVISION/);
    const wrong = await cluster.gantry(['apply', '-f', '-'], {
      input:
        'apiVersion: v1\nkind: Service\nmetadata: { name: w }\nspec:\n  ports:\n  - prot: 80\n',
    });
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /stdin:6:5: Service w: unknown field .*prot.*did you mean "port"/);
  });

  test('configuration reaches the pod, and changes follow', async () => {
    await kubectl('create configmap settings --from-literal=colour=green --from-literal=FLAG=on');
    await kubectl('create secret generic keys --from-literal=password=s3cret');
    await kubectl(
      'apply -f -',
      `
apiVersion: v1
kind: Pod
metadata: { name: configured, labels: { team: shop } }
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - { name: first, image: '${BUSYBOX}', command: [sh, -c, 'echo prepared > /shared/note'], volumeMounts: [{ name: work, mountPath: /shared }] }
  containers:
  - name: main
    image: ${BUSYBOX}
    command: [sh, -c, 'while true; do sleep 1; done']
    envFrom: [{ configMapRef: { name: settings } }]
    env:
    - { name: PASSWORD, valueFrom: { secretKeyRef: { name: keys, key: password } } }
    - { name: GREETING, value: 'flag is $(FLAG)' }
    - { name: CPU, valueFrom: { resourceFieldRef: { resource: limits.cpu, divisor: 1m } } }
    resources: { limits: { cpu: 200m, memory: 64Mi } }
    volumeMounts:
    - { name: work, mountPath: /shared }
    - { name: settings, mountPath: /settings }
    - { name: all, mountPath: /all }
  volumes:
  - { name: work, emptyDir: {} }
  - { name: settings, configMap: { name: settings } }
  - name: all
    projected:
      sources:
      - { secret: { name: keys, items: [{ key: password, path: secret/password }] } }
      - { downwardAPI: { items: [{ path: labels, fieldRef: { fieldPath: metadata.labels } }] } }
      - { serviceAccountToken: { path: token, expirationSeconds: 3600 } }
`,
    );
    await kubectl('wait --for=condition=Ready pod/configured --timeout=60s');
    const shell = (script: string) => kubectl(`exec configured -- sh -c '${script}'`);
    assert.equal(
      await shell('echo "$colour $FLAG $PASSWORD $GREETING $CPU"; cat /shared/note'),
      'green on s3cret flag is on 200\nprepared\n',
    );
    assert.equal(await shell('cat /settings/colour /all/secret/password'), 'greens3cret');
    assert.match(await shell('cat /all/labels'), /team="shop"/);
    assert.equal((await shell('cat /all/token')).split('.').length, 3);
    await kubectl(`patch configmap settings -p '{"data":{"colour":"blue"}}'`);
    await eventually(
      'the mounted file follows',
      async () => (await shell('cat /settings/colour')) === 'blue',
      90_000,
    );
  });

  test('what cannot run says why', async () => {
    await kubectl('run missing --image=gantry.internal/no-such-image:1 --restart=Never');
    await eventually('the pull fails', async () =>
      /ErrImagePull|ImagePullBackOff/.test(await kubectl('get pod missing')),
    );
    const huge = `--overrides={"spec":{"containers":[{"name":"huge","image":"${BUSYBOX}","resources":{"requests":{"cpu":"1000"}}}]}}`;
    await kubectl(`run huge --image=${BUSYBOX} '${huge}'`);
    const message = await eventually('the scheduler says why', () =>
      kubectl(`get pod huge -o jsonpath='{.status.conditions[?(@.type=="PodScheduled")].message}'`),
    );
    assert.match(message, /^0\/1 nodes are available: 1 Insufficient cpu\..*What would help/);
    await kubectl('delete pod missing huge --wait=false');
  });

  test('kubectl top and a HorizontalPodAutoscaler see what is used', async () => {
    await eventually(
      'top pods',
      async () => /web-\S+\s+\d+m\s+\d+Mi/.test(await kubectl('top pods')),
      60_000,
    );
    assert.match(await kubectl('top nodes'), /e2e-node\s+\d+m/);
    await kubectl('autoscale deployment web --cpu-percent=50 --min=2 --max=3');
    await eventually(
      'the autoscaler knows the cpu',
      async () => /\d+%\/50%/.test(await kubectl('get hpa web')),
      90_000,
    );
    await kubectl('delete hpa web');
  });

  test('deleting a namespace takes everything in it along', async () => {
    await kubectl('create namespace gone');
    await kubectl('-n gone apply -f -', webManifest({ name: 'web', replicas: 1 }));
    await kubectl('-n gone rollout status deployment/web --timeout=60s');
    await kubectl('delete namespace gone --timeout=60s');
    assert.match(
      await cluster.kubectl('get namespace gone', { mayFail: true }),
      /namespaces "gone" not found/,
    );
  });
});
