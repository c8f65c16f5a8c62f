import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Container, Pod, Service } from '#api/types.ts';
import { ConfigError } from '#node-agent/config-error.ts';
import { type EnvSources, envVars, expand } from '#node-agent/containers/env-vars.ts';

const pod: Pod = {
  metadata: { name: 'p', namespace: 'ns', uid: 'u', labels: { b: 'two "2"', a: '1' } },
  spec: { containers: [{ name: 'c' }], serviceAccountName: 'sa' },
};

const service = (namespace: string, name: string, clusterIP: string): Service => ({
  metadata: { name, namespace },
  spec: {
    clusterIP,
    ports: [
      { name: 'web-ui', port: 80 },
      { port: 53, protocol: 'UDP' },
    ],
  },
});

const sources: EnvSources = {
  pod,
  podIps: ['10.1.0.2', 'fd00::2'],
  hostIps: ['192.168.0.1'],
  nodeName: 'n1',
  allocatable: new Map([
    ['cpu', 2000],
    ['memory', 8 * 1024 ** 3],
  ]),
  configMap: async (name) =>
    name === 'cm' ? { metadata: { name }, data: { k: 'v', 'not.an-identifier': 'x' } } : undefined,
  secret: async (name) =>
    name === 's'
      ? { metadata: { name }, data: { pw: Buffer.from('geheim').toString('base64') } }
      : undefined,
  services: [
    service('default', 'kubernetes', '10.96.0.1'),
    service('ns', 'my-db', '10.96.0.7'),
    service('ns', 'headless', 'None'),
    service('other', 'hidden', '10.96.0.9'),
  ],
};

const env = async (container: Partial<Container>, of: Partial<EnvSources> = {}) =>
  Object.fromEntries(
    (await envVars({ name: 'c', ...container }, { ...sources, ...of })).map((e) => [
      e.key,
      e.value,
    ]),
  );

test('$(NAME) is expanded, $$ escapes, unknown names stay', () => {
  const value = (name: string) => ({ A: 'a', B: '$(A)' })[name];
  assert.equal(expand('$(A)-$(B)-$$(A)-$(C)-$A-$()-$', value), 'a-$(A)-$(A)-$(C)-$A-$()-$');
});

test('values from everywhere, later ones win', async () => {
  const got = await env({
    envFrom: [
      { configMapRef: { name: 'cm' }, prefix: 'P_' },
      { secretRef: { name: 'none', optional: true } },
    ],
    env: [
      { name: 'P_k', value: 'over' },
      { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'URL', value: 'http://$(IP):$(MY_DB_SERVICE_PORT)/$(LATER)' },
      { name: 'LATER', value: 'x' },
      { name: 'PW', valueFrom: { secretKeyRef: { name: 's', key: 'pw' } } },
      { name: 'LABELS', valueFrom: { fieldRef: { fieldPath: 'metadata.labels' } } },
      { name: 'A', valueFrom: { fieldRef: { fieldPath: "metadata.labels['a']" } } },
      { name: 'NONE', valueFrom: { configMapKeyRef: { name: 'cm', key: 'no', optional: true } } },
      { name: 'IPS', valueFrom: { fieldRef: { fieldPath: 'status.podIPs' } } },
    ],
  });
  assert.equal(got['P_k'], 'over');
  assert.equal(got['P_not.an-identifier'], 'x');
  assert.equal(got['URL'], 'http://10.1.0.2:80/$(LATER)');
  assert.equal(got['PW'], 'geheim');
  assert.equal(got['LABELS'], 'a="1"\nb="two \\"2\\""');
  assert.equal(got['A'], '1');
  assert.equal('NONE' in got, false);
  assert.equal(got['IPS'], '10.1.0.2,fd00::2');
});

test('resources in units of the divisor, limits default to the node', async () => {
  const ref = (resource: string, divisor?: string) => ({
    valueFrom: { resourceFieldRef: { resource, ...(divisor ? { divisor } : {}) } },
  });
  const got = await env({
    resources: { limits: { memory: '64Mi' }, requests: { cpu: '250m' } },
    env: [
      { name: 'CPU', ...ref('requests.cpu') },
      { name: 'CPU_M', ...ref('requests.cpu', '1m') },
      { name: 'CPU_LIMIT', ...ref('limits.cpu') },
      { name: 'MEM', ...ref('limits.memory', '1Mi') },
      { name: 'MEM_REQ', ...ref('requests.memory') },
    ],
  });
  assert.deepEqual(
    ['CPU', 'CPU_M', 'CPU_LIMIT', 'MEM', 'MEM_REQ'].map((k) => got[k]),
    ['1', '250', '2', '64', '67108864'],
  );
});

test('services are told as variables; only the API server without links', async () => {
  const got = await env({});
  assert.equal(got['MY_DB_SERVICE_HOST'], '10.96.0.7');
  assert.equal(got['MY_DB_SERVICE_PORT_WEB_UI'], '80');
  assert.equal(got['MY_DB_PORT'], 'tcp://10.96.0.7:80');
  assert.equal(got['MY_DB_PORT_53_UDP_PROTO'], 'udp');
  assert.equal(got['KUBERNETES_SERVICE_HOST'], '10.96.0.1');
  assert.ok(!Object.keys(got).some((k) => k.startsWith('HIDDEN') || k.startsWith('HEADLESS')));
  const unlinked = { ...pod, spec: { ...pod.spec, enableServiceLinks: false } };
  const few = await env({}, { pod: unlinked });
  assert.ok(Object.keys(few).every((k) => k.startsWith('KUBERNETES_')));
});

test('what is missing and not optional is named', async () => {
  const fails = (container: Partial<Container>, text: string) =>
    assert.rejects(env(container), (e) => e instanceof ConfigError && e.message === text);
  await fails({ envFrom: [{ configMapRef: { name: 'x' } }] }, 'configmap "x" not found');
  await fails({ envFrom: [{ secretRef: { name: 'x' } }] }, 'secret "x" not found');
  const key = { name: 'A', valueFrom: { configMapKeyRef: { name: 'cm', key: 'zz' } } };
  await fails({ env: [key] }, "couldn't find key zz in ConfigMap ns/cm");
});
