/**
 * Writing the rules of many Services to nftables: how long a full load and a single change take,
 * beside what the kernel's own tool needs to parse nothing. Needs root; works in a network
 * namespace of its own and leaves nothing behind.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { performance } from 'node:perf_hooks';
import type { EndpointSlice, Service } from '#api/types.ts';
import { printTable, quantile } from '#bench/machine.ts';
import { createNftWriter, runNft } from '#node-agent/network/nft-writer.ts';
import { serviceRules, type ServiceRulesCache } from '#node-agent/network/service-rules.ts';
import { type NodeFacts, tableSkeleton } from '#node-agent/network/service-table.ts';

const SERVICES = 1_000;
const ENDPOINTS = 3;
const ROUNDS = 15;

const node: NodeFacts = {
  nodeName: 'n1',
  zone: '',
  family: 'IPv4',
  clusterCidr: '10.244.0.0/16',
  podCidr: '10.244.0.0/24',
  serviceCidr: '10.96.0.0/16',
  bridge: 'gantry0',
};

function service(i: number): Service {
  const clusterIP = `10.96.${i >> 8}.${i & 255}`;
  const ports = [{ port: 80, protocol: 'TCP', nodePort: 30000 + i }];
  return { metadata: { name: `s${i}`, namespace: 'bench' }, spec: { clusterIP, ports } };
}

function slice(i: number, shift = 0): EndpointSlice {
  const labels = { 'kubernetes.io/service-name': `s${i}` };
  const endpoints = Array.from({ length: ENDPOINTS }, (_, k) => {
    const number = (i * ENDPOINTS + k + shift) % 60_000;
    return { addresses: [`10.244.${number >> 8}.${number & 255}`], nodeName: `n${k}` };
  });
  const ports = [{ name: '', port: 8080, protocol: 'TCP' }];
  return {
    metadata: { name: `s${i}-a`, namespace: 'bench', labels },
    addressType: 'IPv4',
    ports,
    endpoints,
  };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function main(): Promise<void> {
  if (process.geteuid?.() !== 0) {
    console.log('service-rules: skipped, network namespaces need root');
    return;
  }
  const namespace = `gbench${randomBytes(3).toString('hex')}`;
  execFileSync('ip', ['netns', 'add', namespace]);
  try {
    await measure(['nsenter', `--net=/run/netns/${namespace}`, 'nft']);
  } finally {
    execFileSync('ip', ['netns', 'delete', namespace]);
  }
}

async function measure(command: string[]): Promise<void> {
  const services = Array.from({ length: SERVICES }, (_, i) => service(i));
  const slices = services.map((_, i) => slice(i));
  const table = { family: 'ip', name: 'gantry-bench' } as const;
  const skeleton = tableSkeleton(node);
  const input = { node, services, slices, hostPorts: [] };

  const floor = await series(ROUNDS, () => runNft(command, 'list tables\n'));
  const computed = await series(ROUNDS, async () => serviceRules(input));
  const loads = await series(5, () =>
    createNftWriter({ table, skeleton, command }).apply(serviceRules(input)),
  );
  const writer = createNftWriter({ table, skeleton, command });
  const cache: ServiceRulesCache = new WeakMap();
  await writer.apply(serviceRules(input, cache));
  const changes = await series(ROUNDS, (round) => {
    slices[round] = slice(round, 1);
    return writer.apply(serviceRules({ ...input, slices: [...slices] }, cache));
  });
  const row = (name: string, values: number[]): string[] => [
    name,
    quantile(values, 0.5).toFixed(1),
    Math.max(...values).toFixed(1),
  ];
  printTable(
    `Service rules: ${SERVICES} Services with ${ENDPOINTS} endpoints each`,
    ['ms', 'median', 'worst'],
    [
      row('rules computed', computed),
      row('full load (goal 1000)', loads),
      row('one endpoint changed (goal 50)', changes),
      row('floor: nft lists an empty machine', floor),
    ],
  );
}

async function series(
  rounds: number,
  work: (round: number) => Promise<unknown>,
): Promise<number[]> {
  const values: number[] = [];
  for (let round = 0; round < rounds; round++) values.push(await timed(() => work(round)));
  return values;
}

await main();
