import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { StatusError } from '#api/status.ts';
import type { Service, ServiceSpec } from '#api/types.ts';
import {
  createServiceAllocator,
  parseServiceRanges,
  type ServiceAllocator,
} from '#apiserver/resource/service-allocator.ts';
import { repairServiceRecords } from '#apiserver/resource/service-repair.ts';
import { createServiceRecords, type ServiceRecords } from '#apiserver/resource/service-records.ts';
import { openEmbeddedStore } from '#apiserver/store/embedded.ts';
import type { Store } from '#apiserver/store/store.ts';
import { type ManualClock, manualClock } from '#base/clock.ts';
import { silentLog } from '#base/log.ts';
import { seededRandom } from '#base/random.ts';

let directory: string;
let store: Store;
let clock: ManualClock;
let records: ServiceRecords;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'gantry-services-'));
  clock = manualClock(1_000_000);
  store = await openEmbeddedStore(directory, { clock, log: silentLog });
  records = recordsOf(store);
  stored = [];
});
afterEach(async () => {
  await store.close();
  rmSync(directory, { recursive: true });
});

/** As a server sees them whose cache knows nothing yet: the store alone decides. */
const recordsOf = (of: Store): ServiceRecords =>
  createServiceRecords({
    store: of,
    commit: (write) => of.commit(write),
    isKnown: () => false,
    clock,
  });

/** Services that are stored, as far as a test says so. */
let stored: Service[] = [];

const allocator = (addresses = '10.96.0.0/16', seed = 1): ServiceAllocator =>
  createServiceAllocator({
    ranges: parseServiceRanges(addresses),
    records,
    find: async (holder) => stored.find((each) => each.metadata.name === holder.name),
    random: seededRandom(seed),
  });

let services = 0;
function service(spec: Partial<ServiceSpec>, name = `s${++services}`): Service {
  return {
    metadata: { namespace: 'ns', name },
    spec: { type: 'ClusterIP', ...spec },
  } as Service;
}

const DRY = { dryRun: true };
const REAL = { dryRun: false };

/** Reserves and keeps; returns the service as it would be stored. */
async function create(from: ServiceAllocator, spec: Partial<ServiceSpec>): Promise<Service> {
  const created = service(spec);
  await (await from.reserve(created, null, REAL)).keep();
  return created;
}

async function change(
  from: ServiceAllocator,
  old: Service,
  spec: Partial<ServiceSpec>,
): Promise<Service> {
  const changed = structuredClone(old);
  Object.assign(changed.spec ?? {}, spec);
  await (await from.reserve(changed, old, REAL)).keep();
  return changed;
}

const held = async (): Promise<string[]> =>
  (await records.list()).map(({ type, name }) => `${type} ${name}`).sort();

async function refused(work: Promise<unknown>, path: string, message: string): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof StatusError);
    const [cause] = error.status.details?.causes ?? [];
    assert.deepEqual([cause?.field, cause?.message], [path, message]);
    return error.status.code === 422;
  });
}

describe('cluster IPs', () => {
  test('a service gets an address of the dynamic band and single-stack fields', async () => {
    const { spec } = await create(allocator(), {});
    assert.match(spec?.clusterIP ?? '', /^10\.96\.\d+\.\d+$/);
    assert.ok(!spec?.clusterIP?.startsWith('10.96.0.'));
    assert.deepEqual(
      [spec?.clusterIPs, spec?.ipFamilies, spec?.ipFamilyPolicy],
      [[spec?.clusterIP], ['IPv4'], 'SingleStack'],
    );
    assert.deepEqual(await held(), [`ip ${spec?.clusterIP}`]);
  });

  test('the record is an IPAddress as upstream has it', async () => {
    const ip = '10.96.0.20';
    const { metadata } = await create(allocator(), { clusterIP: ip, clusterIPs: [ip] });
    const { entry } = await store.get(`/registry/networking.k8s.io/ipaddresses/${ip}`);
    const object = JSON.parse(Buffer.from(entry?.value ?? []).toString());
    assert.deepEqual([object.apiVersion, object.kind], ['networking.k8s.io/v1', 'IPAddress']);
    assert.deepEqual(object.metadata.labels, {
      'ipaddress.kubernetes.io/ip-family': 'IPv4',
      'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io',
    });
    assert.deepEqual(object.spec, {
      parentRef: { group: '', resource: 'services', namespace: 'ns', name: metadata.name },
    });
  });

  test('an address is had once', async () => {
    const ip = { clusterIP: '10.96.0.10', clusterIPs: ['10.96.0.10'] };
    await create(allocator(), ip);
    await refused(
      create(allocator(), ip),
      'spec.clusterIPs',
      'Invalid value: ["10.96.0.10"]: failed to allocate IP 10.96.0.10: provided IP is already allocated',
    );
    assert.deepEqual(await held(), ['ip 10.96.0.10']);
  });

  for (const [ip, why] of [
    ['10.97.0.1', 'the provided network does not match the current range'],
    [
      '10.96.0.0',
      'the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/16',
    ],
  ] as const) {
    test(`${ip} is refused`, async () => {
      await refused(
        create(allocator(), { clusterIP: ip, clusterIPs: [ip] }),
        'spec.clusterIPs',
        `Invalid value: ["${ip}"]: failed to allocate IP ${ip}: ${why}`,
      );
    });
  }

  test('headless and ExternalName services need none', async () => {
    const { spec: headless } = await create(allocator(), {
      clusterIP: 'None',
      clusterIPs: ['None'],
      selector: { a: 'b' },
    });
    assert.deepEqual([headless?.clusterIPs, headless?.ipFamilies], [['None'], ['IPv4']]);
    const { spec: external } = await create(allocator(), { type: 'ExternalName' });
    assert.deepEqual([external?.clusterIP, external?.ipFamilyPolicy], [undefined, undefined]);
    assert.deepEqual(await held(), []);
  });

  test('headless without selector is dual-stack on any cluster', async () => {
    const { spec } = await create(allocator(), { clusterIP: 'None', clusterIPs: ['None'] });
    assert.deepEqual(
      [spec?.ipFamilyPolicy, spec?.ipFamilies],
      ['RequireDualStack', ['IPv4', 'IPv6']],
    );
  });

  test('a full range says so, and is whole again after a release', async () => {
    const small = allocator('10.0.0.0/29');
    const all = await Promise.all(Array.from({ length: 6 }, () => create(small, {})));
    assert.equal(new Set(all.map(({ spec }) => spec?.clusterIP)).size, 6);
    await assert.rejects(create(small, {}), /failed to allocate a serviceIP: range is full/);
    const [first] = all;
    assert.ok(first);
    await small.release(first);
    const again = await create(small, {});
    assert.equal(again.spec?.clusterIP, first.spec?.clusterIP);
  });

  test('many servers at once never give an address twice', async () => {
    const servers = Array.from({ length: 4 }, () => allocator('10.0.0.0/25', 7));
    const all = await Promise.all(
      Array.from({ length: 120 }, (_, n) => create(servers[n % 4] ?? allocator(), {})),
    );
    assert.equal(new Set(all.map(({ spec }) => spec?.clusterIP)).size, 120);
  });

  test('a dry run holds nothing and sees what is held', async () => {
    const dry = service({});
    await (await allocator().reserve(dry, null, DRY)).undo();
    assert.ok(dry.spec?.clusterIP);
    assert.deepEqual(await held(), []);
  });
});

describe('dual stack', () => {
  const BOTH = '10.96.0.0/16,fd00::/108';

  test('RequireDualStack needs two ranges', async () => {
    await refused(
      create(allocator(), { ipFamilyPolicy: 'RequireDualStack' }),
      'spec.ipFamilyPolicy',
      'Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services',
    );
    const { spec } = await create(allocator(BOTH), { ipFamilyPolicy: 'RequireDualStack' });
    assert.deepEqual(spec?.ipFamilies, ['IPv4', 'IPv6']);
    assert.deepEqual(await held(), spec?.clusterIPs?.map((ip) => `ip ${ip}`).sort());
  });

  test('PreferDualStack takes what there is', async () => {
    const one = await create(allocator(), { ipFamilyPolicy: 'PreferDualStack' });
    assert.deepEqual(one.spec?.ipFamilies, ['IPv4']);
    const two = await create(allocator(BOTH), { ipFamilyPolicy: 'PreferDualStack' });
    assert.deepEqual(two.spec?.ipFamilies, ['IPv4', 'IPv6']);
  });

  test('an address says its family', async () => {
    const { spec } = await create(allocator(BOTH), {
      clusterIP: 'fd00::5',
      clusterIPs: ['fd00::5'],
    });
    assert.deepEqual(spec?.ipFamilies, ['IPv6']);
    await refused(
      create(allocator(), { clusterIP: 'fd00::6', clusterIPs: ['fd00::6'] }),
      'spec.clusterIPs[0]',
      'Invalid value: ["fd00::6"]: IPv6 is not configured on this cluster',
    );
    await refused(
      create(allocator(), { ipFamilies: ['IPv6'] }),
      'spec.ipFamilies[0]',
      'Invalid value: "IPv6": not configured on this cluster',
    );
  });

  test('to two families and back', async () => {
    const from = allocator(BOTH);
    const one = await create(from, {});
    const two = await change(from, one, { ipFamilyPolicy: 'RequireDualStack' });
    assert.equal(two.spec?.clusterIPs?.[0], one.spec?.clusterIP);
    assert.equal((await held()).length, 2);
    const back = await change(from, two, { ipFamilyPolicy: 'SingleStack' });
    assert.deepEqual(back.spec?.clusterIPs, [one.spec?.clusterIP]);
    assert.deepEqual(await held(), [`ip ${one.spec?.clusterIP}`]);
  });

  test('leaving out the second address is no way to release it', async () => {
    const from = allocator(BOTH);
    const two = await create(from, { ipFamilyPolicy: 'RequireDualStack' });
    await refused(
      change(from, two, { clusterIPs: two.spec?.clusterIPs?.slice(0, 1) ?? [] }),
      'spec.ipFamilyPolicy',
      `Invalid value: "RequireDualStack": must be 'SingleStack' to release the secondary cluster IP`,
    );
  });
});

describe('node ports', () => {
  const port = (number: number, more: object = {}) => ({ port: number, protocol: 'TCP', ...more });
  const nodePorts = ({ spec }: Service) => spec?.ports?.map(({ nodePort }) => nodePort);

  test('NodePort services get one per port, of the dynamic band', async () => {
    const created = await create(allocator(), { type: 'NodePort', ports: [port(80), port(81)] });
    const [first = 0, second = 0] = nodePorts(created) ?? [];
    assert.ok(first >= 30_086 && first <= 32_767 && second >= 30_086 && first !== second);
    assert.equal((await held()).length, 3);
  });

  test('one port number under two protocols shares a node port', async () => {
    const created = await create(allocator(), {
      type: 'NodePort',
      ports: [port(53), port(53, { protocol: 'UDP', nodePort: 30_053 })],
    });
    assert.deepEqual(nodePorts(created), [30_053, 30_053]);
  });

  test('ports taken or out of range are refused, and nothing stays held', async () => {
    await create(allocator(), { type: 'NodePort', ports: [port(80, { nodePort: 30_063 })] });
    const before = await held();
    for (const [nodePort, why] of [
      [30_063, 'provided port is already allocated'],
      [80, 'provided port is not in the valid range. The range of valid ports is 30000-32767'],
      [70_000, 'provided port is not in the valid range. The range of valid ports is 30000-32767'],
    ] as const) {
      await refused(
        create(allocator(), { type: 'NodePort', ports: [port(79), port(80, { nodePort })] }),
        'spec.ports[1].nodePort',
        `Invalid value: ${nodePort}: ${why}`,
      );
    }
    await refused(
      create(allocator(), {
        type: 'NodePort',
        ports: [port(80, { nodePort: 30_064 }), port(81, { nodePort: 30_064 })],
      }),
      'spec.ports[1].nodePort',
      'Invalid value: 30064: provided port is already allocated',
    );
    assert.deepEqual(await held(), before);
  });

  test('a change keeps, adds and releases ports', async () => {
    const from = allocator();
    const old = await create(from, {
      type: 'NodePort',
      ports: [port(80, { nodePort: 30_001 }), port(81, { nodePort: 30_002 })],
    });
    const changed = await change(from, old, {
      ports: [port(80, { nodePort: 30_001 }), port(82, { nodePort: 30_003 })],
    });
    const ip = `ip ${changed.spec?.clusterIP}`;
    assert.deepEqual(await held(), [ip, 'port 30001', 'port 30003']);
    const plain = await change(from, changed, { type: 'ClusterIP', ports: [port(80)] });
    assert.deepEqual(await held(), [ip]);
    const external = structuredClone(plain);
    external.spec = { type: 'ExternalName', externalName: 'x' };
    await (await from.reserve(external, plain, REAL)).keep();
    assert.deepEqual(await held(), []);
  });

  test('a write that fails gives back the new and keeps the old', async () => {
    const from = allocator();
    const old = await create(from, { type: 'NodePort', ports: [port(80, { nodePort: 30_001 })] });
    const before = await held();
    const changed = structuredClone(old);
    changed.spec = { ...changed.spec, ports: [port(80, { nodePort: 30_009 })] };
    await (await from.reserve(changed, old, REAL)).undo();
    assert.deepEqual(await held(), before);
  });

  test('load balancers may do without; their health check has a port', async () => {
    const created = await create(allocator(), {
      type: 'LoadBalancer',
      allocateLoadBalancerNodePorts: false,
      externalTrafficPolicy: 'Local',
      ports: [port(80)],
    });
    assert.deepEqual(nodePorts(created), [undefined]);
    const { healthCheckNodePort } = created.spec ?? {};
    assert.ok(healthCheckNodePort);
    assert.ok((await held()).includes(`port ${healthCheckNodePort}`));
    await allocator().release(created);
    assert.deepEqual(await held(), []);
  });
});

describe('the same service twice', () => {
  const IP = '10.96.0.9';
  const wish = () => service({ clusterIP: IP, clusterIPs: [IP] }, 'twin');

  test('what a write that was cut off held is taken over', async () => {
    await allocator().reserve(wish(), null, REAL);
    await (await allocator().reserve(wish(), null, REAL)).keep();
    assert.deepEqual(await held(), [`ip ${IP}`]);
  });

  test('of two at once either may lose, the address stays held', async () => {
    for (const loser of [0, 1]) {
      const both = [
        await allocator().reserve(wish(), null, REAL),
        await allocator().reserve(wish(), null, REAL),
      ];
      stored = [wish()];
      await both[1 - loser]?.keep();
      await both[loser]?.undo();
      assert.deepEqual(await held(), [`ip ${IP}`]);
      await allocator().release(wish());
      stored = [];
    }
  });

  test('one that is stored keeps its address from a second one', async () => {
    await (await allocator().reserve(wish(), null, REAL)).keep();
    stored = [wish()];
    await refused(
      allocator().reserve(wish(), null, REAL),
      'spec.clusterIPs',
      `Invalid value: ["${IP}"]: failed to allocate IP ${IP}: provided IP is already allocated`,
    );
  });
});

describe('repair', () => {
  const repair = (stored: Service[]) =>
    repairServiceRecords({ records, services: async () => stored, clock, log: silentLog });

  test('what a crash left is freed, but not what may still be written', async () => {
    const kept = await create(allocator(), {});
    await create(allocator(), { type: 'NodePort', ports: [{ port: 80, protocol: 'TCP' }] });
    assert.equal((await repair([kept])).leaked.length, 0);
    await clock.advance(61_000);
    assert.equal((await repair([kept])).leaked.length, 2);
    assert.deepEqual(await held(), [`ip ${kept.spec?.clusterIP}`]);
    assert.equal((await repair([kept])).leaked.length, 0);
  });

  test('what a service uses without a record is recorded', async () => {
    const lost = service({
      type: 'NodePort',
      clusterIP: '10.96.3.3',
      clusterIPs: ['10.96.3.3'],
      ports: [{ port: 80, protocol: 'TCP', nodePort: 30_030 }],
    });
    assert.equal((await repair([lost])).missing.length, 2);
    assert.deepEqual(await held(), ['ip 10.96.3.3', 'port 30030']);
  });

  test('two services with one address are reported, not touched', async () => {
    const first = await create(allocator(), {});
    const second = service(structuredClone(first.spec ?? {}));
    assert.equal((await repair([first, second])).disputed.length, 1);
    assert.deepEqual(await held(), [`ip ${first.spec?.clusterIP}`]);
  });
});

for (const [addresses, ports] of [
  ['10.0.0.0/16,10.1.0.0/16', undefined],
  ['10.0.0.0/16', '32767-30000'],
  ['none', undefined],
] as const) {
  test(`ranges "${addresses}" "${ports}" are refused`, () => {
    assert.throws(() => parseServiceRanges(addresses, ports), RangeError);
  });
}
