import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { runLoad } from '#manifests/demo/load.ts';
import { cannotRun, layOutCluster, machineTraces, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';

const skip = cannotRun() ?? false;
const demoDir = join(import.meta.dirname, '..', 'manifests', 'demo');

/** The demo's manifests; any free NodePort instead of the published one, which may be in use here. */
function demoManifests(): string {
  const files = readdirSync(demoDir).filter((name) => name.endsWith('.yaml'));
  const texts = files
    .sort((a, b) => Number(b === 'namespace.yaml') - Number(a === 'namespace.yaml'))
    .map((name) => readFileSync(join(demoDir, name), 'utf8'));
  return texts.join('\n---\n').replace(/^\s*nodePort: \d+\n/gm, '');
}

/** The shop, from the first apply to the last trace, driven by real kubectl. */
describe('the demo on a real cluster', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  let url = '';
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const rolledOut = (name: string) =>
    kubectl(`-n demo rollout status deployment/${name} --timeout=90s`);

  before(async () => {
    cluster = await layOutCluster();
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
  });
  after(async () => {
    await cluster.destroy();
    assert.deepEqual(machineTraces(cluster.dataDir), [], 'nothing stays mounted');
  });

  test('all services come up and call each other by name', async () => {
    await kubectl('apply -f -', demoManifests());
    for (const name of ['catalog', 'pricing', 'orders', 'web']) await rolledOut(name);
    const port = await kubectl("-n demo get service web -o jsonpath='{.spec.ports[0].nodePort}'");
    url = `http://127.0.0.1:${port}`;
    const page = await eventually('the page', async () => (await fetch(url)).text());
    assert.match(page, /<title>Gantry shop<\/title>/);
    const price = (await (await fetch(`${url}/api/price?id=tea&quantity=3`)).json()) as {
      product: { name: string };
      pods: Record<string, string>;
    };
    assert.equal(price.product.name, 'Green tea');
    assert.deepEqual(Object.keys(price.pods).sort(), ['catalog', 'pricing', 'web']);
  });

  test('a rolling update under load loses no request', async () => {
    const done = new AbortController();
    const load = runLoad({
      url,
      concurrency: 4,
      seconds: 60,
      signal: done.signal,
      onTick: () => {},
    });
    await kubectl('-n demo set image deployment/web web=gantry.internal/demo/web:1.1');
    await rolledOut('web');
    done.abort();
    const { requests, errors } = await load;
    assert.ok(requests > 10, `${requests} requests`);
    assert.equal(errors, 0);
    const health = (await (await fetch(`${url}/healthz`)).json()) as { version: string };
    assert.equal(health.version, '1.1');
  });

  test('the autoscaler follows the load', async () => {
    const done = new AbortController();
    const load = runLoad({
      url,
      concurrency: 12,
      seconds: 110,
      signal: done.signal,
      onTick: () => {},
    });
    try {
      await eventually(
        'more pricing pods',
        async () =>
          Number(await kubectl("-n demo get hpa pricing -o jsonpath='{.status.desiredReplicas}'")) >
          1,
        100_000,
      );
    } finally {
      done.abort();
      await load;
    }
    await rolledOut('pricing');
  });

  test('killing the whole process leaves the shop open', async () => {
    process.kill(await cluster.pid(), 'SIGKILL');
    const answer = await fetch(`${url}/healthz`);
    assert.equal(answer.status, 200);
    const again = await cluster.up();
    assert.equal(again.code, 0, again.stdout + again.stderr);
    await rolledOut('web');
    assert.equal((await fetch(`${url}/api/shop`)).status, 200);
  });

  test('deleting the namespace leaves nothing of it', async () => {
    await kubectl('delete namespace demo --timeout=90s');
    const left = await kubectl('get pods,services,deployments,hpa -A --no-headers');
    assert.doesNotMatch(left, /^demo\s/m);
    await eventually('the NodePort is closed', async () => {
      try {
        await fetch(url, { signal: AbortSignal.timeout(1_000) });
        return false;
      } catch {
        return true;
      }
    });
  });
});
