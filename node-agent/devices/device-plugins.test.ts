import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import * as grpc from '@grpc/grpc-js';
import { silentLog } from '#base/log.ts';
import { until } from '#base/testing.ts';
import type { Container, Pod } from '#api/types.ts';
import { serviceDefinition } from '#proto/load.ts';
import { assignDevices } from '#node-agent/devices/device-pool.ts';
import { DevicePlugins } from '#node-agent/devices/device-plugins.ts';
import { grpcCalls, grpcClient } from '#node-agent/grpc-calls.ts';

const RESOURCE = 'example.com/disk';
const FILE = 'device-plugin.proto';
const dir = mkdtempSync('/tmp/gantry-devices-');
const stops: (() => void)[] = [];
after(() => {
  for (const stop of stops) stop();
  rmSync(dir, { recursive: true, force: true });
});

const asks = (name: string, count: number): Container => ({
  name,
  resources: { limits: { [RESOURCE]: String(count) } },
});
const podOf = (uid: string, containers: Container[], initContainers: Container[] = []): Pod => ({
  metadata: { name: uid, uid, namespace: 'default' },
  spec: { containers, initContainers },
});

test('devices go to one container each; those of init containers are passed on', () => {
  const offered = new Map([[RESOURCE, new Map(['a', 'b', 'c'].map((id) => [id, id !== 'c']))]]);
  const pod = podOf('u', [asks('one', 1), asks('two', 1)], [asks('init', 2)]);
  const found = assignDevices(pod, offered, []);
  assert.ok(Array.isArray(found));
  assert.deepEqual(
    found.map(({ container, ids }) => [container, ...ids]),
    [
      ['init', 'a', 'b'],
      ['one', 'a'],
      ['two', 'b'],
    ],
  );
  const short = assignDevices(podOf('v', [asks('one', 1)]), offered, found);
  assert.deepEqual(short, { resource: RESOURCE, requested: 1, available: 0 });
  assert.deepEqual(assignDevices(podOf('w', [{ name: 'c' }]), offered, found), []);
});

/** A plugin of two devices; `tell` says which are healthy. */
async function startPlugin(endpoint: string) {
  const server = new grpc.Server();
  let stream: grpc.ServerWritableStream<object, object> | undefined;
  const tell = (health: Record<string, string>): void => {
    const devices = Object.entries(health).map(([id, word]) => ({ id, health: word }));
    stream?.write({ devices });
  };
  server.addService(serviceDefinition(FILE, 'v1beta1.DevicePlugin'), {
    GetDevicePluginOptions: (_: unknown, done: grpc.sendUnaryData<object>) => done(null, {}),
    ListAndWatch: (call: grpc.ServerWritableStream<object, object>) => {
      stream = call;
      tell({ d0: 'Healthy', d1: 'Healthy' });
    },
    Allocate: (
      call: grpc.ServerUnaryCall<{ containerRequests: { devicesIds: string[] }[] }, object>,
      done: grpc.sendUnaryData<object>,
    ) =>
      done(null, {
        containerResponses: call.request.containerRequests.map(({ devicesIds }) => ({
          envs: { DISKS: devicesIds.join(',') },
          mounts: [{ containerPath: '/lib/x', hostPath: '/usr/lib/x', readOnly: true }],
          devices: devicesIds.map((id) => ({
            containerPath: `/dev/${id}`,
            hostPath: `/dev/host-${id}`,
            permissions: 'rw',
          })),
          annotations: { 'example.com/given': 'yes' },
        })),
      }),
    PreStartContainer: (_: unknown, done: grpc.sendUnaryData<object>) => done(null, {}),
  });
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(
      `unix://${join(dir, endpoint)}`,
      grpc.ServerCredentials.createInsecure(),
      (error) => (error ? reject(error) : resolve()),
    ),
  );
  return { tell, stop: () => server.forceShutdown() };
}

test('a plugin registers, its devices count, are given, held over a restart, and freed', async () => {
  const stop = new AbortController();
  const serve = (signal: AbortSignal) => {
    const plugins = new DevicePlugins({ dir, log: silentLog, onChange: () => undefined });
    return { plugins, done: plugins.serve(signal) };
  };
  const { plugins, done } = serve(stop.signal);
  stops.push(() => stop.abort());
  await until('the agent listens', () => existsSync(join(dir, 'kubelet.sock')));
  const plugin = await startPlugin('disk.sock');
  stops.push(plugin.stop);
  const client = grpcClient(join(dir, 'kubelet.sock'));
  stops.push(() => client.close());
  const register = (version: string, resourceName: string) =>
    grpcCalls(client, FILE, 'v1beta1.Registration')(
      'Register',
      { version, endpoint: 'disk.sock', resourceName },
      { deadlineMs: 5_000 },
    );
  await assert.rejects(register('v1alpha', RESOURCE), /only v1beta1/);
  await assert.rejects(register('v1beta1', 'cpu'), /no extended resource/);
  await register('v1beta1', RESOURCE);
  await until('two are counted', () => plugins.amounts().capacity[RESOURCE] === '2');

  const pod = podOf('u1', [asks('main', 2)]);
  assert.equal(plugins.reserve(pod), undefined);
  assert.match(
    plugins.reserve(podOf('u2', [asks('main', 1)]))?.message ?? '',
    /unavailable for example.com\/disk. Requested: 1, Available: 0/,
  );
  const given = await plugins.allocate(pod, asks('main', 2));
  assert.deepEqual(given.envs, [{ key: 'DISKS', value: 'd0,d1' }]);
  assert.equal(given.devices[1]?.hostPath, '/dev/host-d1');
  assert.deepEqual(given.mounts, [
    { containerPath: '/lib/x', hostPath: '/usr/lib/x', readonly: true },
  ]);
  assert.deepEqual(given.annotations, { 'example.com/given': 'yes' });

  plugin.tell({ d0: 'Healthy', d1: 'Unhealthy' });
  await until('one is sick', () => plugins.amounts().allocatable[RESOURCE] === '1');
  assert.equal(plugins.amounts().capacity[RESOURCE], '2');
  // The next agent still knows who holds what.
  const next = new DevicePlugins({ dir, log: silentLog, onChange: () => undefined });
  await assert.rejects(next.allocate(pod, asks('main', 2)), /no device plugin offers/);
  plugins.forget('u1');
  assert.equal(plugins.reserve(podOf('u2', [asks('main', 1)])), undefined);
  plugin.stop();
  await until('the plugin has left', () => plugins.amounts().allocatable[RESOURCE] === '0');
  stop.abort();
  await done;
  assert.equal(existsSync(join(dir, 'kubelet.sock')), false);
});
