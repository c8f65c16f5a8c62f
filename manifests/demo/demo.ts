import { spawn } from 'node:child_process';
import { get } from 'node:http';
import { join } from 'node:path';
import { buildDemoImages } from './build-images.ts';

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

const startedAt = performance.now();

function say(text: string): void {
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1).padStart(5);
  console.log(`${seconds}s  ${text}`);
}

/** Runs `gantry` with what it prints shown; throws when it fails. */
function gantry(...args: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(join(root, 'gantry'), args, { stdio: 'inherit' });
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0
        ? resolve()
        : reject(new Error(`gantry ${args.join(' ')} failed (exit code ${code})`)),
    );
  });
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
  await gantry('apply', '--force', '-f', join(import.meta.dirname, 'namespace.yaml'));
  await gantry('apply', '--force', '-f', import.meta.dirname);
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
