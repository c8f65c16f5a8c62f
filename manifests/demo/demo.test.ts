import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseAllDocuments } from 'yaml';
import { openImageStore } from '#base/oci/image-store.ts';
import { buildDemoImages } from './build-images.ts';
import { inMicrovm } from './microvm.ts';
import { type LoadTick, runLoad, tickLine } from './load.ts';

const here = import.meta.dirname;
const dir = mkdtempSync(join(tmpdir(), 'gantry-demo-'));
const children: ChildProcess[] = [];

after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dir, { recursive: true, force: true });
});

type Manifest = {
  kind: string;
  metadata: { name: string; namespace?: string };
  data?: Record<string, string>;
  spec?: { template?: { spec: { containers: { image: string }[] } } };
};

const manifests = readdirSync(here)
  .filter((name) => name.endsWith('.yaml'))
  .flatMap((name) => parseAllDocuments(readFileSync(join(here, name), 'utf8')))
  .map((document) => {
    assert.deepEqual(document.errors, []);
    return document.toJS() as Manifest;
  });

test('every image that the manifests name is built, on one shared runtime layer', async () => {
  const names = await buildDemoImages(join(dir, 'images'));
  const wanted = manifests.flatMap(
    ({ spec }) => spec?.template?.spec.containers.map(({ image }) => image) ?? [],
  );
  assert.equal(wanted.length, 4);
  for (const image of wanted) assert.ok(names.includes(image), image);
  const store = openImageStore(join(dir, 'images'));
  const layers = wanted.map((image) => {
    const file = store.blobFile(store.resolve(image)?.digest ?? '');
    const { layers } = JSON.parse(readFileSync(file ?? '', 'utf8')) as { layers: object[] };
    return layers.map((layer) => JSON.stringify(layer));
  });
  assert.equal(new Set(layers.flat()).size, 2);
});

test('all objects live in the namespace of the demo', () => {
  for (const { kind, metadata } of manifests)
    assert.equal(metadata.namespace, kind === 'Namespace' ? undefined : 'demo', metadata.name);
});

test('any of its workloads moves into a microVM by one line', () => {
  for (const name of ['catalog', 'pricing', 'orders', 'web']) {
    const text = readFileSync(join(here, `${name}.yaml`), 'utf8');
    const read = (from: string) => parseAllDocuments(from).map((document) => document.toJS());
    const moved = read(inMicrovm(text));
    const deployment = moved.find(({ kind }) => kind === 'Deployment');
    assert.equal(deployment.spec.template.spec.runtimeClassName, 'microvm');
    delete deployment.spec.template.spec.runtimeClassName;
    assert.deepEqual(moved, read(text), 'and nothing else changes');
  }
});

const urls: Record<string, string> = {};

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as { port: number };
  await new Promise((closed) => server.close(closed));
  return port;
}

async function startService(name: string, env: Record<string, string>): Promise<ChildProcess> {
  const port = await freePort();
  const child = spawn(process.execPath, ['--no-warnings', join(here, `services/${name}.ts`)], {
    env: { PORT: `${port}`, POD_NAME: `${name}-pod`, APP_VERSION: 'test', ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.push(child);
  await new Promise<void>((resolve, reject) => {
    child.stdout?.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`${name} ended with ${code}`)));
  });
  urls[name] = `http://127.0.0.1:${port}`;
  return child;
}

before(async () => {
  const products = manifests.find(
    ({ kind, metadata }) => kind + metadata.name === 'ConfigMapcatalog',
  );
  writeFileSync(join(dir, 'products.json'), products?.data?.['products.json'] ?? '');
  await Promise.all([
    startService('catalog', { PRODUCTS_FILE: join(dir, 'products.json') }),
    startService('pricing', { WORK_ROUNDS: '10' }),
    startService('orders', { RECEIPT_KEY: 'k' }),
  ]);
  const { catalog = '', pricing = '', orders = '' } = urls;
  await startService('web', { CATALOG_URL: catalog, PRICING_URL: pricing, ORDERS_URL: orders });
});

test('the services work together', async () => {
  const page = await fetch(`${urls.web}/`);
  assert.match(page.headers.get('content-type') ?? '', /^text\/html/);
  assert.match(await page.text(), /Gantry shop/);
  const body = JSON.stringify({ id: 'tea', quantity: 2 });
  const placed = await fetch(`${urls.web}/api/order`, { method: 'POST', body });
  const { order, pods } = (await placed.json()) as { order: { receipt: string }; pods: object };
  assert.match(order.receipt, /^[0-9a-f]{64}$/);
  assert.deepEqual(pods, {
    web: 'web-pod',
    catalog: 'catalog-pod',
    pricing: 'pricing-pod',
    orders: 'orders-pod',
  });
  const shop = (await (await fetch(`${urls.web}/api/shop`)).json()) as {
    version: string;
    products: object[];
    orders: object[];
  };
  assert.deepEqual([shop.version, shop.products.length, shop.orders.length], ['test', 5, 1]);
});

test('what is wrong is refused with a reason', async () => {
  const cases: [string, string | undefined, number, RegExp][] = [
    ['/nowhere', undefined, 404, /there is no GET \/nowhere/],
    ['/api/price?id=none', undefined, 502, /there is no product/],
    ['/api/order', '{', 400, /no JSON/],
    ['/api/order', '{}', 400, /needs the id/],
    ['/api/order', `"${'x'.repeat(70_000)}"`, 413, /too large/],
  ];
  for (const [path, body, status, message] of cases) {
    const init = body === undefined ? {} : { method: 'POST', body };
    const response = await fetch(urls.web + path, init);
    const { error } = (await response.json()) as { error: string };
    assert.equal(response.status, status, path);
    assert.match(error, message);
  }
});

test('the load program measures, within its bounds and on this machine only', async () => {
  const ticks: LoadTick[] = [];
  const url = urls.web ?? '';
  const onTick = (tick: LoadTick): void => void ticks.push(tick);
  const total = await runLoad({ url, concurrency: 4, seconds: 1, onTick });
  assert.ok(total.requests > 10);
  assert.equal(total.errors, 0);
  // On a busy machine the last tick may have seen no answer.
  assert.deepEqual([...new Set(ticks.flatMap(({ pods }) => pods))], ['pricing-pod']);
  assert.match(tickLine(ticks[0] as LoadTick, '1/1'), /^ +1s +\d+ +0 +\d+ +\d+ +1\/1 +1$/);
  const bounded = { url, concurrency: 1, seconds: 1, onTick };
  await assert.rejects(runLoad({ ...bounded, concurrency: 65 }), /concurrency must be 1 to 64/);
  await assert.rejects(runLoad({ ...bounded, seconds: 601 }), /seconds must be 1 to 600/);
  await assert.rejects(runLoad({ ...bounded, url: 'http://192.0.2.1/' }), /is not this machine/);
});

test('a service asked to stop answers a moment longer, then ends with 0', async () => {
  const child = await startService('orders', { RECEIPT_KEY: 'k', DRAIN_MS: '200' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.stdout?.resume();
  child.kill('SIGTERM');
  assert.equal((await fetch(`${urls.orders}/orders`)).status, 200);
  assert.equal(await ended, 0);
});
