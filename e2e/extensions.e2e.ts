import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createCa, issueCertificate } from '#base/x509.ts';
import { buildDemoImages } from '#manifests/demo/build-images.ts';
import { cannotRun, layOutCluster, type TestCluster } from '#e2e/cluster.ts';
import { eventually } from '#base/testing.ts';
import { webManifest } from '#e2e/workloads.ts';

const skip = cannotRun() ?? false;
const NAME = 'extension';
const HOST = `${NAME}.default.svc`;

/** What runs in the pod: webhooks, a converter and a metrics adapter, on one port. */
const EXTENSION = `
const https = require('node:https');
const { readFileSync } = require('node:fs');
const review = (body, response) => {
  const { apiVersion, kind, request } = JSON.parse(body);
  return { apiVersion, kind, response: { uid: request.uid, ...response(request) } };
};
const convert = ({ objects, desiredAPIVersion }) => ({
  result: { status: 'Success' },
  convertedObjects: objects.map(({ hostPort, host, port, ...rest }) => {
    const [h, p] = hostPort ? hostPort.split(':') : [host, port];
    const fields = desiredAPIVersion.endsWith('/v1') ? { hostPort: h + ':' + p } : { host: h, port: p };
    return { ...rest, ...fields, apiVersion: desiredAPIVersion };
  }),
});
const external = '/apis/external.metrics.k8s.io/v1beta1';
const answer = async (path, body) => {
  if (path.startsWith('/deny')) return review(body, () => ({ allowed: false, status: { message: 'not today' } }));
  if (path.startsWith('/slow')) await new Promise((resolve) => setTimeout(resolve, 3000));
  if (path.startsWith('/slow')) return review(body, () => ({ allowed: true }));
  if (path.startsWith('/convert')) return review(body, convert);
  if (path === external) return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: 'external.metrics.k8s.io/v1beta1', resources: [] };
  if (path.startsWith(external)) return { kind: 'ExternalMetricValueList', apiVersion: 'external.metrics.k8s.io/v1beta1', metadata: {}, items: [{ metricName: 'queue', timestamp: new Date().toISOString(), value: '40' }] };
};
https.createServer({ cert: readFileSync('/tls/tls.crt'), key: readFileSync('/tls/tls.key') }, async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const found = await answer(request.url.split('?')[0], body);
  response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
  response.end(JSON.stringify(found ?? {}));
}).listen(8443);
`;

/** What extends the API server runs in pods of the same cluster, reached through a Service. */
describe('extensions in pods of the cluster', { skip, concurrency: false }, () => {
  let cluster: TestCluster;
  let caBundle: string;
  const kubectl = (args: string, input?: string) =>
    cluster.kubectl(args, input === undefined ? {} : { input });
  const apply = (manifest: object) => kubectl('apply -f -', JSON.stringify(manifest));
  const service = (path: string) => ({ namespace: 'default', name: NAME, path, port: 443 });

  before(async () => {
    cluster = await layOutCluster();
    await buildDemoImages(join(cluster.dataDir, 'images'));
    const result = await cluster.up();
    assert.equal(result.code, 0, result.stdout + result.stderr);
    const now = Date.now();
    const validity = { notBeforeMs: now - 60_000, notAfterMs: now + 3_600_000 };
    const ca = await createCa({ commonName: 'e2e', validity });
    const pair = { commonName: HOST, hosts: [HOST], usages: ['server'] as const, validity };
    const { certPem, keyPem } = await issueCertificate(ca, pair);
    caBundle = Buffer.from(ca.certPem).toString('base64');
    const secret = { 'tls.crt': certPem, 'tls.key': keyPem };
    await apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: NAME },
      type: 'kubernetes.io/tls',
      stringData: secret,
    });
    await apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: NAME, labels: { app: NAME } },
      spec: {
        terminationGracePeriodSeconds: 1,
        containers: [
          {
            name: 'c',
            image: 'gantry.internal/node:26',
            args: ['-e', EXTENSION],
            readinessProbe: { tcpSocket: { port: 8443 }, periodSeconds: 1 },
            volumeMounts: [{ name: 'tls', mountPath: '/tls' }],
          },
        ],
        volumes: [{ name: 'tls', secret: { secretName: NAME } }],
      },
    });
    const ports = [{ port: 443, targetPort: 8443 }];
    await apply({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: NAME },
      spec: { selector: { app: NAME }, ports },
    });
    await kubectl(`wait --for=condition=Ready pod/${NAME} --timeout=60s`);
  });
  after(async () => {
    await cluster.destroy();
  });

  test('webhooks deny, and a slow one fails by its deadline', async () => {
    const hook = (path: string, more: object) =>
      apply({
        apiVersion: 'admissionregistration.k8s.io/v1',
        kind: 'ValidatingWebhookConfiguration',
        metadata: { name: 'hook' },
        webhooks: [
          {
            name: 'hook.example.com',
            clientConfig: { service: service(path), caBundle },
            rules: [
              {
                operations: ['CREATE'],
                apiGroups: [''],
                apiVersions: ['v1'],
                resources: ['configmaps'],
              },
            ],
            sideEffects: 'None',
            admissionReviewVersions: ['v1'],
            matchConditions: [
              { name: 'c', expression: "object.metadata.name.startsWith('hooked')" },
            ],
            ...more,
          },
        ],
      });
    const create = (name: string) =>
      cluster.kubectl(`create configmap ${name} --dry-run=server -o name`, { mayFail: true });
    await hook('/deny', {});
    await eventually('denied', async () =>
      /"hook.example.com" denied the request: not today/.test(await create('hooked')),
    );
    assert.match(await create('other'), /configmap\/other/);
    await hook('/slow', { timeoutSeconds: 1 });
    await eventually('too slow', async () => /webhook.*deadline/s.test(await create('hooked')));
    await hook('/slow', { timeoutSeconds: 1, failurePolicy: 'Ignore' });
    await eventually('ignored', async () => /configmap\/hooked/.test(await create('hooked')));
    await kubectl('delete validatingwebhookconfiguration hook');
  });

  test('a custom kind is converted, listed and selected in each of its versions', async () => {
    const version = (name: string, storage: boolean, fields: readonly string[]) => ({
      name,
      storage,
      served: true,
      selectableFields: fields.map((field) => ({ jsonPath: `.${field}` })),
      schema: {
        openAPIV3Schema: {
          type: 'object',
          properties: Object.fromEntries(fields.map((field) => [field, { type: 'string' }])),
        },
      },
    });
    await apply({
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'doors.example.com' },
      spec: {
        group: 'example.com',
        scope: 'Namespaced',
        names: { plural: 'doors', singular: 'door', kind: 'Door' },
        versions: [version('v1', true, ['hostPort']), version('v2', false, ['host', 'port'])],
        conversion: {
          strategy: 'Webhook',
          webhook: {
            clientConfig: { service: service('/convert'), caBundle },
            conversionReviewVersions: ['v1'],
          },
        },
      },
    });
    await kubectl('wait --for=condition=Established crd/doors.example.com --timeout=30s');
    const door = (v: string, name: string, fields: object) =>
      apply({ apiVersion: `example.com/${v}`, kind: 'Door', metadata: { name }, ...fields });
    await door('v1', 'a', { hostPort: 'one:80' });
    await door('v2', 'b', { host: 'two', port: '80' });
    const names = (v: string, selector: string) =>
      kubectl(`get doors.${v}.example.com --field-selector ${selector} -o name`);
    assert.equal(await names('v2', 'host=one'), 'door.example.com/a\n');
    assert.equal(await names('v1', 'hostPort=two:80'), 'door.example.com/b\n');
    const listed = await kubectl("get doors.v2.example.com -o jsonpath='{.items[*].host}'");
    assert.equal(listed, 'one two');
    assert.match(await kubectl('explain door.metadata'), /Standard object's metadata/);
  });

  test('an autoscaler follows a metric from outside, served behind an APIService', async () => {
    await kubectl('apply -f -', webManifest({ name: 'web', replicas: 1 }));
    const group = 'external.metrics.k8s.io';
    const { path: _, ...reference } = service('/');
    await apply({
      apiVersion: 'apiregistration.k8s.io/v1',
      kind: 'APIService',
      metadata: { name: `v1beta1.${group}` },
      spec: {
        group,
        version: 'v1beta1',
        service: reference,
        caBundle,
        groupPriorityMinimum: 100,
        versionPriority: 100,
      },
    });
    await kubectl(`wait --for=condition=Available apiservice/v1beta1.${group} --timeout=30s`);
    const target = { type: 'AverageValue', averageValue: '10' };
    await apply({
      apiVersion: 'autoscaling/v2',
      kind: 'HorizontalPodAutoscaler',
      metadata: { name: 'web' },
      spec: {
        scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
        maxReplicas: 8,
        metrics: [{ type: 'External', external: { metric: { name: 'queue' }, target } }],
      },
    });
    await eventually('four replicas', async () => {
      const replicas = await kubectl("get deployment web -o jsonpath='{.spec.replicas}'");
      return replicas === '4';
    });
    assert.match(await kubectl('describe hpa web'), /ValidMetricFound/);
  });

  test('a page behind the proxy links by the proxy', async () => {
    await kubectl('rollout status deployment/web --timeout=60s');
    const name = (
      await kubectl("get pods -l app=web -o jsonpath='{.items[0].metadata.name}'")
    ).trim();
    const script = 'echo "<a href=/next>next</a>" > /tmp/www/page.html';
    await kubectl(`exec ${name} -- sh -c '${script}'`);
    const path = `/api/v1/namespaces/default/pods/http:${name}:8080/proxy`;
    assert.equal(await kubectl(`get --raw ${path}/page.html`), `<a href=${path}/next>next</a>\n`);
  });
});
