import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { type CniAttachment, cniAdd, cniDel, readCniNetwork } from './cni.ts';
import { capabilityArguments, guestNetwork } from './pod-network.ts';

const dir = mkdtempSync(join(tmpdir(), 'gantry-cni-'));
after(() => rmSync(dir, { recursive: true, force: true }));

/** A plugin that notes how it was called and answers with what `answer` says. */
function plugin(name: string, answer: string): void {
  const file = join(dir, name);
  writeFileSync(
    file,
    `#!/bin/sh\necho "${name} $CNI_COMMAND $CNI_IFNAME $CNI_CONTAINERID" >> ${dir}/calls\n` +
      `cat >> ${dir}/${name}.input; echo >> ${dir}/${name}.input\n${answer}\n`,
  );
  chmodSync(file, 0o755);
}

const attachment: CniAttachment = {
  containerId: 'c1',
  netns: '/run/netns/x',
  interfaceName: 'eth0',
  pod: { name: 'p', namespace: 'n', uid: 'u' },
  runtimeConfig: { portMappings: [{ hostPort: 80 }], bandwidth: undefined },
};

test('plugins run in order with the result before them, and back in reverse', async () => {
  const confDir = join(dir, 'conf');
  mkdirSync(confDir);
  assert.throws(() => readCniNetwork(confDir), /no CNI network configuration/);
  const plugins = [{ type: 'first' }, { type: 'second', capabilities: { portMappings: true } }];
  const conf = { name: 'net', cniVersion: '1.0.0', plugins };
  writeFileSync(join(confDir, '10-a.conflist'), JSON.stringify(conf));
  plugin('first', `echo '{"ips":[{"address":"10.0.0.2/24"}]}'`);
  plugin('second', `echo '{"ips":[{"address":"10.0.0.2/24"}],"dns":{}}'`);
  const network = readCniNetwork(confDir);
  const result = await cniAdd(network, attachment, dir);
  assert.deepEqual(result.ips, [{ address: '10.0.0.2/24' }]);
  const second = JSON.parse(readFileSync(join(dir, 'second.input'), 'utf8')) as object;
  assert.deepEqual(second, {
    type: 'second',
    name: 'net',
    cniVersion: '1.0.0',
    runtimeConfig: { portMappings: [{ hostPort: 80 }] },
    prevResult: { ips: [{ address: '10.0.0.2/24' }] },
  });
  await cniDel(network, attachment, { binDir: dir, result });
  assert.deepEqual(readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n'), [
    'first ADD eth0 c1',
    'second ADD eth0 c1',
    'second DEL eth0 c1',
    'first DEL eth0 c1',
  ]);
});

test('what a plugin complains of is told; one that is not there, too', async () => {
  plugin('broken', `echo '{"code":7,"msg":"no addresses","details":"range is full"}'; exit 1`);
  const network = (type: string) => ({ name: 'n', cniVersion: '1.0.0', plugins: [{ type }] });
  await assert.rejects(
    cniAdd(network('broken'), attachment, dir),
    /broken ADD: no addresses: range is full/,
  );
  await assert.rejects(
    cniAdd(network('absent'), attachment, dir),
    /cannot run the CNI plugin absent/,
  );
  await assert.rejects(cniAdd(network('../x'), attachment, dir), /no name of a plugin/);
});

test('the answer in the words of the guest', () => {
  const config = { hostname: 'p', linux: { sysctls: { a: '1' } } } as never;
  const network = {
    ips: [
      { address: '10.1.0.5/24', gateway: '10.1.0.1' },
      { address: 'fd00::5/64', gateway: 'fd00::1' },
    ],
    routes: [{ dst: '0.0.0.0/0' }, { dst: '::/0' }, { dst: '10.9.0.0/16', gw: '10.1.0.7' }],
  };
  const guest = guestNetwork({ config, network }, { address: '02:00:00:00:00:01', mtu: 1400 });
  assert.deepEqual(guest.routes, [
    { destination: '0.0.0.0/0', gateway: '10.1.0.1' },
    { destination: '::/0', gateway: 'fd00::1' },
    { destination: '10.9.0.0/16', gateway: '10.1.0.7' },
  ]);
  assert.deepEqual([guest.mac, guest.mtu, guest.addresses.length], ['02:00:00:00:00:01', 1400, 2]);
  assert.throws(
    () => guestNetwork({ config, network: {} }, undefined),
    /no interface with an address/,
  );
});

test('host ports are arguments only where there are some', () => {
  const ports = (hostPort: number) =>
    capabilityArguments({
      portMappings: [{ protocol: 'TCP', containerPort: 80, hostPort, hostIp: '' }],
    } as never);
  assert.deepEqual(ports(0), {});
  assert.deepEqual(ports(8080), {
    portMappings: [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
  });
});
