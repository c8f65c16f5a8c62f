import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomInt, seededRandom } from '#base/random.ts';
import type { Endpoint, EndpointSlice, Node, Pod, Service } from '#api/types.ts';
import type { Action } from '#client/actions.ts';
import { planEndpoints } from '#controllers/endpoints-controller.ts';
import { planEndpointSlices } from '#controllers/endpointslice-controller.ts';

type PodOptions = {
  ready?: boolean;
  going?: boolean;
  phase?: string;
  node?: string;
  ports?: { name: string; containerPort: number }[];
};

function pod(index: number, options: PodOptions = {}): Pod {
  const { ready = true, going = false, phase = 'Running', node = 'n1', ports } = options;
  const ip = `10.0.${Math.floor(index / 250)}.${(index % 250) + 1}`;
  const conditions = [{ type: 'Ready', status: ready ? 'True' : 'False' }];
  return {
    metadata: {
      name: `p${index}`,
      namespace: 'd',
      uid: `u${index}`,
      labels: { app: 'web' },
      ...(going ? { deletionTimestamp: '2026-01-01T00:00:00Z' } : {}),
    },
    spec: { nodeName: node, containers: [{ name: 'c', ...(ports ? { ports } : {}) }] },
    status: { phase, podIP: ip, podIPs: [{ ip }], conditions },
  };
}

function service(spec: Partial<NonNullable<Service['spec']>> = {}): Service {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'd', uid: 'svc', labels: { tier: 'front' } },
    spec: {
      clusterIP: '10.96.0.9',
      selector: { app: 'web' },
      ports: [{ port: 80, targetPort: 8080, protocol: 'TCP' }],
      ...spec,
    },
  };
}

const zone: Node = { metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'z1' } } };
const nodeOf = (name: string): Node | undefined => (name === 'n1' ? zone : undefined);

/** Does slice actions as the server would. */
function apply(slices: readonly EndpointSlice[], actions: readonly Action[]): EndpointSlice[] {
  let result = [...slices];
  for (const action of actions) {
    if (action.type === 'create') {
      const object = structuredClone(action.object) as EndpointSlice;
      const serial = Math.max(0, ...result.map((slice) => Number(slice.metadata.uid))) + 1;
      object.metadata.uid = String(serial);
      object.metadata.name = `web-${serial}`;
      result.push(object);
    } else if (action.type === 'update') {
      const object = structuredClone(action.object) as EndpointSlice;
      result = result.map((one) => (one.metadata.uid === object.metadata.uid ? object : one));
    } else if (action.type === 'delete') {
      result = result.filter((one) => one.metadata.uid !== action.uid);
    }
  }
  return result;
}

const held = (slice: EndpointSlice | undefined): Endpoint[] => slice?.endpoints ?? [];

const plan = (svc: Service, pods: Pod[], slices: EndpointSlice[] = []): readonly Action[] =>
  planEndpointSlices({ service: svc, pods, slices, nodeOf }).actions;

test('conditions tell ready, serving and terminating apart', () => {
  const pods = [
    pod(1),
    pod(2, { ready: false }),
    pod(3, { going: true }),
    pod(4, { phase: 'Failed' }),
  ];
  const [slice] = apply([], plan(service(), pods));
  assert.deepEqual(
    held(slice).map((e) => [e.conditions?.ready, e.conditions?.serving, e.conditions?.terminating]),
    [
      [true, true, false],
      [false, false, false],
      [false, true, true],
    ],
  );
  const [first] = held(slice);
  assert.equal(first?.nodeName, 'n1');
  assert.equal(first?.zone, 'z1');
  assert.deepEqual(first?.targetRef, { kind: 'Pod', namespace: 'd', name: 'p1', uid: 'u1' });
  assert.deepEqual(slice?.ports, [{ name: '', port: 8080, protocol: 'TCP' }]);
  assert.equal(slice?.metadata.labels?.['kubernetes.io/service-name'], 'web');
  assert.equal(slice?.metadata.labels?.tier, 'front');
});

test('hints keep traffic near when the Service asks for it, of ready endpoints', () => {
  const forZones = [{ name: 'z1' }];
  const hintsFor = (trafficDistribution: string | undefined, slices: EndpointSlice[] = []) => {
    const wish = trafficDistribution ? { trafficDistribution } : {};
    const pods = [pod(1), pod(2, { ready: false }), pod(3, { node: 'n2' })];
    const { actions } = planEndpointSlices({ service: service(wish), pods, slices, nodeOf });
    const after = apply(slices, actions);
    const endpoints = after.flatMap((slice) => slice.endpoints ?? []);
    return { after, hints: endpoints.map(({ hints }) => hints) };
  };
  assert.deepEqual(hintsFor('PreferSameZone').hints, [{ forZones }, undefined, undefined]);
  assert.deepEqual(hintsFor('PreferClose').hints, [{ forZones }, undefined, undefined]);
  const forNodes = (name: string) => [{ name }];
  const near = hintsFor('PreferSameNode');
  const wanted = [{ forNodes: forNodes('n1'), forZones }, undefined, { forNodes: forNodes('n2') }];
  assert.deepEqual(near.hints, wanted);
  assert.deepEqual(
    hintsFor(undefined, near.after).hints,
    [undefined, undefined, undefined],
    'and go with the wish',
  );
});

test('publishNotReadyAddresses makes every address ready', () => {
  const svc = service({ publishNotReadyAddresses: true, clusterIP: 'None' });
  const [slice] = apply([], plan(svc, [pod(1, { ready: false }), pod(2, { going: true })]));
  assert.deepEqual(
    held(slice).map((e) => e.conditions?.ready),
    [true, true],
  );
  assert.equal(slice?.metadata.labels?.['service.kubernetes.io/headless'], '');
});

test('named target ports split pods by the number they use', () => {
  const named = service({
    ports: [{ name: 'http', port: 80, targetPort: 'web', protocol: 'TCP' }],
  });
  const pods = [
    pod(1, { ports: [{ name: 'web', containerPort: 8080 }] }),
    pod(2, { ports: [{ name: 'web', containerPort: 9090 }] }),
  ];
  const slices = apply([], plan(named, pods));
  assert.deepEqual(
    slices.map((s) => s.ports?.[0]?.port),
    [8080, 9090],
  );
});

test('nothing to point at leaves one empty slice, and no further writes', () => {
  const slices = apply([], plan(service(), []));
  assert.equal(slices.length, 1);
  assert.deepEqual(slices[0]?.endpoints, []);
  assert.deepEqual(plan(service(), [], slices), []);
  const filled = apply(slices, plan(service(), [pod(1)], slices));
  assert.deepEqual(
    filled.map((s) => held(s).length),
    [1],
  );
  const emptied = apply(filled, plan(service(), [], filled));
  assert.deepEqual(
    emptied.map((s) => held(s).length),
    [0],
  );
});

test('one more endpoint touches one slice only', () => {
  const pods = Array.from({ length: 250 }, (_, i) => pod(i));
  const slices = apply([], plan(service(), pods));
  assert.deepEqual(
    slices.map((s) => held(s).length),
    [100, 100, 50],
  );
  const actions = plan(service(), [...pods, pod(250)], slices);
  assert.equal(actions.length, 1);
  assert.equal(actions[0]?.type, 'update');
});

test('random histories: slices hold exactly the pods, no slice too large, then rest', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = seededRandom(seed);
    let slices: EndpointSlice[] = [];
    let pods: Pod[] = [];
    for (let round = 0; round < 15; round++) {
      pods = pods.filter(() => random() < 0.8);
      const more = randomInt(random, 120);
      for (let i = 0; i < more; i++) {
        const port = random() < 0.5 ? 80 : 81;
        const index = round * 200 + i;
        pods.push(pod(index, { ports: [{ name: 'web', containerPort: port }] }));
      }
      const svc = service({ ports: [{ port: 80, targetPort: 'web', protocol: 'TCP' }] });
      slices = apply(slices, plan(svc, pods, slices));
      const uids = slices.flatMap((slice) => held(slice).map((e) => e.targetRef?.uid));
      assert.equal(uids.length, pods.length, `seed ${seed}`);
      assert.deepEqual(new Set(uids), new Set(pods.map((p) => p.metadata.uid)));
      assert.ok(slices.every((slice) => held(slice).length <= 100));
      assert.deepEqual(plan(svc, pods, slices), [], 'a second look finds nothing to do');
    }
  }
});

test('Endpoints: ready and not ready apart, terminating left out, stable', () => {
  const pods = [pod(2), pod(1), pod(3, { ready: false }), pod(4, { going: true })];
  const world = { service: service(), pods, endpoints: undefined };
  const [action] = planEndpoints(world).actions;
  assert.ok(action?.type === 'create');
  const endpoints = action.object as NonNullable<Parameters<typeof planEndpoints>[0]['endpoints']>;
  const [subset] = endpoints.subsets ?? [];
  assert.deepEqual(
    subset?.addresses?.map((a) => a.ip),
    ['10.0.0.2', '10.0.0.3'],
  );
  assert.deepEqual(
    subset?.notReadyAddresses?.map((a) => a.ip),
    ['10.0.0.4'],
  );
  assert.deepEqual(subset?.ports, [{ port: 8080, protocol: 'TCP' }]);
  assert.deepEqual(planEndpoints({ ...world, endpoints }).actions, []);
  const [removal] = planEndpoints({ service: undefined, pods: [], endpoints }).actions;
  assert.equal(removal?.type, 'delete');
});
