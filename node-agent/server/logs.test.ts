import assert from 'node:assert/strict';
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { rotate, rotatedLogs } from '#node-agent/node/log-rotation.ts';
import { type LogOptions, readLog } from '#node-agent/server/logs.ts';
import { terminationMessage } from '#node-agent/containers/termination-message.ts';

const dir = mkdtempSync('/tmp/G-logs-');
after(() => rmSync(dir, { recursive: true, force: true }));
let serial = 0;
const file = (): string => join(dir, `${serial++}.log`);
const at = (second: number): string => `2026-01-01T00:00:0${second}.123456789Z`;

const LINES = [
  `${at(0)} stdout F one`,
  `${at(1)} stderr F two`,
  `${at(2)} stdout P thr`,
  `${at(3)} stdout F ee`,
  `${at(4)} stdout F `,
];
const path = file();
writeFileSync(path, `${LINES.join('\n')}\n`);

async function read(options: Partial<LogOptions> = {}): Promise<string> {
  let text = '';
  await readLog({
    path,
    options: { follow: false, timestamps: false, ...options },
    isRunning: () => false,
    signal: new AbortController().signal,
    write: async (chunk) => void (text += chunk.toString()),
  });
  return text;
}

test('text of lines, with parts joined', async () => {
  assert.equal(await read(), 'one\ntwo\nthree\n\n');
  assert.equal(await read({ timestamps: true, tailLines: 3 }), `${at(2)} three\n${at(4)} \n`);
});

test('tail, since, limit and stream', async () => {
  assert.equal(await read({ tailLines: 1 }), '\n');
  assert.equal(await read({ tailLines: 0 }), '');
  assert.equal(await read({ tailLines: 100 }), 'one\ntwo\nthree\n\n');
  assert.equal(await read({ sinceMs: Date.parse(at(1)) }), 'two\nthree\n\n');
  assert.equal(await read({ limitBytes: 5 }), 'one\nt');
  assert.equal(await read({ stream: 'Stderr' }), 'two\n');
});

test('lines written while the last ones are read are not among them', async () => {
  const busy = file();
  writeFileSync(busy, `${LINES[0]}\n${LINES[1]}\n`);
  let text = '';
  await readLog({
    path: busy,
    options: { follow: false, timestamps: false, tailLines: 1 },
    isRunning: () => true,
    signal: new AbortController().signal,
    write: async (chunk) => {
      text += chunk.toString();
      if (text.length < 100) appendFileSync(busy, `${at(5)} stdout F more\n`);
    },
  });
  assert.equal(text, 'two\n');
});

test('tail over more than one block', async () => {
  const long = file();
  const lines = Array.from({ length: 5000 }, (_, i) => `${at(1)} stdout F ${i} ${'x'.repeat(40)}`);
  writeFileSync(long, `${lines.join('\n')}\n`);
  let text = '';
  await readLog({
    path: long,
    options: { follow: false, timestamps: false, tailLines: 3000 },
    isRunning: () => false,
    signal: new AbortController().signal,
    write: async (chunk) => void (text += chunk.toString()),
  });
  const got = text.trimEnd().split('\n');
  assert.equal(got.length, 3000);
  assert.match(got[0] ?? '', /^2000 x/);
});

test('following goes on over a rotation and ends with the container', async () => {
  const followed = file();
  writeFileSync(followed, `${LINES[0]}\n`);
  let running = true;
  let text = '';
  let wake: () => void = () => {};
  const wrote = (wanted: string) =>
    new Promise<void>((resolve) => {
      const look = (): void => (text.includes(wanted) ? resolve() : undefined);
      wake = look;
      look();
    });
  const done = readLog({
    path: followed,
    options: { follow: true, timestamps: false },
    isRunning: () => running,
    signal: new AbortController().signal,
    write: async (chunk) => {
      text += chunk.toString();
      wake();
    },
  });
  await wrote('one\n');
  appendFileSync(followed, `${LINES[1]}\n`);
  await wrote('two\n');
  renameSync(followed, `${followed}.old`);
  writeFileSync(followed, `${at(5)} stdout F after\n`);
  await wrote('after\n');
  running = false;
  appendFileSync(followed, `${at(6)} stdout F last\n`);
  await done;
  assert.equal(text, 'one\ntwo\nafter\nlast\n');
});

test('rotation keeps five files and gives the name back when the runtime fails', async () => {
  const log = file();
  for (let i = 0; i < 7; i++) {
    writeFileSync(log, `${i}`);
    await rotate(log, async () => undefined, new Date(Date.UTC(2026, 0, 1, 0, 0, i)));
  }
  assert.equal((await rotatedLogs(log)).length, 4);
  writeFileSync(log, 'now');
  await assert.rejects(
    rotate(log, () => Promise.reject(new Error('no')), new Date(Date.UTC(2027, 0, 1))),
    /no/,
  );
  const name = log.split('/').at(-1) ?? '';
  assert.ok(readdirSync(dir).includes(name));
});

test('last words: the file, else after a failure the end of the log', () => {
  const said = file();
  const of = (policy: 'File' | 'FallbackToLogsOnError', exitCode: number) =>
    terminationMessage({ file: said, policy, exitCode, logPath: path });
  assert.equal(of('FallbackToLogsOnError', 1), 'one\ntwo\nthree\n\n');
  assert.equal(of('FallbackToLogsOnError', 0), '');
  assert.equal(of('File', 1), '');
  writeFileSync(said, 'x'.repeat(5000));
  assert.equal(of('FallbackToLogsOnError', 1).length, 4096);
});
