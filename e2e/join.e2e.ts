import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { connect } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { imageArchitecture } from '#base/oci/image-store.ts';
import { copyOf } from '#base/oci/program-files.ts';
import { type TarEntry, tarStream } from '#base/oci/tar.ts';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { closeNodeSpaces, type NodeSpace, openNodeSpaces } from '#cli/node-spaces.ts';
import { defaultNodeIp } from '#cli/cluster.ts';
import {
  cannotRun,
  CLUSTER_CIDR,
  freePort,
  gantryProgram,
  layOutCluster,
  machineTraces,
  type TestCluster,
} from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { end, type Output, run } from '#e2e/processes.ts';
import { BUSYBOX, shellManifest, webManifest } from '#e2e/workloads.ts';

const skip = cannotRun() ?? false;
/** The second machine's own names: those of the wires to it, and what the joined node is given. */
const WIRES = 'gantry-e2w';
const NODE_NETWORK = '10.252.10.0/24';
const OWN_NETWORK = 'gantry-e2j';
/** Certificates of joined nodes live so long; they are replaced after 70 to 90 % of it. */
const CERTIFICATE_LIFE = '20s';

/** What `docker save` writes of an image with busybox in it. */
async function busyboxArchive(name: string): Promise<Buffer> {
  const entries: TarEntry[] = [{ ...copyOf('/usr/bin/busybox', 'bin/busybox'), mode: 0o755 }];
  for (const link of ['sh', 'sleep', 'echo'])
    entries.push({ type: 'symlink', path: `bin/${link}`, target: 'busybox' });
  const layer = Buffer.concat(await Array.fromAsync(tarStream(entries)));
  const diffId = `sha256:${createHash('sha256').update(layer).digest('hex')}`;
  const config = {
    architecture: imageArchitecture(),
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffId] },
  };
  const manifest = [{ Config: 'config.json', RepoTags: [name], Layers: ['layer.tar'] }];
  const text = (path: string, value: unknown): TarEntry => ({
    type: 'file',
    path,
    content: Buffer.from(JSON.stringify(value)),
  });
  const files: TarEntry[] = [
    text('manifest.json', manifest),
    text('config.json', config),
    { type: 'file', path: 'layer.tar', content: layer },
  ];
  return Buffer.concat(await Array.fromAsync(tarStream(files)));
}

/** A network namespace with a data directory of its own plays a second machine. */
describe('a machine joins a cluster', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  let space: NodeSpace;
  let server = '';
  let port = 0;
  const dataDir = skip ? '' : mkdtempSync('/tmp/gantry-e2e-joined-');
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const there = (...args: string[]): Promise<Output> =>
    run('nsenter', [`--net=${space.namespace}`, gantryProgram, ...args], {
      env: { GANTRY_DATA_DIR: dataDir },
    });
  const joinWith = (token: string, ...more: string[]) =>
    there(
      ...['join', '--server', server, '--token', token, '--node-name', 'joined'],
      ...['--network-name', OWN_NETWORK, '--kubelet-port', String(port), ...more],
    );
  const makeToken = async (...flags: string[]): Promise<string> => {
    const made = await cluster.gantry(['token', 'create', ...flags]);
    assert.equal(made.code, 0, made.stderr);
    return made.stdout.trim();
  };

  before(async () => {
    const flags = ['--cluster-signing-duration', CERTIFICATE_LIFE];
    cluster = await layOutCluster({ upFlags: flags });
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    const machineIp = defaultNodeIp();
    server = cluster.server.replace('127.0.0.1', machineIp);
    port = await freePort();
    const wires = { name: WIRES, network: NODE_NETWORK, machineIp, clusterCidr: CLUSTER_CIDR };
    const [opened] = await openNodeSpaces({ ...wires, numbers: [2] });
    assert.ok(opened);
    space = opened;
  });
  after(async () => {
    await there('down', '--remove-data').catch(() => {});
    await closeNodeSpaces(WIRES);
    rmSync(dataDir, { recursive: true, force: true });
    await cluster.destroy();
  });

  test('without the right token, hash or address it is told why', async () => {
    const fails = async (result: Promise<Output>, what: RegExp): Promise<void> => {
      const { code, stderr } = await result;
      assert.equal(code, 1);
      assert.match(stderr, what);
    };
    await fails(joinWith('abcdef.0123456789abcdef'), /takes no machines yet.*gantry token create/);
    const token = await makeToken();
    await fails(joinWith('nonsense'), /--token has six lower-case letters or digits/);
    await fails(joinWith('abcdef.0123456789abcdef'), /knows no token abcdef/);
    const wrong = `${token.slice(0, 7)}${'0'.repeat(16)}`;
    await fails(joinWith(wrong), /the secret of token \w{6} is not the one/);
    const hash = `sha256:${'0'.repeat(64)}`;
    await fails(joinWith(token, '--ca-cert-hash', hash), /has the hash sha256:\w+, not the/);
    await fails(joinWith(token, '--ca-cert-hash', 'md5:1'), /takes sha256: and 64 hex digits/);
    const elsewhere = [`https://${space.address}:1`, token];
    await fails(
      there('join', '--server', elsewhere[0] ?? '', '--token', token),
      /no API server answers at/,
    );
    assert.equal(existsSync(join(dataDir, 'node.json')), false);
    const names = await kubectl('get nodes -o name');
    assert.equal(names.trim(), 'node/e2e-node');
  });

  test('with a token it becomes a Ready node', async () => {
    const command = await makeToken('--print-join-command', '--description', 'for the test');
    const [, url, token, hash] =
      /^gantry join --server (\S+) --token (\S+) --ca-cert-hash (\S+)$/.exec(command) ?? [];
    assert.equal(url, server);
    const result = await joinWith(token ?? '', '--ca-cert-hash', hash ?? '');
    assert.equal(result.code, 0, result.stdout + result.stderr);
    assert.match(result.stdout, /node joined is Ready/);
    assert.match((await cluster.gantry(['token', 'list'])).stdout, /23h.*for the test/);
    const csrs = JSON.parse(await kubectl('get csr -o json')) as {
      items: { spec: { signerName: string; username: string } }[];
    };
    const asked = csrs.items.map(({ spec }) => `${spec.signerName} ${spec.username.slice(0, 16)}`);
    const signer = 'kubernetes.io/kube-apiserver-client-kubelet system:bootstrap';
    assert.ok(asked.includes(signer), asked.join());
    const again = await joinWith(token ?? '');
    assert.match(again.stdout, /Already running: node joined/);
  });

  test('its pods are reached from the other node, and through their Service', async () => {
    const pinned = webManifest({ name: 'web', replicas: 1, spec: 'type: ClusterIP' });
    const grace = 'terminationGracePeriodSeconds: 2';
    await kubectl('apply -f -', pinned.replace(grace, `${grace}\n      nodeName: joined`));
    await kubectl(
      'apply -f -',
      shellManifest('shell').replace('spec:', 'spec:\n  nodeName: e2e-node'),
    );
    await kubectl('rollout status deployment/web --timeout=60s');
    await kubectl('wait --for=condition=Ready pod/shell --timeout=60s');
    const ip = await kubectl("get pod -l app=web -o jsonpath='{.items[0].status.podIP}'");
    for (const url of [`http://${ip}:8080/`, 'http://web/']) {
      const answer = await kubectl(`exec shell -- timeout 5 wget -qO- ${url}`);
      assert.match(answer, /^web-/, url);
    }
    await eventually('logs by way of its signed serving certificate', async () => {
      await kubectl('logs deployment/web');
      return true;
    });
  });

  test('it gets images from the other node: its layers, and what was imported there', async () => {
    // Nobody but the first machine has the images of this test: no registry is in reach.
    const pulled = await kubectl('get events --field-selector reason=Pulled -o json');
    const said = (
      JSON.parse(pulled) as { items: { message: string; source: { host: string } }[] }
    ).items
      .filter(({ source }) => source.host === 'joined')
      .map(({ message }) => message);
    assert.match(said.join(), /Successfully pulled image "gantry.internal\/busybox:1" in/);
    const archive = join(cluster.dataDir, 'imported.tar.gz');
    writeFileSync(archive, gzipSync(await busyboxArchive('imported:1')));
    const imported = await cluster.gantry(['image', 'import', archive]);
    assert.equal(imported.code, 0, imported.stderr);
    assert.match(imported.stdout, /^docker.io\/library\/imported:1 sha256:/);
    const shell = shellManifest('imported').replace(BUSYBOX, 'imported:1');
    await kubectl('apply -f -', shell.replace('spec:', 'spec:\n  nodeName: joined'));
    await kubectl('wait --for=condition=Ready pod/imported --timeout=60s');
    const list = await cluster.gantry(['image', 'list']);
    assert.match(list.stdout, /docker.io\/library\/imported:1 .*store/);
    const removed = await cluster.gantry(['image', 'rm', 'imported:1']);
    assert.match(removed.stdout, /Removed docker.io\/library\/imported:1/);
    await kubectl('delete pod imported');
    const strange = await run('curl', ['-sk', `https://${space.address}:${port}/images/v2/`]);
    assert.match(strange.stdout, /Unauthorized/, 'only nodes get images');
  });

  test('its certificates are replaced before they expire, and what is open stays open', async () => {
    const clientSerial = (): string => {
      const pem = readFileSync(join(dataDir, 'pki', 'kubelet-client-current.pem'), 'utf8');
      return new X509Certificate(pem).serialNumber;
    };
    const servingSerial = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const where = { host: space.address, port, rejectUnauthorized: false };
        const socket = connect(where, () => {
          resolve(socket.getPeerX509Certificate()?.serialNumber ?? '');
          socket.destroy();
        });
        socket.once('error', reject);
      });
    const agentPid = (): unknown =>
      JSON.parse(readFileSync(join(dataDir, 'run', 'node-joined.json'), 'utf8'));
    const before = { client: clientSerial(), serving: await servingSerial(), pid: agentPid() };
    const script = 'while true; do date +%s; sleep 1; done';
    const stream = spawn('kubectl', [
      ...['--kubeconfig', cluster.kubeconfig, 'exec', 'deployment/web', '--', 'sh', '-c', script],
    ]);
    let lines = 0;
    stream.stdout.on('data', () => lines++);
    try {
      // Two lives: whoever held on to the first certificate would be refused by now.
      for (const round of [1, 2]) {
        const last = { client: clientSerial(), serving: await servingSerial() };
        await eventually(`new certificates, round ${round}`, async () => {
          return clientSerial() !== last.client && (await servingSerial()) !== last.serving;
        });
      }
      assert.notEqual(clientSerial(), before.client);
      assert.deepEqual(agentPid(), before.pid, 'the same process');
      const seen = lines;
      await eventually('the stream goes on', async () => lines > seen);
      assert.equal(stream.exitCode, null);
    } finally {
      await end(stream, 'SIGKILL');
    }
    await kubectl('wait --for=condition=Ready node/joined --timeout=5s');
    await kubectl('logs deployment/web');
    const log = readFileSync(join(dataDir, 'log', 'node-joined.log'), 'utf8');
    assert.doesNotMatch(log, /Unauthorized|"error"/);
  });

  test('stopped it starts again without a token, and reset leaves nothing', async () => {
    const uid = await kubectl("get pod -l app=web -o jsonpath='{.items[0].metadata.uid}'");
    const refused = await there('up', '--kubelet-port', String(port));
    assert.match(refused.stderr, /is of node joined, which has joined/);
    const down = await there('down');
    assert.equal(down.code, 0, down.stderr);
    const started = await there('join');
    assert.equal(started.code, 0, started.stdout + started.stderr);
    const now = await kubectl("get pod -l app=web -o jsonpath='{.items[0].metadata.uid}'");
    assert.equal(now, uid);
    await kubectl('wait --for=condition=Ready pod -l app=web --timeout=60s');

    const reset = await there('reset');
    assert.equal(reset.code, 0, reset.stderr);
    assert.match(reset.stdout, /kubectl delete node joined/);
    assert.equal(existsSync(dataDir), false);
    const inside = (program: string, ...args: string[]): string =>
      execFileSync('nsenter', [`--net=${space.namespace}`, program, ...args], { encoding: 'utf8' });
    assert.doesNotMatch(inside('ip', 'link'), new RegExp(OWN_NETWORK));
    assert.doesNotMatch(inside('ip', 'route'), /10\.245\./);
    assert.equal(inside('nft', 'list', 'tables').trim(), '');
    const processes = execFileSync('ps', ['-eo', 'pid,args'], { encoding: 'utf8' });
    assert.doesNotMatch(processes, new RegExp(dataDir));
    assert.deepEqual(machineTraces(dataDir), []);
  });
});
