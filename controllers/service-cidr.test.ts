import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { IPAddress, ServiceCIDR } from '#api/types.ts';
import { ipAddresses, serviceCidrs } from '#client/resources.ts';
import { serviceCidrController } from '#controllers/service-cidr-controller.ts';
import { type Simulation, simulate } from '#controllers/simulation.ts';

const FINALIZER = 'networking.k8s.io/service-cidr-finalizer';
const range = (name: string, ...cidrs: string[]): ServiceCIDR => ({
  metadata: { name },
  spec: { cidrs },
});
const address = (name: string): IPAddress => ({
  metadata: { name },
  spec: { parentRef: { resource: 'services', namespace: 'd', name: 's' } },
});

function start(seed: number) {
  const sim = simulate({ seed, controllers: [serviceCidrController], runPods: false });
  const find = (name: string): ServiceCIDR | undefined =>
    sim.api.all(serviceCidrs).find(({ metadata }) => metadata.name === name);
  const isReady = (name: string): string | undefined =>
    find(name)?.status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  return { sim, find, isReady };
}

const remove = (sim: Simulation, name: string) => sim.api.delete(serviceCidrs, { name });

test('a range is protected and ready; it goes when no address needs it', async () => {
  const { sim, find, isReady } = start(1);
  await sim.api.create(serviceCidrs, range('more', '10.9.0.0/28', 'fd00::/120'));
  await sim.until(() => isReady('more') === 'True', 'ready');
  assert.deepEqual(find('more')?.metadata.finalizers, [FINALIZER]);
  for (const name of ['10.9.0.3', 'fd00::5']) await sim.api.create(ipAddresses, address(name));
  await remove(sim, 'more');
  await sim.until(() => isReady('more') === 'False', 'it says that it is needed');
  assert.equal(find('more')?.status?.conditions?.[0]?.reason, 'Terminating');
  await sim.api.delete(ipAddresses, { name: '10.9.0.3' });
  await sim.advance(30_000);
  assert.ok(find('more'), 'the other family is needed still');
  await sim.api.delete(ipAddresses, { name: 'fd00::5' });
  await sim.until(() => find('more') === undefined, 'gone');
  await sim.stop();
});

test('a range whose addresses are in another goes, but not before all servers know', async () => {
  const { sim, find, isReady } = start(2);
  await sim.api.create(serviceCidrs, range('small', '10.9.0.0/28'));
  await sim.api.create(serviceCidrs, range('large', '10.9.0.0/24'));
  await sim.api.create(ipAddresses, address('10.9.0.3'));
  await sim.until(() => isReady('small') === 'True' && isReady('large') === 'True', 'ready');
  await remove(sim, 'small');
  await sim.advance(8_000);
  assert.ok(find('small'), 'somebody may have taken an address of it just now');
  await sim.until(() => find('small') === undefined, 'gone', 10_000);
  await remove(sim, 'large');
  await sim.until(() => isReady('large') === 'False', 'the address has no other range');
  await sim.stop();
});
