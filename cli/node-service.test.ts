import assert from 'node:assert/strict';
import { test } from 'node:test';
import { serviceName, serviceUnit } from '#cli/node-service.ts';

test('the unit of a joined node', () => {
  const unit = serviceUnit({
    nodeName: 'n1',
    command: ['/opt/my gantry/gantry', 'node-agent', '--label', 'a=b', 'x"$y%\\'],
    logFile: '/var/lib/gantry/log/node-n1.log',
  });
  const value = (key: string): string | undefined =>
    unit
      .split('\n')
      .find((line) => line.startsWith(`${key}=`))
      ?.slice(key.length + 1);
  assert.equal(
    value('ExecStart'),
    String.raw`"/opt/my gantry/gantry" node-agent --label a=b "x\"$$y%%\\"`,
  );
  assert.equal(value('Restart'), 'always');
  assert.equal(value('KillMode'), 'process', 'pods outlive the agent');
  assert.equal(value('StandardOutput'), 'append:/var/lib/gantry/log/node-n1.log');
  assert.equal(value('WantedBy'), 'multi-user.target');
});

test('each data directory has a unit of its own', () => {
  assert.equal(serviceName('/var/lib/gantry/'), 'gantry-node.service');
  assert.match(serviceName('/srv/other'), /^gantry-node-[0-9a-f]{8}\.service$/);
  assert.notEqual(serviceName('/srv/other'), serviceName('/srv/third'));
});
