import assert from 'node:assert/strict';
import { test } from 'node:test';
import { manualClock } from '#base/clock.ts';
import { seededRandom } from '#base/random.ts';
import { suggestedFlowSchemas, suggestedPriorityLevels } from '#apiserver/bootstrap-flowcontrol.ts';
import { Fairness, type Ticket, TooManyRequests } from '#apiserver/fairness.ts';
import { dealHand } from '#apiserver/fairness-queues.ts';
import { readerDouble } from '#apiserver/reader-double.ts';
import { parseRequestInfo } from '#apiserver/request-info.ts';
import type { UserInfo } from '#apiserver/user.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '#api/types.ts';

const user = (name: string, ...groups: string[]): UserInfo => ({
  name,
  groups: [...groups, 'system:authenticated'],
});
const PODS = '/api/v1/namespaces/a/pods';

function setUp(
  options: {
    totalSeats?: number;
    schemas?: readonly FlowSchema[];
    levels?: readonly PriorityLevelConfiguration[];
  } = {},
) {
  const {
    totalSeats = 600,
    schemas = suggestedFlowSchemas,
    levels = suggestedPriorityLevels,
  } = options;
  const reader = readerDouble({
    'flowschemas.flowcontrol.apiserver.k8s.io': schemas,
    'prioritylevelconfigurations.flowcontrol.apiserver.k8s.io': levels,
  });
  const stop = new AbortController();
  const clock = manualClock();
  const fairness = new Fairness({
    reader,
    totalSeats,
    clock,
    nowMs: () => clock.now(),
    signal: stop.signal,
  });
  const enter = (who: UserInfo, url = PODS, method = 'GET', signal = stop.signal) =>
    fairness.enter(who, parseRequestInfo(method, url), { signal });
  return { fairness, enter, clock, stop };
}

const atOnce = (ticket: Ticket | Promise<Ticket> | null): Ticket => {
  assert.ok(ticket && !(ticket instanceof Promise), 'was not let in at once');
  return ticket;
};

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('requests find the schema that upstream finds for them', () => {
  const { enter } = setUp();
  const find = (who: UserInfo, url = PODS, method = 'GET') => {
    const { schema, level } = atOnce(enter(who, url, method));
    return `${schema.name} ${level.name}`;
  };
  const node = user('system:node:n1', 'system:nodes');
  const account = (ns: string) =>
    user(`system:serviceaccount:${ns}:x`, 'system:serviceaccounts', `system:serviceaccounts:${ns}`);
  assert.equal(find(user('root', 'system:masters')), 'exempt exempt');
  assert.equal(find(user('eve'), '/healthz'), 'probes exempt');
  assert.equal(find(user('eve'), '/healthz/ping'), 'probes exempt');
  assert.equal(find(user('eve'), '/healthzz'), 'global-default global-default');
  assert.equal(find(user('eve')), 'global-default global-default');
  assert.equal(find(node), 'system-nodes system');
  assert.equal(find(node, '/api/v1/nodes/n1/status', 'PATCH'), 'system-node-high node-high');
  const lease = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x';
  assert.equal(find(node, lease, 'PUT'), 'system-node-high node-high');
  const manager = user('system:kube-controller-manager');
  assert.equal(find(manager, lease, 'PUT'), 'system-leader-election leader-election');
  assert.equal(find(manager), 'kube-controller-manager workload-high');
  assert.equal(find(account('kube-system')), 'kube-system-service-accounts workload-high');
  assert.equal(find(account('shop')), 'service-accounts workload-low');
  assert.equal(find({ name: 'nobody', groups: [] }), 'catch-all catch-all');
});

test('streams and proxies are not limited', () => {
  const { enter } = setUp({ totalSeats: 1 });
  for (const part of ['exec', 'attach', 'log', 'portforward', 'proxy']) {
    assert.equal(enter(user('eve'), `${PODS}/p/${part}`), null);
  }
});

test('seats are divided by shares', () => {
  const { fairness } = setUp();
  const seats = Object.fromEntries([...fairness.levels].map((one) => [one.name, one.nominal]));
  assert.deepEqual(seats, {
    system: 74,
    'node-high': 98,
    'leader-election': 25,
    'workload-high': 98,
    'workload-low': 245,
    'global-default': 49,
    exempt: 0,
    'catch-all': 13,
  });
});

/** One level of a few seats that lends nothing, with one flow per user. */
const narrow = (seats: number, limit = 4): PriorityLevelConfiguration[] => [
  {
    metadata: { name: 'narrow' },
    spec: {
      type: 'Limited',
      limited: {
        nominalConcurrencyShares: seats,
        lendablePercent: 0,
        limitResponse: {
          type: 'Queue',
          queuing: { queues: 64, handSize: 4, queueLengthLimit: limit },
        },
      },
    },
  },
];
const allToNarrow: FlowSchema[] = [
  {
    metadata: { name: 'all' },
    spec: {
      matchingPrecedence: 50,
      priorityLevelConfiguration: { name: 'narrow' },
      distinguisherMethod: { type: 'ByUser' },
      rules: [
        {
          subjects: [{ kind: 'Group', group: { name: 'system:authenticated' } }],
          resourceRules: [{ verbs: ['*'], apiGroups: ['*'], resources: ['*'], namespaces: ['*'] }],
        },
      ],
    },
  },
];

test('a flood fills its own queues; the next one of somebody else goes first', async () => {
  // 5 of the 10 shares are the catch-all level's.
  const { fairness, enter } = setUp({ totalSeats: 10, levels: narrow(5), schemas: allToNarrow });
  const running: Ticket[] = [];
  for (let i = 0; i < 5; i++) running.push(atOnce(enter(user('flood'))));
  const order: string[] = [];
  const refused: unknown[] = [];
  const queue = (name: string): void => {
    const ticket = enter(user(name));
    assert.ok(ticket instanceof Promise);
    ticket.then(
      (one) => {
        order.push(name);
        running.push(one);
      },
      (error: unknown) => refused.push(error),
    );
  };
  for (let i = 0; i < 20; i++) queue('flood');
  for (let i = 0; i < 2; i++) queue('alice');
  queue('bob');
  await turn();
  assert.equal(refused.length, 4, 'hand of 4 queues of 4: the rest is refused');
  assert.ok(refused.every((error) => error instanceof TooManyRequests));
  assert.equal(order.length, 0);
  while (running.length > 0) {
    fairness.leave(running.shift() as Ticket);
    await turn();
    await turn();
  }
  assert.equal(order.length, 19);
  const last = Math.max(order.lastIndexOf('alice'), order.indexOf('bob'));
  assert.ok(last < 8, `others waited behind the flood: ${order.join(' ')}`);
});

test('who waits too long or goes away frees its place', async () => {
  const { fairness, enter, clock } = setUp({
    totalSeats: 2,
    levels: narrow(5),
    schemas: allToNarrow,
  });
  const first = atOnce(enter(user('a')));
  const gone = new AbortController();
  const left = enter(user('b'), PODS, 'GET', gone.signal);
  const late = enter(user('c'));
  const results = Promise.allSettled([left, late]);
  gone.abort();
  await clock.advance(20_000);
  assert.deepEqual(
    (await results).map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  fairness.leave(first);
  await turn();
  atOnce(enter(user('d')));
  const [narrowLevel] = fairness.levels;
  assert.deepEqual(
    [...(narrowLevel?.rejected ?? [])],
    [
      ['cancelled', 1],
      ['time-out', 1],
    ],
  );
});

test('idle seats are borrowed, and come back first to whom they belong', async () => {
  const { fairness, enter } = setUp();
  const eve = user('eve');
  const borrowed: Ticket[] = [];
  for (;;) {
    const ticket = enter(eve);
    if (ticket instanceof Promise) {
      ticket.catch(() => {});
      break;
    }
    borrowed.push(ticket as Ticket);
  }
  // Its own 49, and what the others lend: 24 of 74, 25 of 98, 49 of 98 and 221 of 245.
  assert.equal(borrowed.length, 49 + 24 + 25 + 49 + 221);
  const others = user('system:node:n1', 'system:nodes');
  for (let i = 0; i < 50; i++) atOnce(enter(others));
  const owner = enter(others);
  assert.ok(owner instanceof Promise, 'the lendable ones are lent');
  let mine = false;
  void owner.then(() => (mine = true));
  fairness.leave(borrowed.pop() as Ticket);
  await turn();
  await turn();
  assert.equal(mine, true);
});

test('a hand has different queues, the same for the same flow, spread over all', () => {
  const shape = { queues: 64, handSize: 6, lengthLimit: 50 };
  const random = seededRandom(7);
  const used = new Set<number>();
  const hands = new Set<string>();
  for (let i = 0; i < 500; i++) {
    const flow = `flow-${Math.floor(random() * 1e9)}`;
    const hand = dealHand(flow, shape);
    assert.equal(new Set(hand).size, 6);
    assert.ok(hand.every((card) => card >= 0 && card < 64));
    assert.deepEqual(dealHand(flow, shape), hand);
    for (const card of hand) used.add(card);
    hands.add(hand.join());
  }
  assert.equal(used.size, 64);
  assert.ok(hands.size > 495, 'two flows hardly ever share a whole hand');
});

test('without contention a request costs less than two microseconds', async () => {
  const { fairness } = setUp();
  const who = user('system:serviceaccount:shop:x', 'system:serviceaccounts');
  const info = parseRequestInfo('GET', PODS);
  const request = { signal: new AbortController().signal };
  const [turns, perTurn] = [1_000, 50];
  const run = async (): Promise<number> => {
    const start = process.cpuUsage();
    for (let i = 0; i < turns; i++) {
      for (let j = 0; j < perTurn; j++) {
        fairness.leave(fairness.enter(who, info, request) as Ticket);
      }
      await turn();
    }
    const used = process.cpuUsage(start);
    return (used.user + used.system) / (turns * perTurn);
  };
  await run();
  const best = Math.min(await run(), await run(), await run());
  assert.ok(best < 2, `${best.toFixed(3)} µs`);
});
