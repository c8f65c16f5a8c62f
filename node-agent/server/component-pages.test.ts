import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Component, flagzPage, statuszPage } from '#node-agent/server/component-pages.ts';

const component: Component = {
  name: 'agent',
  version: 'v1.36.2+x',
  startedAtMs: 0,
  flags: { port: '10250', address: '' },
  paths: ['/healthz', '/metrics'],
};
const typed = (as: string, version = 'v1beta1'): string =>
  `application/json;v=${version};g=config.k8s.io;as=${as}`;

test('people read how long it runs, and with which flags', () => {
  const status = statuszPage(component, '*/*', 3_723_999);
  assert.equal(status.contentType, 'text/plain; charset=utf-8');
  assert.match(status.body, /^\nagent statusz\nWarning: /);
  assert.match(status.body, /\nUp: 1 hr 02 min 03 sec\n/);
  assert.match(status.body, /\nBinary version: 1\.36\.2\+x\nEmulation version: 1\.36\nPaths: /);
  assert.match(flagzPage(component, 'text/plain').body, /\naddress: \nport: 10250\n$/);
});

test('programs ask for the object, and get no other', () => {
  const status = statuszPage(component, `${typed('Statusz', 'v1')}, ${typed('Statusz')}`, 9_999);
  assert.equal(status.contentType, 'application/json;g=config.k8s.io;v=v1beta1;as=Statusz');
  assert.deepEqual(JSON.parse(status.body), {
    kind: 'Statusz',
    apiVersion: 'config.k8s.io/v1beta1',
    metadata: { name: 'agent' },
    startTime: '1970-01-01T00:00:00Z',
    uptimeSeconds: 9,
    goVersion: '',
    binaryVersion: '1.36.2+x',
    emulationVersion: '1.36',
    paths: ['/healthz', '/metrics'],
  });
  const flags = JSON.parse(flagzPage(component, typed('Flagz')).body) as { flags: object };
  assert.deepEqual(flags.flags, { address: '', port: '10250' });
  for (const accept of ['application/json', typed('Statusz'), 'text/html'])
    assert.equal(flagzPage(component, accept).status, 406, accept);
});
