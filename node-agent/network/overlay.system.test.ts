import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { testbedMissing } from './netns-testbed.ts';
import { applyRoutes, type RoutesConfig } from './node-routes.ts';

const skip = testbedMissing();
const id = `gov${randomBytes(2).toString('hex')}`;
const spaces = ['a', 'router', 'b', 'c'].map((name) => `${id}-${name}`);

const sh = (script: string): string =>
  execFileSync('/bin/sh', ['-ec', script], { encoding: 'utf8', timeout: 10_000 });
const inside = (name: string, script: string): string =>
  sh(`nsenter --net=/run/netns/${id}-${name} /bin/sh -ec '${script}'`);

/** Node a and c are neighbours; between them and b is a router. */
const NODES = {
  a: { podCidr: '10.244.0.0/24', nodeIp: '192.0.2.10' },
  b: { podCidr: '10.244.1.0/24', nodeIp: '198.51.100.10' },
  c: { podCidr: '10.244.2.0/24', nodeIp: '192.0.2.11' },
};
type Name = keyof typeof NODES;

function config(name: Name): RoutesConfig {
  const { podCidr, nodeIp } = NODES[name];
  const podCidrs = [podCidr];
  const own = { podCidrs, nodeIp, clusterCidr: '10.244.0.0/16', mtu: 1500 };
  const prefix = ['nsenter', `--net=/run/netns/${id}-${name}`];
  return { name: 'gtest', own, prefix };
}

const wantedBy = (name: Name): Map<string, string> =>
  new Map(
    Object.entries(NODES)
      .filter(([other]) => other !== name)
      .map(([, { podCidr, nodeIp }]) => [podCidr, nodeIp]),
  );

before(() => {
  if (skip) return;
  for (const space of spaces) sh(`ip netns add ${space}; ip -n ${space} link set lo up`);
  inside(
    'router',
    'ip link add sw type bridge; ip addr add 192.0.2.1/24 dev sw; ip link set sw up',
  );
  for (const name of ['a', 'b', 'c'] as const) {
    const { nodeIp, podCidr } = NODES[name];
    sh(`ip -n ${id}-router link add to-${name} type veth peer name eth0 netns ${id}-${name}`);
    const gateway = nodeIp.replace(/\d+$/, '1');
    inside('router', `ip link set to-${name} up`);
    if (name === 'b') inside('router', `ip addr add ${gateway}/24 dev to-b`);
    else inside('router', `ip link set to-${name} master sw`);
    const pod = podCidr.replace('0/24', '2');
    inside(
      name,
      `ip addr add ${nodeIp}/24 dev eth0; ip link set eth0 up; ip route add default via ${gateway};` +
        // Stands for a pod: an address of the range that answers.
        `ip addr add ${pod}/32 dev lo; echo 1 > /proc/sys/net/ipv4/ip_forward`,
    );
  }
  inside('router', 'echo 1 > /proc/sys/net/ipv4/ip_forward');
});

after(() => {
  if (skip) return;
  for (const space of spaces) sh(`ip netns delete ${space}`);
});

const ping = (from: Name, to: Name, size = 56): boolean => {
  const pod = (name: Name): string => NODES[name].podCidr.replace('0/24', '2');
  const command = `busybox ping -c 1 -W 1 -s ${size} -I ${pod(from)} ${pod(to)} >/dev/null`;
  try {
    inside(from, command);
    return true;
  } catch {
    return false;
  }
};

test('pods of another segment are reached through the overlay, of a neighbour without', {
  skip,
}, async () => {
  for (const name of ['a', 'b', 'c'] as const)
    assert.equal(await applyRoutes(config(name), wantedBy(name)), 2);
  for (const [from, to] of [
    ['a', 'b'],
    ['b', 'a'],
    ['c', 'b'],
    ['a', 'c'],
  ] as const)
    assert.ok(ping(from, to), `${from} to ${to}`);
  assert.ok(ping('a', 'b', 4000), 'larger than a packet');
  assert.match(inside('a', 'ip route get 10.244.1.2'), /dev gtestx/);
  assert.match(inside('a', 'ip route get 10.244.2.2'), /via 192\.0\.2\.11 dev eth0/);
});

test('again is no change, and a node that goes is forgotten', { skip }, async () => {
  assert.equal(await applyRoutes(config('a'), wantedBy('a')), 0);
  const left = new Map([...wantedBy('a')].filter(([range]) => range !== NODES.b.podCidr));
  assert.equal(await applyRoutes(config('a'), left), 1);
  assert.ok(!ping('a', 'b'));
  assert.equal(await applyRoutes(config('a'), wantedBy('a')), 1);
  assert.ok(ping('a', 'b'));
});
