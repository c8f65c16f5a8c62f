import { execFile, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { get } from 'node:http';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildDemoImages } from './build-images.ts';
import { inMicrovm } from './microvm.ts';

/**
 * `make demo`: builds the shop's images from what is on this machine, brings a cluster up, applies
 * the manifests beside this file, waits until all of it runs, and calls it as a customer would.
 */

const root = join(import.meta.dirname, '..', '..');
const WORKLOADS = ['catalog', 'pricing', 'orders', 'web'] as const;
const PORT = 30080;
const ROLLOUT_SECONDS = 120;
const ANSWER_MS = 20_000;
const RETRY_MS = 100;
/** The first start on a machine builds a guest and tries KVM. */
const MICROVM_MS = 30_000;
const IN_MICROVM = 'catalog.yaml';
const run = promisify(execFile);

const startedAt = performance.now();

function say(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  console.log(`${seconds}s  ${text}`);
}

/** Runs `gantry` with what it prints shown; throws when it fails. */
const gantry = (...args: string[]): Promise<void> => gantryWith(undefined, ...args);

function gantryWith(input: string | undefined, ...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const stdin = input === undefined ? 'inherit' : 'pipe';
    const child = spawn(join(root, 'gantry'), args, { stdio: [stdin, 'inherit', 'inherit'] });
    child.stdin?.end(input);
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0
        ? resolve()
        : reject(new Error(`gantry ${args.join(' ')} failed (exit code ${code})`)),
    );
  });
}

type Condition = { type: string; status: string; reason?: string; message?: string };

/** Whether the node runs microVMs, once it knows: the first start on a machine finds it out. */
async function microvms(): Promise<Condition | undefined> {
  const deadline = Date.now() + MICROVM_MS;
  for (;;) {
    const { stdout } = await run(join(root, 'gantry'), ['get', 'nodes', '-o', 'json']);
    const { items } = JSON.parse(stdout) as { items: { status: { conditions: Condition[] } }[] };
    const found = items[0]?.status.conditions.find(({ type }) => type === 'MicroVMReady');
    if (found && found.reason !== 'Starting') return found;
    if (Date.now() > deadline) return found;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}

/** Everything but the catalog first: meanwhile the node finds out whether it can run microVMs. */
async function applyShop(): Promise<void> {
  const here = import.meta.dirname;
  const files = readdirSync(here).filter((name) => name.endsWith('.yaml'));
  await gantry('apply', '--force', '-f', join(here, 'namespace.yaml'));
  for (const name of files)
    if (name !== 'namespace.yaml' && name !== IN_MICROVM)
      await gantry('apply', '--force', '-f', join(here, name));
  const found = await microvms();
  const manifest = readFileSync(join(here, IN_MICROVM), 'utf8');
  const ready = found?.status === 'True';
  say(
    ready ? `the catalog runs in a microVM: ${found.message}` : 'no microVMs here: containers only',
  );
  await gantryWith(ready ? inMicrovm(manifest) : manifest, 'apply', '--force', '-f', '-');
}

function fetchText(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: 5_000 }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${url} answered ${response.statusCode}: ${text}`));
      });
    });
    request.once('timeout', () => request.destroy(new Error(`${url} does not answer`)));
    request.once('error', reject);
  });
}

/** The first good answer; rules for the NodePort may be a moment behind the readiness of the pods. */
async function firstAnswer(url: string): Promise<string> {
  const deadline = Date.now() + ANSWER_MS;
  for (;;) {
    try {
      return await fetchText(url);
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

async function main(): Promise<void> {
  const dataDir = process.env['GANTRY_DATA_DIR'] ?? '/var/lib/gantry';
  say('building the images of the shop (the first time takes some seconds)');
  const images = await buildDemoImages(join(dataDir, 'images'));
  say(`${images.length} images are ready; starting the cluster`);
  await gantry('up');
  say('applying manifests/demo');
  await applyShop();
  for (const name of WORKLOADS) {
    const timeout = String(ROLLOUT_SECONDS);
    await gantry('rollout', 'status', `deployment/${name}`, '-n', 'demo', '--timeout', timeout);
  }
  const url = `http://127.0.0.1:${PORT}`;
  const page = await firstAnswer(`${url}/`);
  const price = await firstAnswer(`${url}/api/price?id=tea&quantity=3`);
  say(
    `the shop answers: ${/<title>(.*?)<\/title>/.exec(page)?.[1] ?? 'a page'}; three teas: ${price.trim()}`,
  );
  console.log();
  await gantry('get', 'pods', '-n', 'demo', '-o', 'wide');
  console.log(`
  The shop:    ${url}
  kubectl:     export KUBECONFIG=${join(dataDir, 'admin.kubeconfig')}
  Under load:  make demo-load    (watch: kubectl get hpa -n demo -w)
  Stop:        make down
`);
}

try {
  await main();
} catch (error) {
  console.error(`demo: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
