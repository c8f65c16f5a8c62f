import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';

const program = `
const { createLog } = await import(process.argv[1]);
const log = createLog({ component: 'agent' });
log.info('started', { pid: 7 });
log.debug('not asked for');
log.child('images').error('failed');
createLog({ level: 'error' }).warn('not asked for');
createLog({ level: 'debug' }).debug('asked for', {});
`;

test('a log line has time, level, component, message and fields, and levels are kept', () => {
  const args = ['--input-type=module', '-e', program, join(import.meta.dirname, 'log.ts')];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  const lines = stderr.trimEnd().split('\n');
  const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /;
  assert.ok(lines.every((line) => time.test(line)));
  assert.deepEqual(
    lines.map((line) => line.replace(time, '')),
    ['INFO agent started {"pid":7}', 'ERROR agent.images failed', 'DEBUG gantry asked for'],
  );
  assert.equal(stdout, '');
});
