import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import https from 'node:https';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isReady, sh, testCluster } from '#node-agent/testing-cluster.ts';
import { missingForTestRuntime, TEST_IMAGE } from '#node-agent/testing.ts';

/** The node's own API through the API server, as real kubectl uses it. */
const KUBECTL = '/usr/bin/kubectl';
const skip = missingForTestRuntime() ?? (existsSync(KUBECTL) ? false : 'no kubectl');
const cluster = testCluster({
  skip,
  tls: true,
  async started() {
    await create('web', {
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: 'main',
          image: TEST_IMAGE,
          command: [
            'sh',
            '-c',
            'mkdir /www; echo page > /www/index.html; httpd -p 80 -h /www; i=0; while [ $i -lt 5 ]; do echo line $i; i=$((i+1)); done; sleep 0.3; echo oops >&2; sleep 0.3; touch /tmp/up; while :; do sleep 0.2; done',
          ],
          // Ready when all of its log is written.
          readinessProbe: { exec: { command: ['test', '-e', '/tmp/up'] }, periodSeconds: 1 },
        },
        { name: 'shell', image: TEST_IMAGE, command: ['sh'], stdin: true, tty: true },
      ],
    });
    await until('web', isReady);
  },
});
const { run, create, until } = cluster;
const kubeconfig = (): string => join(cluster.server.dataDir, 'admin.kubeconfig');

const exec = promisify(execFile);

async function kubectl(...args: string[]): Promise<string> {
  const { stdout } = await exec(KUBECTL, ['--kubeconfig', kubeconfig(), ...args], {
    maxBuffer: 64 * 1024 * 1024,
    timeout: 30_000,
  });
  return stdout;
}

run('kubectl logs with its options', async () => {
  assert.equal(await kubectl('logs', 'web', '-c', 'main', '--tail=3'), 'line 3\nline 4\noops\n');
  assert.equal(await kubectl('logs', 'web', '-c', 'main', '--limit-bytes=4'), 'line');
  assert.match(
    await kubectl('logs', 'web', '-c', 'main', '--timestamps', '--tail=1'),
    /^\d{4}-\d\d-\d\dT\S+ oops\n$/,
  );
  assert.equal(await kubectl('logs', 'web', '-c', 'main', '--since=1h', '--tail=1'), 'oops\n');
  await assert.rejects(
    kubectl('logs', 'web', '-c', 'main', '--previous'),
    /previous terminated container "main"/,
  );
});

run('kubectl logs --follow sees what is written, until the container ends', async () => {
  const script = 'for i in 1 2 3; do echo $i; sleep 0.2; done';
  await create('short', { restartPolicy: 'Never', containers: [sh(script)] });
  await until('short', (pod) => pod.status?.phase !== 'Pending');
  assert.equal(await kubectl('logs', '-f', 'short'), '1\n2\n3\n');
});

run('kubectl exec: output, exit code, input', async () => {
  assert.equal(await kubectl('exec', 'web', '-c', 'main', '--', 'echo', 'hi there'), 'hi there\n');
  await assert.rejects(
    kubectl('exec', 'web', '-c', 'main', '--', 'sh', '-c', 'echo bad >&2; exit 7'),
    (error: Error & { code: number; stderr: string }) =>
      error.code === 7 && /bad/.test(error.stderr),
  );
  const data = randomBytes(3 * 1024 * 1024).toString('base64');
  const child = spawn(KUBECTL, [
    '--kubeconfig',
    kubeconfig(),
    'exec',
    '-i',
    'web',
    '-c',
    'main',
    '--',
    'cat',
  ]);
  const chunks: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
  child.stdin.end(data);
  await new Promise((resolve) => child.once('close', resolve));
  assert.equal(Buffer.concat(chunks).toString(), data);
});

run('kubectl attach, cp and port-forward', async () => {
  const attach = spawn(KUBECTL, [
    '--kubeconfig',
    kubeconfig(),
    'attach',
    '-i',
    'web',
    '-c',
    'shell',
  ]);
  let said = '';
  const heard = new Promise<void>((resolve) =>
    attach.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('forty 42')) resolve();
    }),
  );
  attach.stdin.write('echo forty $((6*7))\n');
  await heard;
  attach.kill();
  await new Promise((resolve) => attach.once('close', resolve));

  const forward = spawn(KUBECTL, ['--kubeconfig', kubeconfig(), 'port-forward', 'web', ':80']);
  const port = await new Promise<string>((resolve) =>
    forward.stdout.on('data', (chunk: Buffer) => {
      const match = /127\.0\.0\.1:(\d+)/.exec(chunk.toString());
      if (match?.[1]) resolve(match[1]);
    }),
  );
  const page = await (await fetch(`http://127.0.0.1:${port}/`)).text();
  assert.equal(page, 'page\n');
  forward.kill();
  await new Promise((resolve) => forward.once('close', resolve));
  const file = join(cluster.node.dir, 'upload');
  writeFileSync(file, randomBytes(200_000));
  await kubectl('cp', file, 'web:/tmp/upload', '-c', 'main');
  await kubectl('cp', 'web:/tmp/upload', `${file}.back`, '-c', 'main');
  assert.ok(readFileSync(file).equals(readFileSync(`${file}.back`)));
});

/** Asks the agent itself. */
function ask(path: string, tls: https.RequestOptions): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port: cluster.node.port,
      path,
      rejectUnauthorized: false,
      ...tls,
    };
    https
      .get(options, (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      })
      .on('error', reject);
  });
}

run('callers are known by certificate or token, and may do what their roles say', async () => {
  const pki = join(cluster.server.dataDir, 'pki');
  const certificate = (name: string) => ({
    cert: readFileSync(join(pki, `${name}.crt`)),
    key: readFileSync(join(pki, `${name}.key`)),
  });
  const post = async (path: string, body: object) => {
    const answer = await cluster.request('POST', path, body);
    assert.equal(answer.code, 201, answer.text);
    return answer.body as Record<string, unknown>;
  };
  const account = '/api/v1/namespaces/default/serviceaccounts';
  const tokenOf = async (name: string): Promise<https.RequestOptions> => {
    await post(account, { metadata: { name } });
    const answer = await post(`${account}/${name}/token`, { spec: {} });
    const { token } = answer['status'] as { token: string };
    return { headers: { authorization: `Bearer ${token}` } };
  };
  const [stranger, monitor] = [await tokenOf('stranger'), await tokenOf('monitor')];
  const rbac = '/apis/rbac.authorization.k8s.io/v1';
  await post(`${rbac}/clusterroles`, {
    metadata: { name: 'monitor' },
    rules: [{ verbs: ['get'], apiGroups: [''], resources: ['nodes/metrics', 'nodes/pods'] }],
  });
  await post(`${rbac}/clusterrolebindings`, {
    metadata: { name: 'monitor' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'monitor' },
    subjects: [{ kind: 'ServiceAccount', name: 'monitor', namespace: 'default' }],
  });
  const forged = { headers: { authorization: 'Bearer forged' } };
  assert.equal((await ask('/healthz', {})).status, 401);
  assert.equal((await ask('/healthz', certificate('admin'))).text, 'ok');
  assert.match((await ask('/metrics', certificate('admin'))).text, /^kubelet_running_pods 1$/m);
  assert.match(
    (await ask('/metrics/probes', certificate('admin'))).text,
    /^prober_probe_total\{probe_type="Readiness",result="successful",container="main"/m,
  );
  const running = JSON.parse((await ask('/runningpods', certificate('admin'))).text);
  assert.equal(running.items[0].metadata.name, 'web');
  const made = { ...certificate('admin'), method: 'POST' };
  assert.equal((await ask('/checkpoint/default/web/main', certificate('admin'))).status, 405);
  assert.deepEqual(await ask('/checkpoint/default/web/none', made), {
    status: 404,
    text: 'container none does not exist\n',
  });
  // Debian's containerd makes none, newer ones answer with a path.
  assert.match(
    (await ask('/checkpoint/default/web/main', made)).text,
    /^checkpointing of default\/web\/main failed \(.+\)\n$|^\{"items":\[".*\.tar"\]\}$/,
  );
  assert.match((await ask('/statusz', certificate('admin'))).text, /\nBinary version: 1\.36\./);
  assert.equal((await ask('/flagz', certificate('admin'))).status, 200);
  assert.match((await ask('/logs/', certificate('admin'))).text, /^<!doctype html>/);
  assert.equal((await ask('/logs/', monitor)).status, 403);
  assert.equal((await ask('/pods', {})).status, 401);
  assert.equal((await ask('/pods', forged)).status, 401);
  assert.equal((await ask('/metrics/resource', monitor)).status, 200);
  assert.equal((await ask('/pods', monitor)).status, 200);
  assert.equal((await ask('/stats/summary', monitor)).status, 403);
  assert.equal((await ask('/containerLogs/default/web/main', monitor)).status, 403);
  assert.equal((await ask('/pods', certificate('scheduler'))).status, 403);
  assert.equal((await ask('/pods', certificate('admin'))).status, 200);
  assert.deepEqual(await ask('/metrics/resource', stranger), {
    status: 403,
    text: 'Forbidden (user=system:serviceaccount:default:stranger, verb=get, resource=nodes, subresource(s)=[metrics])\n',
  });
});

run('usage is measured', async () => {
  const pki = join(cluster.server.dataDir, 'pki');
  const pair = (name: string) => ({
    cert: readFileSync(join(pki, `${name}.crt`)),
    key: readFileSync(join(pki, `${name}.key`)),
  });
  const admin = pair('apiserver-kubelet-client');
  const measure = async () =>
    JSON.parse((await ask('/stats/summary', admin)).text) as {
      node: { memory: { workingSetBytes: number } };
      pods: {
        podRef: { name: string };
        containers: {
          name: string;
          cpu: { usageNanoCores?: number };
          memory: { workingSetBytes: number };
        }[];
      }[];
    };
  let web: Awaited<ReturnType<typeof measure>>['pods'][number] | undefined;
  do {
    const summary = await measure();
    assert.ok(summary.node.memory.workingSetBytes > 0);
    web = summary.pods.find((p) => p.podRef.name === 'web');
    await new Promise((resolve) => setTimeout(resolve, 100));
  } while (!web?.containers.every((c) => c.cpu.usageNanoCores !== undefined));
  assert.ok(web.containers.every((c) => c.memory.workingSetBytes > 0));
  const { text } = await ask('/metrics/resource', admin);
  assert.match(
    text,
    /^container_memory_working_set_bytes\{container="main",namespace="default",pod="web"\} \d+$/m,
  );
  const series = (await ask('/metrics/cadvisor', admin)).text;
  assert.match(series, /^container_cpu_usage_seconds_total\{container="main",.*pod="web",.*\} \d/m);
  assert.match(
    series,
    /^container_network_receive_bytes_total\{interface="eth0",namespace="default",pod="web",.*\} [1-9]/m,
  );
  type Details = { network?: { name: string; rxBytes: number }; 'ephemeral-storage'?: object };
  let details: Details | undefined;
  do {
    const { text: summary } = await ask('/stats/summary', admin);
    const { pods } = JSON.parse(summary) as { pods: (Details & { podRef: { name: string } })[] };
    details = pods.find((p) => p.podRef.name === 'web');
  } while (!details?.['ephemeral-storage']);
  assert.equal(details.network?.name, 'eth0');
  assert.ok(details.network.rxBytes > 0);
  assert.match(await kubectl('top', 'pod', 'web'), /web\s+\d+m\s+\d+Mi/);
});

run('kubectl debug joins a running container', async () => {
  const args = ['debug', 'web', `--image=${TEST_IMAGE}`, '--target=main', '-c', 'dbg', '--'];
  await kubectl(...args, 'sh', '-c', 'ps | grep -c "[h]ttpd -p 80"; sleep 100');
  const { status } = await until('web', (pod) => {
    const state = pod.status?.ephemeralContainerStatuses?.[0]?.state;
    return Boolean(state?.running ?? state?.terminated);
  });
  const [own] = status?.ephemeralContainerStatuses ?? [];
  assert.ok(own?.state?.running, JSON.stringify(own));
  // Its shell, and the server that it started.
  assert.equal(await kubectl('logs', 'web', '-c', 'dbg', '--follow', '--limit-bytes=2'), '2\n');
});
