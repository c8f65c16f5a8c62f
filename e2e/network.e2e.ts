import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { cannotRun, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { shellManifest, webManifest } from '#e2e/workloads.ts';

const skip = cannotRun() ?? false;

/** Services and cluster DNS, seen from inside a pod and from the node. */
describe('Services and DNS on a real cluster', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const shell = (script: string, pod = 'shell') =>
    cluster.kubectl(`exec ${pod} -- sh -c '${script}'`, { mayFail: true, timeoutMs: 30_000 });
  const webPods = async (): Promise<{ name: string; ip: string }[]> => {
    const { items } = JSON.parse(await kubectl('get pods -l app=web -o json'));
    return items.map((pod: { metadata: { name: string }; status: { podIP: string } }) => ({
      name: pod.metadata.name,
      ip: pod.status.podIP,
    }));
  };

  before(async () => {
    cluster = await layOutCluster();
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    await kubectl('apply -f -', webManifest({ name: 'web' }));
    await kubectl('apply -f -', shellManifest('shell'));
    await kubectl('rollout status deployment/web --timeout=60s');
    await kubectl('wait --for=condition=Ready pod/shell --timeout=60s');
  });
  after(async () => {
    await cluster.destroy();
  });

  test('a Service is reached by its name, and spreads over its pods', async () => {
    const answers = new Set<string>();
    await eventually('both pods answered', async () => {
      answers.add(await shell('timeout 5 wget -qO- http://web/'));
      const pods = await webPods();
      return pods.every(({ name }) => [...answers].some((answer) => answer.startsWith(name)));
    });
    for (const name of ['web.default', 'web.default.svc', 'web.default.svc.cluster.local']) {
      assert.match(await shell(`timeout 5 wget -qO- http://${name}/`), /^web-/);
    }
  });

  test('a pod reaches itself through its own Service', async () => {
    for (const { name } of await webPods()) {
      const answers = new Set<string>();
      await eventually(`hairpin to ${name}`, async () => {
        answers.add(await shell('timeout 5 wget -qO- http://web/', name));
        return [...answers].some((answer) => answer.startsWith(name));
      });
    }
  });

  test('session affinity keeps a client on one pod', async () => {
    await kubectl(
      'apply -f -',
      webManifest({ name: 'web', spec: 'sessionAffinity: ClientIP' }).split('---')[1] ?? '',
    );
    await eventually('twenty answers from one pod', async () => {
      const answers = await shell('for i in $(seq 20); do timeout 5 wget -qO- http://web/; done');
      const lines = answers.trim().split('\n');
      return lines.length === 20 && new Set(lines).size === 1;
    });
  });

  test('a headless Service answers with its pods', async () => {
    await kubectl(
      'apply -f -',
      `
apiVersion: v1
kind: Service
metadata: { name: each }
spec: { clusterIP: None, selector: { app: web }, ports: [{ name: http, port: 8080 }] }
`,
    );
    const ips = (await webPods()).map(({ ip }) => ip).sort();
    await eventually('the addresses of all pods', async () => {
      const answer = await shell('nslookup each.default.svc.cluster.local');
      return ips.every((ip) => answer.includes(ip));
    });
  });

  test('a Service without endpoints refuses at once', async () => {
    await kubectl('create service clusterip nobody --tcp=80:80');
    const started = Date.now();
    await eventually('refused', async () =>
      /refused|unreachable/i.test(await shell('timeout 5 wget -qO- http://nobody/ 2>&1')),
    );
    assert.ok(Date.now() - started < 20_000);
  });

  test('an ExternalName Service is an alias', async () => {
    await kubectl(
      'create service externalname alias --external-name web.default.svc.cluster.local',
    );
    const [first] = await webPods();
    const ip = await kubectl("get service web -o jsonpath='{.spec.clusterIP}'");
    assert.ok(first);
    await eventually('the alias leads to the ClusterIP', async () =>
      (await shell('nslookup alias.default.svc.cluster.local')).includes(ip),
    );
  });

  test('pods reach the API server with their own token', async () => {
    const answer = await shell(
      'cd /var/run/secrets/kubernetes.io/serviceaccount && ls && cat namespace && ' +
        'echo && nc -w 2 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo open',
    );
    assert.match(answer, /ca\.crt\nnamespace\ntoken\ndefault\nopen/);
  });
});
