import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { silentLog } from '#base/log.ts';
import type { EndpointSlice, Service } from '#api/types.ts';
import { createHealthServers, healthPorts } from './health-ports.ts';
import type { NodeFacts } from './service-table.ts';

const node: NodeFacts = {
  nodeName: 'n1',
  zone: '',
  family: 'IPv4',
  clusterCidr: '10.244.0.0/16',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  bridge: 'gantry0',
};

const service = (spec: Service['spec']): Service => ({
  metadata: { name: 's', namespace: 'ns' },
  spec: {
    type: 'LoadBalancer',
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: 31000,
    ...spec,
  },
});

const slice = (endpoints: NonNullable<EndpointSlice['endpoints']>): EndpointSlice => ({
  metadata: { name: 's-1', namespace: 'ns', labels: { 'kubernetes.io/service-name': 's' } },
  addressType: 'IPv4',
  ports: [],
  endpoints,
});

test('ready endpoints of this node count, each once', () => {
  const slices = [
    slice([
      { addresses: ['10.244.0.2'], nodeName: 'n1' },
      { addresses: ['10.244.0.3'], nodeName: 'n1', conditions: { ready: true } },
      { addresses: ['10.244.1.4'], nodeName: 'n2' },
    ]),
    slice([
      { addresses: ['10.244.0.2'], nodeName: 'n1' },
      {
        addresses: ['10.244.0.5'],
        nodeName: 'n1',
        conditions: { ready: false, serving: true, terminating: true },
      },
    ]),
  ];
  const health = healthPorts([service({})], slices, node);
  assert.deepEqual([...health], [[31000, { namespace: 'ns', name: 's', localEndpoints: 2 }]]);
  for (const spec of [{ externalTrafficPolicy: 'Cluster' }, { type: 'NodePort' }])
    assert.equal(healthPorts([service(spec)], slices, node).size, 0);
});

test('the port says so, follows changes, and goes', async () => {
  const probe = createServer().listen(0);
  await once(probe, 'listening');
  const { port } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');

  const servers = createHealthServers(silentLog);
  const health = { namespace: 'ns', name: 's', localEndpoints: 1 };
  const ask = async (): Promise<Response> => {
    const deadline = Date.now() + 2_000;
    for (;;) {
      try {
        return await fetch(`http://127.0.0.1:${port}/healthz`, {
          headers: { connection: 'close' },
        });
      } catch (error) {
        if (Date.now() > deadline) throw error;
      }
    }
  };
  servers.update(new Map([[port, health]]));
  const good = await ask();
  assert.deepEqual(
    [good.status, good.headers.get('x-load-balancing-endpoint-weight'), await good.json()],
    [
      200,
      '1',
      { service: { namespace: 'ns', name: 's' }, localEndpoints: 1, serviceProxyHealthy: true },
    ],
  );
  servers.update(new Map([[port, { ...health, localEndpoints: 0 }]]));
  const bad = await ask();
  assert.equal(bad.status, 503);
  await bad.text();
  servers.update(new Map());
  await assert.rejects(fetch(`http://127.0.0.1:${port}/`));
  servers.close();
});
